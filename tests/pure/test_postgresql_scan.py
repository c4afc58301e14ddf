"""`databases/postgresql.scan`: what a text touches in the session. A miss is a session that is lost in silence.

On any text the scan is tried in test_postgresql_any_text.py.
"""

from __future__ import annotations

import pytest

from instrumented_wrapper.databases.postgresql import covers, scan
from instrumented_wrapper.databases.postgresql.statements import ADVISORY, HELD, LISTEN, PREPARED, TEMPORARY
from instrumented_wrapper.statement import BEGIN, COMMIT, ROLLBACK, SET, SET_LOCAL, Effects, Placeholder, Step

LEAVES = [
    ("SET work_mem = '1MB'", ["work_mem"]),
    ("set WORK_MEM to '1MB'", ["work_mem"]),
    ("SET SESSION work_mem = 1", ["work_mem"]),
    ("SET search_path TO a, b", ["search_path"]),
    ("SET search_path TO DEFAULT", ["search_path"]),
    ("SET a FROM CURRENT", ["custom settings", "custom settings"]),
    ('SET "Work_Mem" = 1', ["work_mem"]),
    ("SET app.tenant = '7'", ["app.tenant"]),
    ('SET "app"."tenant" = 7', ["app.tenant"]),
    ("SET TIME ZONE 'UTC'", ["timezone"]),
    ("SET SESSION TIME ZONE DEFAULT", ["timezone"]),
    ("SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", ["timezone"]),
    ("SET timezone = 'UTC'", ["timezone"]),
    ("SET NAMES 'utf8'", ["client_encoding"]),
    ("SET SCHEMA 'x'", ["search_path"]),
    ("SET XML OPTION DOCUMENT", ["xmloption"]),
    ("SET ROLE bob", ["role"]),
    ("sEt RoLe NONE", ["role"]),
    ("SET SESSION ROLE bob", ["role"]),
    ("SET SESSION AUTHORIZATION bob", ["session_authorization", "role"]),
    ("SET SESSION SESSION AUTHORIZATION bob", ["session_authorization", "role"]),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", ["default_transaction_read_only"]),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION NOT DEFERRABLE", ["default_transaction_deferrable"]),
    ("SELECT set_config('role', 'bob', false)", ["role"]),
    ("SELECT pg_catalog.set_config('search_path', '', false)", ["search_path"]),
    ("SELECT set_config ( 'A.b' , (SELECT f(1, 2)) , false )", ["a.b"]),
    ("SELECT set_config($1, $2, false)", ["parameter 0"]),
    ("SELECT set_config(%s, %s, %s)", ["parameter 0"]),
    ("SELECT set_config('a' || 'b', 'x', false)", ["custom settings", "custom settings"]),
    ("SELECT set_config('a', 'b', false), set_config('c', 'd', true), set_config('e', 'f', $1)", ["a", "e"]),
    ("((SELECT set_config('a', 'b', false)))", ["a"]),
    ("EXPLAIN ANALYZE SELECT set_config('a', 'b', false)", ["a"]),
    ("INSERT INTO t SELECT set_config('a', 'b', false)", ["a"]),
    ("SELECT \"set_config\"('a', 'b', false)", ["a"]),
    ("LISTEN news", [LISTEN]),
    ("PREPARE p AS SELECT 1", [PREPARED]),
    ("PREPARE p (int) AS SELECT 'all'", [PREPARED]),
    ("CREATE TEMP TABLE t (a int)", [TEMPORARY]),
    ("CREATE LOCAL TEMPORARY TABLE t (a int)", [TEMPORARY]),
    ("CREATE GLOBAL TEMP TABLE t (a int)", [TEMPORARY]),
    ("CREATE TEMP TABLE IF NOT EXISTS t ON COMMIT DELETE ROWS AS SELECT 1", [TEMPORARY]),
    ("CREATE OR REPLACE TEMP VIEW v AS SELECT 1", [TEMPORARY]),
    ("CREATE OR REPLACE TEMPORARY RECURSIVE VIEW v (a) AS SELECT 1", [TEMPORARY]),
    ("CREATE TEMP SEQUENCE s", [TEMPORARY]),
    ("CREATE TABLE pg_temp.t (a int)", [TEMPORARY]),
    ("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$", [TEMPORARY]),
    ("SELECT 1 INTO TEMP t", [TEMPORARY]),
    ("SELECT 1 INTO LOCAL TEMP t", [TEMPORARY]),
    ("WITH x AS (SELECT 1) SELECT * INTO TEMPORARY TABLE t FROM x", [TEMPORARY]),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", [HELD]),
    ("DECLARE c NO SCROLL CURSOR WITH /* yes */ HOLD FOR SELECT 1", [HELD]),
    ("SELECT pg_advisory_lock(1)", [ADVISORY]),
    ("SELECT pg_catalog.pg_try_advisory_lock_shared(1, 2)", [ADVISORY]),
    ("WITH a AS (SELECT PG_ADVISORY_LOCK(1)) SELECT 1", [ADVISORY]),
    ('SELECT "pg_advisory_lock"(1)', [ADVISORY]),
    ("DO $$ BEGIN PERFORM 1; END $$", ["DO"]),
    ("DO LANGUAGE plpgsql 'BEGIN END'", ["DO"]),
    ("CALL p()", ["CALL"]),
    ("LOAD 'auto_explain'", ["LOAD"]),
]

