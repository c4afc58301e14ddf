"""What may be told of SQLite's statements: no value, in whatever quotes it is."""

import pytest

from instrumented_wrapper.databases import sqlite


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("PRAGMA key = 'secret'", "PRAGMA key = ?"),
        ('PRAGMA main.key("secret")', "PRAGMA main.key(?)"),
        ("SELECT 1; PRAGMA key = secret; DELETE FROM t", "SELECT ?; PRAGMA key = ?; DELETE FROM t"),
        ("EXPLAIN QUERY PLAN PRAGMA hexkey = 1a2b", "EXPLAIN QUERY PLAN PRAGMA hexkey = ?"),
        ("PRAGMA foreign_keys", "PRAGMA foreign_keys"),
        # double quotes are a value's, too, where no column is called so
        ('SELECT * FROM t WHERE name = "secret"', "SELECT * FROM t WHERE name = ?"),
        ('INSERT INTO "t" VALUES ("secret", 1)', 'INSERT INTO "t" VALUES (?, ?)'),
        ("ATTACH 'a.db' AS a KEY \"secret\"", "ATTACH ? AS a KEY ?"),
        (
            'SELECT "t"."a" FROM "t" JOIN "u" WHERE "secret" = "t"."b"',
            'SELECT "t"."a" FROM "t" JOIN "u" WHERE ? = "t"."b"',
        ),
        ('SELECT 1 WHERE a IS DISTINCT FROM "secret"', "SELECT ? WHERE a IS DISTINCT FROM ?"),
        ('SELECT 1 WHERE a IS NOT DISTINCT FROM "secret"', "SELECT ? WHERE a IS NOT DISTINCT FROM ?"),
        ("PRAGMA key = secret!secret(secret) || secret; SELECT 1", "PRAGMA key = ?; SELECT ?"),
        ('VACUUM main INTO "secret"; SELECT a FROM "t"', 'VACUUM main INTO ?; SELECT a FROM "t"'),
        ("PRAGMA key(secret!)", "PRAGMA key(?)"),
        ("PRAGMA key =", "PRAGMA key ="),
        ("ATTACH secret || 'x' AS a KEY secret", "ATTACH ? AS a KEY ?"),
        ("ATTACH DATABASE CAST(secret AS text) AS [a]; SELECT 1", "ATTACH DATABASE ? AS [a]; SELECT ?"),
        ("ATTACH secret", "ATTACH ?"),
        ("ATTACH 'x' AS a || secret", "ATTACH ?"),
        ("ATTACH", "ATTACH"),
        ("SELECT `a`, [b] FROM t", "SELECT `a`, [b] FROM t"),  # these are names only
    ],
)
def test_no_value_is_told(text: str, shown: str) -> None:
    assert sqlite.words_of(text).text == shown


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("PRAGMA main.foreign_keys = 1", "PRAGMA main.foreign_keys"),
        ('INSERT INTO "t" VALUES (1)', 'INSERT "t"'),
        ("INSERT INTO `t` VALUES (1)", "INSERT `t`"),
        ("REPLACE INTO t VALUES (1)", "REPLACE t"),
        ('SELECT a FROM "t" JOIN "u"', 'SELECT "t" "u"'),
        ("ATTACH 'a.db' AS a", "ATTACH"),
        ("ATTACH secret AS a", "ATTACH"),
        ("EXPLAIN QUERY PLAN SELECT a FROM t", "EXPLAIN SELECT t"),
        ("INSERT OR REPLACE INTO t VALUES (1), (NULL), (b)", "INSERT t"),
        ("UPDATE OR IGNORE t SET a = 1", "UPDATE t"),
        ("SELECT a FROM t NOT INDEXED, u INDEXED BY i", "SELECT t u"),
        ("SELECT a FROM t WHERE b IS NOT DISTINCT FROM c", "SELECT t"),
        ("CREATE VIRTUAL TABLE t USING fts5(a)", "CREATE TABLE t"),
    ],
)
def test_summaries(text: str, summary: str) -> None:
    assert sqlite.words_of(text).summary == summary


@pytest.mark.parametrize(
    "text",
    ['SELECT "secret', "SELECT `secret", "SELECT [secret", "INSERT INTO t VALUES ('O'secret', 'x')"],
)
def test_text_whose_strings_are_not_certain_is_not_told(text: str) -> None:
    words = sqlite.words_of(text)
    assert words.text is None
    assert "secret" not in words.summary


@pytest.mark.parametrize(
    "text", ["SELECT 1", "PRAGMA foreign_keys", "SELECT 'PRAGMA x = 1'", "DETACH a", "BEGIN", "", ";;"]
)
def test_what_does_nothing_to_the_connection(text: str) -> None:
    assert sqlite.scan(text) is None


def test_a_dump_is_read_in_time_that_grows_with_it() -> None:
    text = (
        "PRAGMA foreign_keys=OFF;\n" + "INSERT INTO t VALUES (1, 'temporary; it''s');\n" * 100_000 + "ATTACH 'x' AS y"
    )
    effects = sqlite.scan(text)
    assert effects is not None
    assert ([step.name for step in effects.steps], effects.leaves) == (["foreign_keys"], ("attached databases",))
