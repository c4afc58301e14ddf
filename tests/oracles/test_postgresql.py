"""PostgreSQL's own scanner, parser and normaliser (``pglast``) on generated texts."""

from __future__ import annotations

import random
from typing import Any

import pytest

from instrumented_wrapper.databases.postgresql import scan
from instrumented_wrapper.databases.postgresql.summary import READING, words_of

from .texts import Dialect, Texts, nothing_shown, targets_of

pglast = pytest.importorskip("pglast", reason="pglast has no wheel for this Python: PostgreSQL's parser cannot judge")
from pglast import parser, visitors  # noqa: E402 - where it is there

OBJECTS = {"SET", "ALTER", "COMMENT", "CREATE", "CALL"}  # the targets of these need not be tables
LITERALS = {"SCONST", "USCONST", "ICONST", "FCONST", "BCONST", "XCONST", "C_COMMENT", "SQL_COMMENT"}
DIALECT = Dialect(
    strings=[
        "'{}'",
        "E'{}'",
        "E'\\'{}\\\\'",
        "U&'{}'",
        "$${}$$",
        "$x${}$x$",
        "N'{}'",
        "'{}'\n'{}'",
        "'{}'::text",
        "date '{}'",
    ],
    numbers=["{}", "{}.5", "-{}", "1{}e5", "0x{}", ".{}", "1_{}", "B'101{}'", "x'{}'"],
    names=["{}", '"{}"', "s.{}", '"S".{}', 'U&"{}"'],
    functions=[
        "coalesce({}, {})",
        "CASE WHEN {} THEN {} END",
        "CAST({} AS text)",
        "extract(year FROM {})",
        "({})::int",
    ],
    operators=[
        "{} = {}",
        "{} IS NULL",
        "{} IS DISTINCT FROM {}",
        "{} IS NOT TRUE",
        "{} OR {}",
        "{} -> {}",
        "{} BETWEEN {} AND 1",
    ],
    comments=["/* {} */", "-- {}\n", "/* '{} /* ' */ */", '/* " */'],
    joins=[", ", " JOIN ", " LEFT JOIN ", " CROSS JOIN ", " NATURAL JOIN "],
    extras=[
        "SET my.thing = {value}",
        "ALTER ROLE bob PASSWORD {string}",
        "ALTER ROLE bob SET my.thing = {string}",
        "COMMENT ON TABLE {table} IS {string}",
        "DO {string}",
        "NOTIFY news, {string}",
        "CREATE TABLE {table} AS {select}",
        "COPY {table} FROM {string}",
        "COPY ({select}) TO {string}",
        "PREPARE p AS {select}",
        "EXECUTE p({value}, {string})",
        "DECLARE c CURSOR FOR {select}",
        "CREATE USER MAPPING FOR bob SERVER s OPTIONS (user {string}, password {string})",
        "CREATE SUBSCRIPTION s CONNECTION {string} PUBLICATION p",
        "CREATE VIEW {table} AS {select}",
        "CALL p({value}, {string})",
        "EXPLAIN (ANALYZE true) {select}",
        "MERGE INTO {table} USING ({select}) AS al1 ON true WHEN MATCHED THEN UPDATE SET col1 = {value}",
        "INSERT INTO {table} VALUES ({value}), (now()), (DEFAULT) ON CONFLICT (col1) DO UPDATE SET col1 = {value}",
        "SELECT * FROM {table}, (VALUES ({value}, col1), (NULL, 2)) AS al1 (col1, col2), unnest({string}) AS al2",
        "TRUNCATE {table}, s.tbl9",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS {string}",
        "CREATE TABLE {table} (col1 int DEFAULT 5, col2 text NOT NULL DEFAULT {string})",
        "LISTEN news",
        "FETCH 5 FROM c",
    ],
)


