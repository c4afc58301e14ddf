"""What the next borrower of a pool inherits: nothing that the last one set, and all that the pool configured."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from ..side import Side, done, inside, rows

# How an app leaves it, how it is seen, and what is seen where nothing was left.
SETTINGS: list[tuple[str, str, str]] = [
    ("SET ROLE walk_tenant", "SELECT current_user", "walker"),
    ("SET SESSION AUTHORIZATION walk_tenant", "SELECT session_user", "walker"),
    ("SET app.tenant = 'seven'", "SELECT coalesce(current_setting('app.tenant', true), '')", ""),
    ("SELECT set_config('app.tenant', 'seven', false)", "SELECT coalesce(current_setting('app.tenant', true), '')", ""),
    ("SET search_path = elsewhere", "SHOW search_path", '"$user", public'),
    ("SET TIME ZONE 'Asia/Tokyo'", "SELECT current_setting('timezone') = 'Asia/Tokyo'", "False"),
    ("SET statement_timeout = '1h'", "SHOW statement_timeout", "0"),
    ("SET lock_timeout = '1h'", "SHOW lock_timeout", "0"),
    ("SET idle_in_transaction_session_timeout = '1h'", "SHOW idle_in_transaction_session_timeout", "0"),
    ("SET work_mem = '5MB'", "SHOW work_mem", "4MB"),
    ("SET client_min_messages = error", "SHOW client_min_messages", "notice"),
    ("SET datestyle = German", "SHOW datestyle", "ISO, MDY"),
    ("SET NAMES 'LATIN1'", "SHOW client_encoding", "UTF8"),
    ("SET application_name = 'me'", "SHOW application_name", ""),
    ("SET row_security = off", "SHOW row_security", "on"),
    ("SET session_replication_role = replica", "SHOW session_replication_role", "origin"),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SHOW default_transaction_read_only", "off"),
    (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SHOW default_transaction_isolation",
        "read committed",
    ),
    ("DO $$ BEGIN SET work_mem = '6MB'; END $$", "SHOW work_mem", "4MB"),
    ("SELECT walk.sets('x')", "SHOW lock_timeout", "0"),
]
OTHER: list[tuple[str, str, str]] = [
    ("CREATE TEMP TABLE mine (a int)", "SELECT to_regclass('pg_temp.mine') IS NULL", "True"),
    ("CREATE TEMP VIEW mine AS SELECT 1", "SELECT to_regclass('pg_temp.mine') IS NULL", "True"),
    ("SELECT 1 AS a INTO TEMP mine", "SELECT to_regclass('pg_temp.mine') IS NULL", "True"),
    (
        "SELECT pg_advisory_lock(77)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        "0",
    ),
    ("LISTEN news", "SELECT count(*) FROM pg_listening_channels()", "0"),
    ("PREPARE mine AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements WHERE from_sql", "0"),
    ("DECLARE mine CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors WHERE is_holdable", "0"),
    (
        "DO $$ BEGIN PERFORM pg_advisory_lock(78); END $$",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
        "0",
    ),
]


def names(rows: list[tuple[str, str, str]]) -> list[str]:
    return [text[:50] for text, _, _ in rows]


async def seen(connection: Any, question: str) -> str:
    ((value,),) = await rows(connection, question)
    await done(connection.rollback())
    return str(value)


async def left_and_returned(pool: Any, *texts: str) -> None:
    async with inside(pool.connection()) as connection:
        for text in texts:
            await done(connection.execute(text))


@pytest.mark.parametrize("row", SETTINGS, ids=names(SETTINGS))
async def test_no_setting_reaches_the_next_borrower(side: Side, superuser: str, row: tuple[str, str, str]) -> None:
    pool = await side.pool(superuser)
    async with inside(pool.connection()) as connection:
        first = connection.info.backend_pid
        before = await seen(connection, row[1])
        await done(connection.execute(row[0]))
        left = await seen_now(connection, row[1])
    assert before == row[2] != left, "what is tried is really left by psycopg alone"
    async with inside(pool.connection()) as connection:
        assert connection.info.backend_pid == first
        assert await seen(connection, row[1]) == row[2]


async def seen_now(connection: Any, question: str) -> str:
    ((value,),) = await rows(connection, question)
    return str(value)


@pytest.mark.parametrize("row", OTHER, ids=names(OTHER))
async def test_other_state(side: Side, superuser: str, row: tuple[str, str, str]) -> None:
    for scope, leaks in (("settings", True), ("session", False)):
        pool = await side.pool(superuser, kwargs={"instrumented_wrapper": {"reset_scope": scope}})
        async with inside(pool.connection()) as connection:
            first = connection.info.backend_pid
            await done(connection.execute(row[0]))
        async with inside(pool.connection()) as connection:
            assert connection.info.backend_pid == first
            assert (await seen(connection, row[1]) != row[2]) == leaks
        await done(pool.close())


async def test_everything_at_once(side: Side, superuser: str, spans: Any) -> None:
    pool = await side.pool(superuser, kwargs={"instrumented_wrapper": {"reset_scope": "session"}})
    settings = [row for row in SETTINGS if "AUTHORIZATION" not in row[0] and "ROLE" not in row[0]]
    await left_and_returned(pool, *(text for text, _, _ in settings + OTHER[3:]), "SET ROLE walk_tenant")
    (span,) = spans.named("session_state.reset")
    assert span.attributes["instrumented_wrapper.round_trips"] == 1
    async with inside(pool.connection()) as connection:
        for _, question, value in SETTINGS + OTHER:
            assert await seen(connection, question) == value


async def test_what_the_pool_configured_stays(side: Side, superuser: str) -> None:
    async def configure(connection: Any) -> None:
        for text in ("SET ROLE walk_tenant", "SET app.tenant = 'base'", "SET work_mem = '6MB'", "LISTEN base"):
            await done(connection.execute(text))
        await done(connection.commit())

    options = {"instrumented_wrapper": {"reset_scope": "session"}}
    pool = await side.pool(superuser, configure=side.callback(configure), kwargs=options)
    await left_and_returned(pool, "RESET ROLE", "SET app.tenant = 'mine'", "RESET work_mem", "SET lock_timeout = 9")
    async with inside(pool.connection()) as connection:
        assert await rows(connection, "SELECT current_user, current_setting('app.tenant')") == [("walk_tenant", "base")]
        assert await seen(connection, "SHOW work_mem") == "6MB"
        assert await seen(connection, "SHOW lock_timeout") == "0"
        assert await seen(connection, "SELECT * FROM pg_listening_channels()") == "base"


async def test_psycopgs_own_prepared_statements_go_with_the_others(side: Side, superuser: str) -> None:
    pool = await side.pool(
        superuser, kwargs={"instrumented_wrapper": {"reset_scope": "session"}, "prepare_threshold": 0}
    )
    for _ in range(3):
        async with inside(pool.connection()) as connection:
            for _ in range(2):
                assert await rows(connection, "SELECT 1 AS prepared_by_psycopg") == [(1,)]
            await done(connection.execute("PREPARE mine AS SELECT 1"))
    async with inside(pool.connection()) as connection:
        assert await seen(connection, "SELECT count(*) FROM pg_prepared_statements WHERE from_sql") == "0"


async def test_a_reset_that_is_refused_costs_the_pool_the_connection(side: Side, superuser: str, spans: Any) -> None:
    """A role that was dropped meanwhile cannot be taken on again."""

    async def configure(connection: Any) -> None:
        await done(connection.execute("SET ROLE walk_short_lived"))
        await done(connection.commit())

    with psycopg.connect(superuser, autocommit=True) as administrator:
        administrator.execute("CREATE ROLE walk_short_lived")
        pool = await side.pool(superuser, configure=side.callback(configure))
        connection = await done(pool.getconn())
        await done(connection.execute("RESET ROLE"))
        await done(connection.commit())
        administrator.execute("DROP ROLE walk_short_lived")
        await done(pool.putconn(connection))
        assert connection.closed
        (span,) = spans.named("session_state.reset")
        assert span.attributes["error.type"] == "22023"
        await done(pool.close())
