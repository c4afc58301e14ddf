"""What is told of statements of MySQL: no literal, whatever the text is, and whatever the server makes of it."""

import pytest

from instrumented_wrapper.databases.mysql import words_of


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SELECT 'x', \"y\", N'z', _utf8mb4'a', x'41', 0x41, b'01', 1.5e3", "SELECT ?, ?, ?, ?, ?, ?, ?, ?"),
        ("SELECT 1 # it's\n, 2 -- 'x\n, /* \" */ 3", "SELECT ?\n, ?\n, ?"),
        ("SELECT /*! 'x' */ /*M!100100 'y' */ 1", "SELECT ? ? ?"),
        ("SET @x := 'secret', @y = 1", "SET @x := ?"),
        ("SELECT 'it''s', `a``b`", "SELECT ?, `a``b`"),
        ("SELECT TRUE, a IS TRUE, NULL, b IS NOT NULL", "SELECT ?, a IS TRUE, ?, b IS NOT NULL"),
        ("CREATE USER 'bob'@'secret' IDENTIFIED BY 'secret'", "CREATE USER ?@? IDENTIFIED BY ?"),
        ("CREATE USER bob IDENTIFIED BY secret", "CREATE USER bob IDENTIFIED BY ?"),
        ("SET GLOBAL max_connections = 5", "SET GLOBAL max_connections = ?"),
        (
            "CREATE FUNCTION f() RETURNS INT LANGUAGE JAVASCRIPT AS $x$ it's secret $$ $x$",
            "CREATE FUNCTION f() RETURNS INT LANGUAGE JAVASCRIPT AS ?",
        ),
        ('SELECT _utf8mb4"secret", \'it is \\"secret\\"\'', "SELECT ?, ?"),
    ],
)
def test_no_literal_is_told(text: str, told: str) -> None:
    assert words_of(text).text == told


@pytest.mark.parametrize(
    "text",
    [
        r"SELECT 'a\' , secret",  # NO_BACKSLASH_ESCAPES
        r"SELECT @'a\', 'secret'",
        "/*!999999 it's */ SELECT 'secret'",  # for a server that is not this one: it skips the comment
        '/*!999999 " */ SELECT "secret"',
        "/*!999999 ` */ SELECT `, 'secret'",
        "/*!999999 -- */ SELECT 'x\n secret'",
        "/*!999999 # */ SELECT 'x\n secret'",
        "SELECT 'open secret",
        'SELECT "open secret',
        "SELECT $$ secret",
        "INSERT INTO t VALUES ('O'secret', 'x')",
        "INSERT INTO t VALUES ('it' secret', 'x')",
    ],
)
def test_where_a_string_ends_is_not_certain(text: str) -> None:
    words = words_of(text)
    assert words.text is None
    assert "secret" not in words.summary


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("INSERT INTO t (a, b) VALUES (1, NULL), (@x, NOW()), (CAST(2 AS CHAR), b)", "INSERT t"),
        ("INSERT IGNORE t VALUES ROW(1, @x), ROW(2, a)", "INSERT t"),
        ("INSERT LOW_PRIORITY INTO s.t SET a = 1, b = c", "INSERT s.t"),
        ("REPLACE DELAYED INTO t VALUES (1)", "REPLACE t"),
        ("REPLACE t VALUES (1)", "REPLACE t"),
        ("INSERT INTO t SELECT a, b FROM u, v ON DUPLICATE KEY UPDATE a = 1, b = VALUES(b)", "INSERT t SELECT u v"),
        ("UPDATE LOW_PRIORITY IGNORE a, b JOIN c USING (x) SET y = 1, z = w", "UPDATE a b c"),
        ("DELETE QUICK a, s.b FROM a JOIN s.b ON a.x = b.x, c", "DELETE a s.b c"),
        ("DELETE a.* FROM a", "DELETE a"),
        ("SELECT a, b INTO @x, @y FROM t", "SELECT t"),
        (
            "SELECT a FROM t USE INDEX (i, j), u PARTITION (p0, p1) INTO OUTFILE 'x' FIELDS TERMINATED BY ','",
            "SELECT t u",
        ),
        ("SELECT STRAIGHT_JOIN a FROM t STRAIGHT_JOIN u ON f(x, y) = 1, v", "SELECT t u v"),
        ("SET @x := 1, @y = 2", "SET @x"),
        ("SET GLOBAL max_connections = 5", "SET max_connections"),
        ("SET @@session.sql_mode = ''", "SET @@session.sql_mode"),
        ("CREATE DEFINER = a@b VIEW v AS SELECT * FROM t", "CREATE VIEW v SELECT t"),
        ("CREATE TABLE x SELECT * FROM t", "CREATE TABLE x SELECT t"),
        ("CREATE PROCEDURE p() BEGIN UPDATE a SET b = 1; INSERT INTO c VALUES (1); END", "CREATE PROCEDURE p"),
        ("EXPLAIN FORMAT = JSON UPDATE t SET a = 1", "EXPLAIN UPDATE t"),
        ("CALL p(1, @x, 'y')", "CALL p"),
        ("VALUES ROW(1, @x), ROW(2, a)", "VALUES"),
        ("KILL QUERY 17", "KILL"),
    ],
)
def test_summaries(text: str, summary: str) -> None:
    assert words_of(text).summary == summary