class Tables(visitors.Visitor):
    """The tables, and the functions in FROM, that PostgreSQL's parser finds."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit_RangeVar(self, _: Any, node: Any) -> None:
        self.names.add(node.relname.lower())

    def visit_RangeFunction(self, _: Any, node: Any) -> None:
        self.names |= {one[0].funcname[-1].sval.lower() for one in node.functions if hasattr(one[0], "funcname")}


def accepted(text: str) -> bool:
    try:
        parser.parse_sql_json(text)
    except parser.ParseError:
        return False
    return True


def tables(text: str) -> set[str]:
    found = Tables()
    for statement in pglast.parse_sql(text):
        found(statement)
    return found.names


@pytest.mark.parametrize("seed", range(4))
def test_no_literal_is_shown_and_the_tables_are_those_of_the_parser(seed: int) -> None:
    texts = Texts(DIALECT, random.Random(seed))
    judged = shown = 0
    while judged < 500:
        text = texts.statement()
        if not accepted(text):
            continue
        judged += 1
        words = words_of(text)
        shown += words.text is not None
        assert nothing_shown(words, texts.marks), text
        normalized = parser.normalize(text).lower()
        for constant in ("true", "false"):
            assert constant in normalized or words.text is None or constant not in words.text.lower(), text
        ours, theirs = targets_of(text, READING), tables(text)
        assert ours >= theirs, text
        assert ours == theirs or words.summary.split()[0] in OBJECTS, text
    assert shown > judged / 2


@pytest.mark.parametrize("seed", range(4))
def test_what_the_scanner_calls_a_literal_is_never_shown(seed: int) -> None:
    """Tokens in no order: the scanner takes them, whether or not they are a statement."""
    texts = Texts(DIALECT, random.Random(1000 + seed))
    judged = shown = 0
    while judged < 1000:
        text = texts.soup(texts.random.randrange(1, 12))
        try:
            tokens = parser.scan(text)
        except parser.ParseError:
            continue
        judged += 1
        encoded = text.encode()
        literals = [encoded[one.start : one.end + 1].decode() for one in tokens if one.name in LITERALS]
        hidden = [mark for mark in texts.marks if any(mark in literal for literal in literals)]
        words = words_of(text)
        shown += words.text is not None
        assert nothing_shown(words, hidden), text
    assert shown > judged / 5


# What looks like a call and is none, beside calls that have to be seen.
PARENTHESES = [
    "CREATE INDEX i ON t USING btree (a)",
    "CREATE INDEX i ON t USING btree (lower(a), my_f(b))",
    "CREATE TABLE x (a int4range, EXCLUDE USING gist (a WITH &&))",
    "SELECT * FROM t alias(col)",
    "SELECT * FROM s.t alias (col) JOIN u x(y) ON my_f(x.y)",
    "SELECT * FROM (SELECT my_f(1)) alias(col)",
    "SELECT * FROM my_f(1) alias(col), other_f(2)",
    'SELECT * FROM "T" "alias"(col) WHERE (a) = my_f(2)',
    "SELECT * FROM ONLY t a(b) WHERE a.b IS DISTINCT FROM CASE my_f(1) WHEN 1 THEN other_f(2) END",
    "SELECT * FROM t LEFT JOIN LATERAL my_f(t.a) z(b) ON true",
    "SELECT * FROM ROWS FROM (my_f(1), other_f(2)) AS x(a, b)",
    "MERGE INTO t USING u x(y) ON my_f(1) WHEN MATCHED THEN DO NOTHING",
    "DELETE FROM t USING u x(y) WHERE a IS NOT DISTINCT FROM NOT my_f(1)",
    "WITH c(a) AS (SELECT 1) SELECT * FROM c x(y)",
    "SELECT extract(year FROM my_f(1)), substring(my_f(2) FROM other_f(1) FOR third_f(2))",
    "SELECT (1, 2) OVERLAPS (my_f(1), other_f(2)), (1) IN (my_f(1))",
    "ALTER TABLE t ALTER COLUMN a TYPE int USING my_f(a)",
    "ALTER TABLE t ADD EXCLUDE USING gist (my_f(a) WITH &&)",
    "CREATE STATISTICS st(ndistinct) ON a, b FROM t",
    "CREATE STATISTICS IF NOT EXISTS s.st (mcv) ON (my_f(a)), b FROM t",
    "CREATE TABLE t (a int) PARTITION BY range(a)",
    "CREATE TABLE t (a int CHECK (my_f(a))) PARTITION BY hash (a, my_f(b))",
    "CREATE TABLE t PARTITION OF u FOR VALUES FROM (1) TO (2) PARTITION BY list (a)",
    "CREATE TABLE t AS SELECT my_f(a) OVER (PARTITION BY range_f(a)) FROM u",
    "UPDATE t SET (a, b) = (1, my_f(2))",
    "UPDATE t AS x SET (a, b) = (SELECT 1, my_f(2)), (c) = ROW(3)",
    "INSERT INTO t(a) VALUES (my_f(1)) ON CONFLICT (a) DO UPDATE SET (b, c) = (my_f(2), 3)",
    "MERGE INTO t USING u ON my_f(1) WHEN MATCHED THEN UPDATE SET (a) = ROW(2)"
    " WHEN NOT MATCHED THEN INSERT (a) VALUES (1)",
    "WITH RECURSIVE c(a) AS (SELECT my_f(1)), d(b, c) AS NOT MATERIALIZED (VALUES (1, 2)) SELECT * FROM c, d x(y)",
    "SELECT * FROM c, my_f(1) AS (a int, b text), other_f(2) AS x(y int)",
    "SELECT * FROM t x(y), u z(w), my_f(1) v(u), LATERAL other_f(2) r(s)",
    "SELECT a::my_type(3), my_f(b::my_type(1))::other_type(2)",
    "SELECT DISTINCT ON (a, (b)) my_f(c), d FROM t JOIN u ON (a = my_f(b))",
    "SELECT 1 OPERATOR(pg_catalog.+) my_f(2), a OPERATOR(s.@@@) b, - operator_f(1 + 2) FROM t",
    "SELECT xmlparse(document my_f(1)), json_object('a': 1, 'b' VALUE my_f(1))",
    "SELECT a, NOT my_f(1), DISTINCT_f(2), count(DISTINCT other_f(3)) FROM t GROUP BY a, GROUPING SETS (my_f(1), (b))",
]


@pytest.mark.parametrize("text", PARENTHESES)
def test_calls_are_those_that_the_parser_sees(text):
    found: set[str] = set()

    class Calls(visitors.Visitor):
        def visit_FuncCall(self, ancestors: Any, node: Any) -> None:
            found.add(node.funcname[-1].sval)

    Calls()(pglast.parse_sql(text))
    effects = scan(text)
    assert (effects.calls if effects else set()) == {name for name in found if name.endswith("_f")}