NOTHING = [
    "",
    " \n\t ",
    ";",
    ";;;",
    "-- only a comment",
    "/* only a comment",
    "SELECT 1",
    "SELECT 'SET ROLE bob'",
    "SELECT 'it''s; SET ROLE bob'",
    "SELECT E'it\\'s; SET ROLE bob; --'",
    "SELECT e'\\\\\\'; SET ROLE bob; --'",
    'SELECT ";SET ROLE bob"',
    'SELECT "a"";SET ROLE bob"',
    "SELECT $$; SET ROLE bob; $$",
    "SELECT $a$; SET ROLE bob; $$; $b$ $a$",
    "SELECT $ä$ '; SET ROLE bob; $ä$",
    "-- SET ROLE bob\nSELECT 1",
    "/* SET ROLE bob */ SELECT 1",
    "/* /* */ ; SET ROLE bob; */ SELECT 1",
    "/* /* /* */ */ ; SET ROLE bob; */ SELECT 1",
    "SET CONSTRAINTS ALL DEFERRED",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET TRANSACTION SNAPSHOT '1'",
    "SELECT pg_advisory_xact_lock(1), pg_try_advisory_xact_lock(1)",
    "UPDATE t SET a = 1",
    "INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1",
    "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
    "SELECT temp, prepare, load, call FROM t",
    "SELECT CASE WHEN a THEN 1 ELSE 2 END FROM t",
    "CREATE TABLE t (a int)",
    "CREATE TEMP TABLE t (a int) ON COMMIT DROP",
    "ALTER ROLE bob SET work_mem = 1",
    "ALTER SYSTEM SET work_mem = 1",
    "SELECT count(*), max(a) FROM t WHERE a IN (1, 2) AND EXISTS (SELECT FROM u)",
    "INSERT INTO t (a, b) VALUES (1, lower('x')) ON CONFLICT (a) DO NOTHING RETURNING (a)",
    "SELECT a::numeric(10, 2), CAST(b AS varchar(20)) FROM t AS x(a, b)",
    "WITH x (a) AS (SELECT 1) SELECT sum(a) FILTER (WHERE true) OVER (PARTITION BY a) FROM x",
    "DECLARE c CURSOR FOR SELECT 1",
    "DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1",
    "DISCARD PLANS",
    "FETCH 1 FROM c",
]

# What stands before or around a statement and does not change it.
AROUND = [
    "{}",
    " \n\t{} \n",
    "{};",
    ";;{};;",
    "/* a */{}",
    "/* it's */ {}",
    "/* /* ' */ */ {}",
    "/* /* /* */ */ */ {}",
    "/* */ -- ' \n {} -- it's",
    "-- /* \n{}",
    "-- ' \r{}",
]

