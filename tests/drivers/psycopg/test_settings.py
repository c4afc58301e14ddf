"""Every way to change a setting by SQL: what we say of the session is what the server has, and a rollback undoes it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql

import instrumented_wrapper

from ..side import Side, done

Row = tuple[Any, dict[str, str]]

# A text, or a text and its parameters; then what the server has afterwards, as it spells it.
ROWS: list[Row] = [
    ("SET statement_timeout = 50000", {"statement_timeout": "50s"}),
    ("SET statement_timeout TO '40s'", {"statement_timeout": "40s"}),
    ("set Statement_Timeout to 1000", {"statement_timeout": "1s"}),
    ('SET "statement_timeout" = 1000', {"statement_timeout": "1s"}),
    ("SET SESSION statement_timeout = 1000", {"statement_timeout": "1s"}),
    ("SET/**/statement_timeout/* a /* b */ */=/**/1000", {"statement_timeout": "1s"}),
    ("-- SET lock_timeout = 9\nSET statement_timeout = 1000", {"statement_timeout": "1s"}),
    ("  \n\tSET\tstatement_timeout\n=\n1000 ; ", {"statement_timeout": "1s"}),
    ("SET statement_timeout = $$2s$$", {"statement_timeout": "2s"}),
    ("SET statement_timeout = $x$3s$x$", {"statement_timeout": "3s"}),
    ("SET statement_timeout = E'4\\x73'", {"statement_timeout": "4s"}),
    ("SET LOCAL statement_timeout = 1000", {}),
    ("SET statement_timeout = 1000; SET LOCAL statement_timeout = 2000", {"statement_timeout": "1s"}),
    ("SET statement_timeout TO DEFAULT", {}),
    ("SET statement_timeout = 1000; SET statement_timeout TO DEFAULT", {}),
    ("SET statement_timeout = 1000; RESET statement_timeout", {}),
    ("SET statement_timeout = 1000; RESET ALL", {}),
    ("SET statement_timeout = 1000; SET statement_timeout = 2000", {"statement_timeout": "2s"}),
    ("SET work_mem = '5MB'; SET lock_timeout = 7", {"work_mem": "5MB", "lock_timeout": "7ms"}),
    ("SET work_mem = 5120", {"work_mem": "5MB"}),
    ("SET enable_seqscan = off", {"enable_seqscan": "off"}),
    ("SET enable_seqscan TO FALSE", {"enable_seqscan": "off"}),
    ("SET enable_seqscan = 0", {"enable_seqscan": "off"}),
    ("SET extra_float_digits = -3", {"extra_float_digits": "-3"}),
    ("SET extra_float_digits = +3", {"extra_float_digits": "3"}),
    ("SET random_page_cost = 1.5", {"random_page_cost": "1.5"}),
    ("SET cursor_tuple_fraction = 5e-1", {"cursor_tuple_fraction": "0.5"}),
    ("SET client_min_messages = error", {"client_min_messages": "error"}),
    ("SET client_min_messages TO WARNING", {"client_min_messages": "warning"}),
    ("SET bytea_output = 'escape'", {"bytea_output": "escape"}),
    ("SET intervalstyle = iso_8601", {"intervalstyle": "iso_8601"}),
    ("SET search_path = app", {"search_path": "app"}),
    ("SET search_path TO app, public", {"search_path": "app, public"}),
    ("SET search_path TO 'app, public'", {"search_path": '"app, public"'}),
    ("SET search_path TO \"Odd one\", 'it''s', \"$user\"", {"search_path": '"Odd one", "it\'s", "$user"'}),
    ('SET search_path TO "quo""te"', {"search_path": '"quo""te"'}),
    ('SET search_path TO U&"\\0061pp"', {"search_path": "app"}),
    ("SET search_path TO App, PUBLIC", {"search_path": "app, public"}),
    ("SET search_path = ''", {"search_path": '""'}),
    ("SET search_path = pg_catalog , -- first\n public", {"search_path": "pg_catalog, public"}),
    ("SET SCHEMA 'app'", {"search_path": "app"}),
    ("SET SESSION SCHEMA 'Odd one'", {"search_path": '"Odd one"'}),
    ("SET LOCAL SCHEMA 'app'", {}),
    ("SET datestyle = 'SQL, DMY'", {"datestyle": "SQL, DMY"}),
    ("SET DateStyle TO SQL, DMY", {"datestyle": "SQL, DMY"}),
    ("SET DateStyle TO german", {"datestyle": "German, DMY"}),
    ("SET TIME ZONE 'Europe/Paris'", {"timezone": "Europe/Paris"}),
    ("SET TimeZone = 'Europe/Paris'", {"timezone": "Europe/Paris"}),
    ("SET TIMEZONE TO 'europe/paris'", {"timezone": "Europe/Paris"}),
    ("SET SESSION TIME ZONE 'Europe/Paris'", {"timezone": "Europe/Paris"}),
    ("SET LOCAL TIME ZONE 'Europe/Paris'", {}),
    ("SET TIME ZONE -7", {"timezone": "<-07>+07"}),
    ("SET TIME ZONE 5.5", {"timezone": "<+05:30>-05:30"}),
    ("SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE", {"timezone": "<+02>-02"}),
    ("SET TIME ZONE 'Europe/Paris'; SET TIME ZONE LOCAL", {}),
    ("SET TIME ZONE 'Europe/Paris'; SET TIME ZONE DEFAULT", {}),
    ("SET TIME ZONE 'Europe/Paris'; RESET TIME ZONE", {}),
    ("SET NAMES 'LATIN1'", {"client_encoding": "LATIN1"}),
    ("SET client_encoding TO 'SQL_ASCII'; SET NAMES DEFAULT", {}),
    ("SET XML OPTION DOCUMENT", {"xmloption": "document"}),
    ("SET xmloption = document", {"xmloption": "document"}),
    ("SET application_name = 'it''s me'", {"application_name": "it's me"}),
    ("SET application_name TO \"Me\"", {"application_name": "Me"}),
    ("SET application_name TO Me", {"application_name": "me"}),
    ("SET application_name = 'a'\n'b'", {"application_name": "ab"}),
    ("SET application_name = E'back\\\\slash\\'s'", {"application_name": "back\\slash's"}),
    ("SET application_name = U&'\\0061\\+000062'", {"application_name": "ab"}),
    ("SET application_name = $$it's; SET a = 9; --$$", {"application_name": "it's; SET a = 9; --"}),
    ("SET ROLE walk_tenant", {"role": "walk_tenant"}),
    ("SET ROLE 'walk_tenant'", {"role": "walk_tenant"}),
    ('SET ROLE "walk_tenant"', {"role": "walk_tenant"}),
    ("SET SESSION ROLE walk_tenant", {"role": "walk_tenant"}),
    ("SET LOCAL ROLE walk_tenant", {}),
    ("SET role = walk_tenant", {"role": "walk_tenant"}),
    ("SET ROLE walk_tenant; RESET ROLE", {}),
    ("SET ROLE walk_tenant; SET ROLE NONE", {}),
    ("SET ROLE walk_tenant; RESET ALL", {"role": "walk_tenant"}),
    ("SET SESSION AUTHORIZATION walk_tenant", {"session_authorization": "walk_tenant"}),
    ("SET SESSION SESSION AUTHORIZATION 'walk_tenant'", {"session_authorization": "walk_tenant"}),
    ("SET LOCAL SESSION AUTHORIZATION walk_tenant", {}),
    ("SET SESSION AUTHORIZATION walk_tenant; RESET SESSION AUTHORIZATION", {}),
    ("SET SESSION AUTHORIZATION walk_tenant; SET SESSION AUTHORIZATION DEFAULT", {}),
    (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        {"default_transaction_isolation": "repeatable read"},
    ),
    (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
        {
            "default_transaction_isolation": "serializable",
            "default_transaction_read_only": "on",
            "default_transaction_deferrable": "on",
        },
    ),
    (
        "set session characteristics as transaction read only not deferrable",
        {"default_transaction_read_only": "on"},
    ),
    ("SET default_transaction_isolation TO 'serializable'", {"default_transaction_isolation": "serializable"}),
    ("SET default_transaction_read_only = yes", {"default_transaction_read_only": "on"}),
    ("SET app.tenant = 'seven'", {"app.tenant": "seven"}),
    ("SET App.Tenant TO Seven", {"app.tenant": "seven"}),
    ('SET "App"."Tenant" TO "Seven"', {"app.tenant": "Seven"}),
    ("SET app.tenant = 7", {"app.tenant": "7"}),
    ("SET app.tenant = -7.50", {"app.tenant": "-7.50"}),
    ("SET app.tenant = 31", {"app.tenant": "31"}),
    ("SET app.tenant = true", {"app.tenant": "true"}),
    ("SET app.tenant = ON", {"app.tenant": "on"}),
    ("SET app.one.two = 'x'", {"app.one.two": "x"}),
    ("SET app.tenant = 'ünï 漢 🐘'", {"app.tenant": "ünï 漢 🐘"}),
    ("SET app.tenant = ''", {"app.tenant": ""}),
    ("SET LOCAL app.tenant = 'seven'", {}),
    ("SET app.tenant = 'seven'; SET LOCAL app.tenant = 'eight'", {"app.tenant": "seven"}),
    ("SET app.tenant = 'seven'; RESET app.tenant", {}),
    ("SET app.tenant = 'seven'; RESET ALL", {}),
    ("SELECT set_config('app.tenant', 'seven', false)", {"app.tenant": "seven"}),
    ("SELECT set_config('app.tenant', 'seven', true)", {}),
    ("SELECT pg_catalog.set_config('App.tenant', 'se''ven', 'f')", {"app.tenant": "se'ven"}),
    ("SELECT set_config('search_path', 'app, public', false)", {"search_path": "app, public"}),
    ("SELECT set_config('lock_timeout', NULL, false)", {}),
    ("SELECT set_config('work_mem', '1MB', false), set_config('a.b', '1', false)", {"work_mem": "1MB", "a.b": "1"}),
    ("SELECT set_config('app.tenant', 'never', false) WHERE false", {}),
    ("SELECT set_config('app.tenant', n::text, false) FROM generate_series(1, 3) n", {"app.tenant": "3"}),
    ("WITH a AS (SELECT set_config('app.tenant', 'with', false)) SELECT * FROM a", {"app.tenant": "with"}),
    ("SELECT CASE WHEN true THEN set_config('app.tenant', 'case', false) END", {"app.tenant": "case"}),
    ("VALUES (set_config('app.tenant', 'values', false))", {"app.tenant": "values"}),
    ("DO $$ BEGIN SET app.tenant = 'do'; END $$", {"app.tenant": "do"}),
    ("DO $$ BEGIN PERFORM set_config('lock_timeout', '2s', false); END $$", {"lock_timeout": "2s"}),
    ("DO $$ BEGIN EXECUTE 'SET statement_timeout = 60000'; END $$", {"statement_timeout": "1min"}),
    ("SELECT walk.sets('by a function')", {"app.by_function": "by a function", "lock_timeout": "7ms"}),
    ("SELECT walk.outer_sets('deeper')", {"app.by_function": "deeper", "lock_timeout": "7ms"}),
    ("SELECT walk.harmless('x')", {}),
    ("PREPARE p AS SELECT set_config('app.tenant', 'prepared', false); EXECUTE p", {"app.tenant": "prepared"}),
    ("SAVEPOINT s; SET app.tenant = 'x'; ROLLBACK TO s", {}),
    ("SAVEPOINT s; SET app.tenant = 'x'; RELEASE s", {"app.tenant": "x"}),
    ("SET app.tenant = 'x'; SAVEPOINT s; SET app.tenant = 'y'; ROLLBACK TO SAVEPOINT s", {"app.tenant": "x"}),
    ("SAVEPOINT s; SET LOCAL app.tenant = 'x'; SET lock_timeout = 7; RELEASE s", {"lock_timeout": "7ms"}),
    ("CALL walk.names()", {"app.by_call": "x"}),
    ("PREPARE p AS SELECT walk.sets('later'); EXECUTE p", {"app.by_function": "later", "lock_timeout": "7ms"}),
    (("SELECT set_config('app.tenant', %s, false)", ["it's %"]), {"app.tenant": "it's %"}),
    (("SELECT set_config(%s, %s, %s)", ["App.Tenant", "x", False]), {"app.tenant": "x"}),
    (("SELECT set_config(%s, %s, %s)", ["app.tenant", "x", True]), {}),
    (("SELECT set_config(%(n)s, %(v)s, false)", {"n": "app.tenant", "v": "x"}), {"app.tenant": "x"}),
    (("SELECT set_config('app.tenant', %s::text, false)", [7]), {"app.tenant": "7"}),
    (("SELECT set_config('app.tenant', %b, false)", ["x"]), {"app.tenant": "x"}),
    (("SELECT set_config('app.tenant', %s || 'y', false)", ["x"]), {"app.tenant": "xy"}),
    ((sql.SQL("SET {} TO {}").format(sql.Identifier("app", "tenant"), "it's"), None), {"app.tenant": "it's"}),
    ((sql.SQL("SET search_path TO {}").format(sql.Identifier("Odd one")), None), {"search_path": '"Odd one"'}),
    ((b"SET app.tenant = 'bytes'", None), {"app.tenant": "bytes"}),
    ("SELECT 'SET app.tenant = 1', $$RESET ALL$$ -- SET ROLE x", {}),
    ("CREATE TEMP TABLE IF NOT EXISTS t (set_config text); UPDATE t SET set_config = 'x'", {}),
]  # fmt: skip
ALONE = ("SAVEPOINT", "LOCAL")  # the server wants a transaction for these, or warns without one


def sent(row: Row) -> list[tuple[Any, Any]]:
    given = row[0]
    if isinstance(given, tuple):
        return [given]
    return [(text, None) for text in given.split("; ")] if "$$" not in given else [(given, None)]


async def say(connection: Any, row: Row) -> None:
    for text, parameters in sent(row):
        await done(connection.execute(text, parameters))


def server(connection: Any, question: str) -> str | None:
    """Ask past everything that is patched."""
    result = connection.pgconn.exec_(question.encode())
    assert not result.error_message, result.error_message
    value = result.get_value(0, 0)
    return None if value is None else value.decode(connection.info.encoding)


def agrees(connection: Any, expected: dict[str, str]) -> None:
    """The server has what is expected, and `session_state` says the same; nothing else is changed."""
    state = instrumented_wrapper.session_state(connection)
    changed = {
        name: setting.value for name, setting in state.items() if not setting.is_pristine and name != "autocommit"
    }
    for name, value in expected.items():
        assert server(connection, f"SELECT current_setting('{name}')") == value
    assert set(changed) == set(expected)
    for name, value in changed.items():
        quoted = psycopg.sql.quote(value, connection)
        told = (
            value
            if name in ("role", "session_authorization")
            else server(connection, f"SELECT set_config('{name}', {quoted}, true)")
        )
        assert told == expected[name]
    for name, setting in state.items():
        assert setting.pristine_value == PRISTINE.get(name, setting.pristine_value)


PRISTINE = {
    **{"statement_timeout": "0", "lock_timeout": "0", "search_path": '"$user", public', "app.tenant": None},
    **{"role": "none", "work_mem": "4MB", "session_authorization": "walker", "default_transaction_read_only": "off"},
}
everything = pytest.mark.parametrize("row", ROWS, ids=[str(sent(row)[0][0])[:60] for row in ROWS])


@everything
async def test_each_alone(side: Side, superuser: str, row: Row) -> None:
    if isinstance(row[0], str) and any(word in row[0] for word in ALONE):
        return
    connection = await side.connect(superuser, autocommit=True)
    await say(connection, row)
    agrees(connection, row[1])


@everything
async def test_a_committed_setting_agrees_with_the_server(side: Side, superuser: str, row: Row) -> None:
    connection = await side.connect(superuser)
    await say(connection, row)
    await done(connection.commit())
    agrees(connection, row[1])


@everything
async def test_rolled_back(side: Side, superuser: str, row: Row) -> None:
    connection = await side.connect(superuser)
    await say(connection, row)
    await done(connection.rollback())
    agrees(connection, {})


@everything
async def test_a_reset_restores_what_the_server_shows(superuser: str, row: Row) -> None:
    connection = psycopg.connect(superuser)
    await say(connection, row)
    connection.commit()
    assert instrumented_wrapper.reset_session(connection)
    agrees(connection, {})
    connection.close()
