"""What may be told of a statement: the conventions' own examples, PostgreSQL's statements, broken texts, no value."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from instrumented_wrapper.databases.postgresql import first_schema, scan
from instrumented_wrapper.databases.postgresql.summary import words_of
from instrumented_wrapper.databases.summary import LONGEST

# The text, its summary, and what is shown of it where that is not the text itself.
STATEMENTS = [
    # OpenTelemetry's examples
    ("SELECT * FROM wuser_table WHERE username = ?", "SELECT wuser_table", None),
    (
        "INSERT INTO shipping_details (id, address) SELECT id, address FROM orders WHERE id = ?",
        "INSERT shipping_details SELECT orders",
        None,
    ),
    ("SELECT * FROM songs, artists WHERE songs.a = artists.id", "SELECT songs artists", None),
    ("SELECT d FROM (SELECT * FROM orders o JOIN customers c ON o.c = c.c)", "SELECT SELECT orders customers", None),
    # queries
    ("select a from b", "select b", None),
    ("SELECT 1", "SELECT", "SELECT ?"),
    ('SELECT * FROM "song list" AS s, public.artists a, x', 'SELECT "song list" public.artists x', None),
    ("SELECT * FROM f(1, 2) AS g(a, b), h", "SELECT f h", "SELECT * FROM f(?, ?) AS g(a, b), h"),
    ("SELECT * FROM a LEFT JOIN LATERAL (SELECT 1 FROM x) y ON true, z", "SELECT a SELECT x z", "?"),
    ("SELECT * FROM (a JOIN b ON a.x = b.x) c", "SELECT a b", None),
    ("SELECT * FROM a JOIN b USING (id), c FOR UPDATE", "SELECT a b c", None),
    ("SELECT * FROM ONLY a WHERE id IN (SELECT id FROM b)", "SELECT a SELECT b", None),
    ("SELECT extract(year FROM t), a IS DISTINCT FROM b FROM c", "SELECT c", None),
    ("SELECT a FROM x UNION ALL SELECT b FROM y", "SELECT x SELECT y", None),
    ("(SELECT 1 FROM a) UNION (SELECT 2 FROM b)", "SELECT a SELECT b", "(SELECT ? FROM a) UNION (SELECT ? FROM b)"),
    ("WITH r AS (SELECT * FROM a) DELETE FROM b USING r", "SELECT a DELETE b r", None),
    ("VALUES (1), (2)", "VALUES", "VALUES (?), (?)"),
    ("TABLE a", "TABLE a", None),
    ("SELECT a.update, b.delete FROM a", "SELECT a", None),
    # changes
    ("INSERT INTO t VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET a = excluded.a", "INSERT t", "?"),
    ('INSERT INTO "t" VALUES (1)', 'INSERT "t"', "?"),
    ("UPDATE ONLY s.t SET a = %s, b = %(b)s FROM c", "UPDATE s.t c", None),
    ("DELETE FROM a USING b, c WHERE true", "DELETE a b c", "DELETE FROM a USING b, c WHERE ?"),
    ("MERGE INTO t USING s ON a WHEN MATCHED THEN UPDATE SET x = y WHEN NOT MATCHED THEN INSERT", "MERGE t s", None),
    ("MERGE INTO t USING (VALUES (1, a)) AS v (x, y) ON v.x = t.x WHEN MATCHED THEN DELETE", "MERGE t", "?"),
    # rows are no targets, however many there are and whatever is in them
    ("INSERT INTO t VALUES (1), (NULL), (now()), (a::text), (DEFAULT)", "INSERT t", "?"),
    ("INSERT INTO t (a) VALUES (1), (CAST(2 AS text)) RETURNING a, b", "INSERT t", "?"),
    ("SELECT * FROM t JOIN (VALUES (1, a), (2, b)) AS v (x, y) ON v.x = t.x, u", "SELECT t u", "?"),
    ("SELECT 1 FROM t WHERE a IN (1, b, NULL) AND c IN (VALUES (1), (d))", "SELECT t", "?"),
    ("UPDATE t SET a = v.a FROM (VALUES (1, NULL)) AS v (a, b) WHERE t.b = v.b", "UPDATE t", "?"),
    # what is repeated is there once
    ("INSERT INTO ld VALUES (1); INSERT INTO ld VALUES (2); INSERT INTO ld VALUES (3)", "INSERT ld", "?"),
    ("SELECT a FROM x UNION ALL SELECT b FROM x UNION ALL SELECT c FROM y", "SELECT x SELECT y", None),
    ("SELECT 1 UNION SELECT 2 UNION SELECT 3", "SELECT", "?"),
    ("SELECT 1 FROM t a JOIN t b ON true JOIN t c ON true", "SELECT t", "?"),
    # names that are made up each time
    ("CREATE TEMP TABLE tmp_17 AS SELECT * FROM t", "CREATE TABLE tmp_? SELECT t", None),
    ("CREATE TABLE load_1700000000123 (a int)", "CREATE TABLE load_?", None),
    ('DROP TABLE "s_8f3a9b1c2d"', 'DROP TABLE "s_?"', None),
    ("SELECT * FROM orders_2024_01, windows2012, crc32, t1", "SELECT orders_2024_01 windows2012 crc32 t1", None),
    # what is no list of tables
    ("SELECT extract(year FROM a), substring(b FROM 2 FOR 3) FROM t", "SELECT t", "?"),
    ("SELECT 1 FROM t WHERE a IS NOT DISTINCT FROM b", "SELECT t", "?"),
    ("SELECT a FROM t ORDER BY b USING <, c", "SELECT t", None),
    ("SELECT * INTO TEMP TABLE x FROM t FOR UPDATE OF a, b", "SELECT x t", None),
    ("SELECT a FROM ONLY (t) JOIN LATERAL (SELECT b FROM u) x USING (a, b), v", "SELECT t SELECT u v", None),
    ("CREATE TABLE t (a int REFERENCES u (b) ON UPDATE CASCADE, PRIMARY KEY (a))", "CREATE TABLE t", None),
    ("CREATE TABLE p PARTITION OF t FOR VALUES FROM (1) TO (2)", "CREATE TABLE p", "?"),
    ("TRUNCATE TABLE a, b CASCADE", "TRUNCATE a b", None),
    ("COPY s.t (a, b) FROM STDIN", "COPY s.t", None),
    ("COPY (SELECT * FROM x) TO STDOUT", "COPY SELECT x", None),
    ("CALL app.proc(1, 'x')", "CALL app.proc", "CALL app.proc(?, ?)"),
    # definitions
    ("CREATE TABLE IF NOT EXISTS a.b (id int)", "CREATE TABLE a.b", None),
    ("CREATE TEMP TABLE x AS SELECT * FROM y", "CREATE TABLE x SELECT y", None),
    ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX i", None),
    ("CREATE USER bob PASSWORD 'secret'", "CREATE USER bob", "CREATE USER bob PASSWORD ?"),
    ("DROP TABLE a, b", "DROP TABLE a", None),
    ("ALTER TABLE a ADD b int DEFAULT 5", "ALTER TABLE a", "ALTER TABLE a ADD b int DEFAULT ?"),
    ("COMMENT ON TABLE x IS 'secret'", "COMMENT TABLE x", "COMMENT ON TABLE x IS ?"),
    # the session: names of settings, never a value, quoted or not
    ("SET search_path = shop, 'x'", "SET search_path", "SET search_path = ?"),
    ("SET LOCAL app.tenant TO acme; SELECT 1", "SET app.tenant SELECT", "SET LOCAL app.tenant TO ?; SELECT ?"),
    ("SET ROLE tenant_7", "SET ROLE", "SET ROLE ?"),
    ("SET SESSION AUTHORIZATION bob", "SET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION ?"),
    ("ALTER ROLE bob SET app.tenant = acme", "ALTER ROLE bob", "ALTER ROLE bob SET app.tenant = ?"),
    ("SET TRANSACTION READ ONLY", "SET TRANSACTION", None),
    ("SHOW search_path", "SHOW search_path", None),
    # transactions, and what has names that are the app's own
    ("BEGIN; SELECT 1 FROM a; COMMIT", "BEGIN SELECT a COMMIT", "BEGIN; SELECT ? FROM a; COMMIT"),
    ("ROLLBACK TO SAVEPOINT s7", "ROLLBACK", None),
    ("DECLARE c7 CURSOR FOR SELECT * FROM t", "DECLARE SELECT t", None),
    ("EXPLAIN (ANALYZE) UPDATE t SET a = b", "EXPLAIN UPDATE t", None),
    ("PREPARE p AS DELETE FROM t", "PREPARE DELETE t", None),
    ("DO $$ BEGIN PERFORM 'secret'; END $$", "DO", "DO ?"),
    ("NOTIFY channel, 'secret'", "NOTIFY", "NOTIFY channel, ?"),
    # literals in all their spellings
    ("SELECT 'it''s', E'it\\'s', $$it's$$, $a$it's$a$, B'01' FROM t", "SELECT t", "SELECT ?, ?, ?, ?, ? FROM t"),
    ("SELECT x'1f', N'x', U&'x' UESCAPE '!', U&\"a\" FROM t", "SELECT t", 'SELECT ?, ?, ? UESCAPE ?, U&"a" FROM t'),
    ("SELECT date'x', interval '1 day', int '7' FROM t", "SELECT t", "SELECT date?, interval ?, int ? FROM t"),
    ("SELECT true, NULL, a IS NULL, b IS NOT TRUE FROM t", "SELECT t", "SELECT ?, ?, a IS NULL, b IS NOT TRUE FROM t"),
    ("CREATE TABLE t (a int NOT NULL DEFAULT 5, b int NULL)", "CREATE TABLE t", "?"),
    ("ALTER USER bob PASSWORD secret", "ALTER USER bob", "ALTER USER bob PASSWORD ?"),
    ('ALTER USER bob WITH PASSWORD "secret!";', "ALTER USER bob", "ALTER USER bob WITH PASSWORD ?;"),
    ("ALTER ROLE bob PASSWORD sec!ret VALID UNTIL secret", "ALTER ROLE bob", "ALTER ROLE bob PASSWORD ?"),
    ("SELECT 1, -2.5e3, .5, 1_000, 0x1F FROM t1", "SELECT t1", "SELECT ?, -?, ?, ?, ? FROM t1"),
    ("SELECT $1, %s, %(name)s FROM t", "SELECT t", None),
    # comments, and what is no statement
    ("/* secret */ SELECT 1 -- secret\nFROM t /* nested /* secret */ */", "SELECT t", "SELECT ?\nFROM t"),
    ("", "", None),
    (" \n", "", ""),
    ("-- secret", "", ""),
    (";;", "", None),
    ("SELCT * FROM t", "", None),
    ("hunter2", "", None),
    ("SELECT * FROM 'secret', b", "SELECT b", "SELECT * FROM ?, b"),
    ("UPDATE 'secret' SET a = b", "UPDATE", "UPDATE ? SET a = b"),
    ("CALL 'secret'()", "CALL", "CALL ?()"),
    ("SELECT $😀$secret$😀$ FROM t", "SELECT t", "SELECT ? FROM t"),
    ("COPY BINARY t FROM STDIN", "COPY t", None),
    ("SELECT 1 AS values, 2 AS delete FROM t", "SELECT t", "SELECT ? AS values, ? AS delete FROM t"),
    ("ALTER FUNCTION f() SET app.x = secret", "ALTER FUNCTION f", "ALTER FUNCTION f() SET app.x = ?"),
    ("SELECT ((((", "SELECT", None),
    ("INSERT INTO", "INSERT", None),
]


@pytest.mark.parametrize(("text", "summary", "shown"), STATEMENTS, ids=[text for text, _, _ in STATEMENTS])
def test_statements(text, summary, shown):
    words = words_of(text)
    assert words.summary == summary
    if shown != "?":
        assert words.text == (text if shown is None else shown)
    assert "secret" not in str(words)


def test_a_summary_has_the_operation_and_its_target_by_kind_of_statement():
    assert words_of("COPY t FROM STDIN")[2:5] == ("COPY", "t", "")
    assert words_of("COPY (SELECT 1 FROM t) TO STDOUT")[2:5] == ("COPY", "", "")
    assert words_of("COPY (SELECT 1) TO STDOUT")[2:5] == ("COPY", "", "")
    assert words_of("CALL a.b()")[2:5] == ("CALL", "", "a.b")
    assert words_of("CALL a(); SELECT 1")[2:5] == ("", "", "")
    assert words_of("SELECT 1 FROM t")[2:5] == ("", "", "")


@pytest.mark.parametrize(
    "text",
    [
        r"SELECT 'a\' , 'secret' FROM t",
        "SELECT E'a'\n'b\\'', ' FROM secret'",
        r"SELECT 'it\'' OR 'y'=' FROM secret'",
        "SELECT 'secret",
        'SELECT "secret',
        "SELECT $$secret",
        "SELECT $a$secret$$",
        "SELECT E'secret\\'",
        "SELECT 'O'secret', 'x'",
        "SELECT 'don't tell: from secret'",
        "SELECT 'it' secret', 'x'",
        "SELECT 'secret'\"x\"",
        "SELECT '5' secret 5'x'",
        "SELECT 'é'é'",
        "SELECT 'O'secret, 'x' FROM secret",
    ],
)
def test_a_quote_that_can_be_read_in_two_ways_shows_no_text(text):
    words = words_of(text)
    assert words.text is None
    assert words.summary == "SELECT"


def test_a_summary_ends_at_a_token():
    tables = [f"table_{number}" for number in range(100)]
    summary = words_of(f"SELECT * FROM {', '.join(tables)}").summary
    assert 240 < len(summary) <= 255
    assert summary.split()[1:] == tables[: len(summary.split()) - 1]


def test_a_long_text_is_cut_and_a_literal_that_is_cut_is_hidden():
    words = words_of(f"INSERT INTO t VALUES ({', '.join(['1'] * 2710)}, '{'secret' * 3000}')")
    assert words.summary == "INSERT t"
    assert "sec" not in words.text
    assert words.text.endswith(" ...")
    assert len(words.text) <= LONGEST + 4


@pytest.mark.parametrize("piece", ["SELECT (", "1", "1.5", "$a", "$a$ ", "a", "'", "(", "E'\\", "a.b "])
@pytest.mark.parametrize("read", [words_of, scan])
def test_a_long_text_is_read_to_its_end(read, piece):
    """In time that grows with the square of the length, or faster, this would take hours."""
    text = f"SELECT {piece * (1_000_000 // len(piece))}x"
    read(text)
    words_of(text[:LONGEST])


PIECES = st.sampled_from(
    "SELECT FROM WHERE ( ) , ; ' \" $$ $a$ INSERT INTO UPDATE SET = . 1 %s -- /* */ \\ E' x TABLE JOIN USING ON COPY \n"
    "CALL ROLE ALTER WITH AS VALUES DISTINCT \x00 \ud800 é".split(" ")
)


@given(st.lists(PIECES).map(" ".join) | st.text())
@example("SELECT '\\'")
def test_it_never_raises(text):
    words = words_of(text)
    assert len(words.summary) <= 255


@given(st.sampled_from(STATEMENTS), st.text(st.characters(exclude_characters="\\\x00"), min_size=1))
def test_no_value_of_a_literal_is_left(statement, value):
    """A value in place of each literal changes nothing."""
    quoted = "'{}'".format(value.replace("'", "''"))
    text = statement[0]
    if "'x'" in text:
        assert words_of(text.replace("'x'", quoted)) == words_of(text)


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("", ""),
        ('""', ""),
        ('"$user", public', ""),
        ("$user, public", ""),
        ("shop, public", "shop"),
        ('"Shop ""7"""', 'Shop "7"'),
        ("Shop", "shop"),
    ],
)
def test_the_first_schema(path, schema):
    assert first_schema(path) == schema