# A statement before it that looks as if it went on, or after it.
BEFORE = [
    "SELECT 1",
    "SELECT '/*'",
    "SELECT '--'",
    "SELECT ''''",
    "SELECT '\\'",
    "SELECT E'\\\\'",
    "SELECT E'\\''",
    "SELECT U&'\\0041', B'1', N'a'",
    "SELECT '$$', '$a$'",
    "SELECT $$'$$",
    "SELECT $a$ $$ ' $a$",
    "SELECT $é$ ' $é$",
    "SELECT $1, $2",
    "SELECT a$$, b$$",
    'SELECT "\'", "a""b"',
    "SELECT 2*/* ' */3",
    "SELECT 1 - -1",
    "SELECT 1 --1\n",
    "SELECT 1 -- it's\n",
    "SELECT 1 -- it's\r",
    "VALUES (1)",
    "BEGIN",
    "COMMIT",
    "CREATE TABLE t (a int DEFAULT 1)",
    "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT 'it''s' $$",
    "CREATE OR REPLACE PROCEDURE p() LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 END; END",
]


def leaves(text: str) -> list[str]:
    """Return what a text may leave: settings, doubts about settings, other state."""
    effects = scan(text)
    steps = [step for step in effects.steps if step.kind in ("set", "doubt")] if effects else []
    return [*map(named, steps), *(effects.leaves if effects else ())]


def named(step: Step) -> str:
    if isinstance(step.name, Placeholder):
        return f"parameter {step.name.key}"
    return step.name or str(step.value)


@pytest.mark.parametrize(("text", "names"), LEAVES)
def test_state_that_a_statement_leaves_is_named(text, names):
    assert leaves(text) == names


@pytest.mark.parametrize("text", ["COPY t FROM STDIN", "copy t (a) from stdin with csv", "SELECT 1; COPY t FROM STDIN"])
def test_what_the_client_sends_without_an_answer(text):
    assert scan(text) == Effects(streams=True, several=";" in text)


CREATED = [
    "CREATE TABLE IF NOT EXISTS s.t(a int)",
    'CREATE UNLOGGED TABLE IF NOT EXISTS "T" (a int)',
    "CREATE TABLE c PARTITION OF t (a PRIMARY KEY) FOR VALUES IN (1)",
    "CREATE VIEW v(a) AS SELECT 1",
    "CREATE MATERIALIZED VIEW IF NOT EXISTS v (a) AS SELECT 1",
    "CREATE AGGREGATE sum_of(int) (SFUNC = int4pl, STYPE = int)",
]


@pytest.mark.parametrize("text", CREATED)
def test_names_of_what_is_created_are_no_calls(text):
    assert scan(text) is None


@pytest.mark.parametrize(
    "text", ["COPY t TO STDOUT", "COPY s.t (a, b) TO STDOUT", "COPY (SELECT 1) TO '/a'", "COPY t FROM '/a'", *NOTHING]
)
def test_nothing_that_matters(text):
    assert scan(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql SET search_path = x AS $$ SET ROLE bob $$",
        "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT set_config('a', 'b', false); END",
        "ALTER FUNCTION f() RENAME TO g",
        "create  procedure p() language sql as 'SELECT 1'",
    ],
)
def test_a_routine_does_nothing_until_it_is_called(text):
    assert scan(text) == Effects(defines=True)


@pytest.mark.parametrize("around", AROUND)
def test_what_stands_around_a_statement(around):
    assert leaves(around.format("SET ROLE bob")) == ["role"]


@pytest.mark.parametrize("before", BEFORE)
def test_a_statement_after_another(before):
    effects = scan(f"{before}; SET ROLE bob; SELECT 'a'")
    assert effects is not None
    assert leaves(f"{before}; SET ROLE bob; SELECT 'a'") == ["role"]
    assert effects.several


@pytest.mark.parametrize("before", BEFORE)
def test_a_statement_after_another_in_a_long_text(before):
    """Long texts may be read in another way, not to another end."""
    assert leaves("SELECT 1; " * 200 + f"{before}; SET ROLE bob; SELECT 'a'") == ["role"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("DISCARD TEMP", [TEMPORARY]),
        ("DISCARD TEMPORARY", [TEMPORARY]),
        ("UNLISTEN *", [LISTEN]),
        ("DEALLOCATE ALL", [PREPARED]),
        ("DEALLOCATE PREPARE ALL", [PREPARED]),
        ("CLOSE ALL", [HELD]),
        ("SELECT pg_advisory_unlock_all()", [ADVISORY]),
    ],
)
def test_state_that_a_statement_clears_is_named(text, names):
    assert scan(text) == Effects(clears=tuple(names))


def test_clears_all():
    effects = scan("DISCARD ALL")
    assert effects is not None
    assert effects.clears == ("*",)
    assert effects.leaves == ()


BEGINS, COMMITS, ROLLS_BACK = Step(BEGIN), Step(COMMIT), Step(ROLLBACK)


@pytest.mark.parametrize(
    ("text", "effects"),
    [
        ("BEGIN", Effects((BEGINS,), begins=True)),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY", Effects((BEGINS,), begins=True, read_only="transaction")),
        ("START TRANSACTION", Effects((BEGINS,), begins=True)),
        ("COMMIT", Effects((COMMITS,), outcome_unknown_if_lost=True)),
        ("END", Effects((COMMITS,), outcome_unknown_if_lost=True)),
        ("commit and chain", Effects((COMMITS, BEGINS), outcome_unknown_if_lost=True)),
        ("commit and no chain", Effects((COMMITS,), outcome_unknown_if_lost=True)),
        ("PREPARE TRANSACTION 'a'", Effects((COMMITS,), outcome_unknown_if_lost=True)),
        ("COMMIT PREPARED 'a'", Effects(outcome_unknown_if_lost=True)),
        ("ROLLBACK PREPARED 'a'", Effects(outcome_unknown_if_lost=True)),
        ("ROLLBACK", Effects((ROLLS_BACK,), rolls_back=True)),
        ("ROLLBACK TRANSACTION", Effects((ROLLS_BACK,), rolls_back=True)),
        ("ROLLBACK AND CHAIN", Effects((ROLLS_BACK, BEGINS), rolls_back=True)),
        ("ABORT", Effects((ROLLS_BACK,), rolls_back=True)),
        ("SET TRANSACTION READ ONLY", Effects(read_only="transaction")),
        ("SELECT 1; COMMIT", Effects((COMMITS,), outcome_unknown_if_lost=True, several=True)),
        ("BEGIN; COMMIT", Effects((BEGINS, COMMITS), begins=True, outcome_unknown_if_lost=True, several=True)),
        (
            "SET default_transaction_read_only = on",
            Effects((Step(SET, "default_transaction_read_only", "on"),), read_only="session"),
        ),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            Effects((Step(SET, "default_transaction_read_only", "on"),), read_only="session"),
        ),
    ],
)
def test_transactions(text, effects):
    assert scan(text) == effects


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("LISTEN a; PREPARE b AS SELECT 1; LISTEN a", [LISTEN, PREPARED]),
        ("UNLISTEN *; LISTEN a", [LISTEN]),
        ("LISTEN a; BEGIN; UNLISTEN *; ROLLBACK", [LISTEN]),
    ],
)
def test_of_several_statements_what_may_be_left_is_left(text, left):
    """What one of them clears may come back, if a later one rolls back."""
    effects = scan(text)
    assert effects is not None
    assert list(effects.leaves) == left
    assert effects.clears == ()
    assert effects.several


@pytest.mark.parametrize("text", ["SET LOCAL work_mem = 1", "SET LOCAL ROLE bob", "SELECT set_config('a', 'b', true)"])
def test_what_ends_with_the_transaction_is_left_by_nobody(text):
    effects = scan(text)
    assert effects is not None
    assert {step.kind for step in effects.steps} == {SET_LOCAL}
    assert leaves(text) == []


def test_what_clears_what():
    assert covers("*", ADVISORY) and covers("*", LISTEN) and not covers("*", "LOAD")
    assert covers("a", "a") and not covers("a", "b")


@pytest.mark.parametrize("secret", ["hunter2", "it''s", "a b"])
def test_values_are_never_names(secret):
    """What is left is told to the app and to telemetry."""
    for text in (f"SET '{secret}' = 1", f"SET a = '{secret}'", f"SELECT set_config('a', '{secret}', false)"):
        assert secret not in " ".join(leaves(text))
