"""aiomysql.Pool and asyncmy.Pool: their metrics, and what the next borrower inherits of a session."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from servers import Proxy

from ..pool_metrics import measured
from .test_async_mysql import App, app, ask, closed, session, where  # noqa: F401 - `app` is a fixture


async def test_what_a_pool_has_and_how_long_it_is_waited_for(app, pair, reader) -> None:  # noqa: F811
    with Proxy(pair.primary.host, pair.primary.port) as proxy:  # for a name of its own
        name = f"{proxy.host}:{proxy.port}/app"
        pool = await app.module.create_pool(minsize=1, maxsize=2, **where(proxy))
        async with pool.acquire(), pool.acquire():
            waiting = asyncio.create_task(pool._acquire())
            while not pool._cond._waiters:
                await asyncio.sleep(0)
            points = measured(reader, name)
            told = ("idle", "used", "idle.min", "max", "pending_requests")
            assert [points[each].value for each in told] == [0, 2, 1, 2, 1]
        await pool.release(await waiting)
        points = measured(reader, name)
        assert [points[each].value for each in ("idle", "used", "pending_requests")] == [2, 0, 0]
        assert [points[each].count for each in ("wait_time", "use_time")] == [3, 3]
        await closed(pool)
        assert {*measured(reader, name)} == {"wait_time", "use_time"}, "a pool that is closed has nothing"


async def test_a_connection_that_is_being_reset_is_in_use(app, pair, reader) -> None:  # noqa: F811
    with Proxy(pair.primary.host, pair.primary.port) as proxy:
        name = f"{proxy.host}:{proxy.port}/app"
        pool = await app.module.create_pool(minsize=1, maxsize=1, **where(proxy))
        connection = await pool.acquire()
        await ask(connection, "SET @tenant = 'acme'")
        released = pool.release(connection)
        points = measured(reader, name)
        assert [points[each].value for each in ("idle", "used")] == [0, 1]
        assert points["use_time"].count == 1, "the app has given it back"
        await released
        assert measured(reader, name)["idle"].value == 1
        await closed(pool)


# --- what the next borrower inherits ---------------------------------------------------------------------------------

# How an app leaves it, and how it is seen.
SETTINGS = [
    ("SET time_zone = '+07:00'", "@@time_zone"),
    ("SET sql_mode = 'ANSI_QUOTES'", "@@sql_mode"),
    ("SET lock_wait_timeout = 77", "@@lock_wait_timeout"),
    ("SET NAMES latin1", "@@character_set_client"),
    ("SET NAMES utf8mb4 COLLATE utf8mb4_bin", "@@collation_connection"),
    ("SET foreign_key_checks = 0", "@@foreign_key_checks"),
    ("SET SESSION TRANSACTION READ ONLY", "{read_only}"),
    ("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE", "{isolation}"),
    ("SET autocommit = 0", "@@autocommit"),
    ("SET @tenant = 'seven'", "@tenant"),
    ("SELECT @tenant := 'seven'", "@tenant"),
    ("SELECT 'seven' INTO @tenant", "@tenant"),
    ("PREPARE p FROM 'SET time_zone = ''+08:00'''; EXECUTE p", "@@time_zone"),
    ("CALL leaves_zone()", "@@time_zone"),
    ("CALL leaves_user()", "@tenant"),
    ("USE other", "DATABASE()"),
    ("SET ROLE leaver", "CURRENT_ROLE()"),
]
OTHER = [
    ("CREATE TEMPORARY TABLE mine (i int)", "SELECT COUNT(*) FROM mine"),
    ("SELECT GET_LOCK('mine', 0)", "SELECT IS_FREE_LOCK('mine') = 1 OR NULL"),
    ("PREPARE mine FROM 'SELECT 1'", "EXECUTE mine"),
    ("LOCK TABLES leaving READ", "INSERT INTO leaving VALUES (1)"),
]
MADE = [
    *("DROP PROCEDURE IF EXISTS leaves_zone", "DROP PROCEDURE IF EXISTS leaves_user"),
    "CREATE PROCEDURE leaves_zone() SET time_zone = '+09:00'",
    "CREATE PROCEDURE leaves_user() SET @tenant = 'by procedure'",
    *("CREATE ROLE IF NOT EXISTS leaver", "GRANT leaver TO app", "CREATE TABLE IF NOT EXISTS leaving (i int)"),
]


@pytest.fixture
def site(pair: Any) -> Any:
    for text in MADE:
        pair.primary.sql(text)
    return pair


def seen(site: Any, what: str) -> str:
    """Return a question, with the names that the database has for what it is about."""
    names = ("tx_read_only", "tx_isolation")
    if not site.primary.sql("SHOW VARIABLES LIKE 'tx_isolation'"):
        names = ("transaction_read_only", "transaction_isolation")
    return "SELECT " + what.format(read_only=f"@@{names[0]}", isolation=f"@@{names[1]}")


@pytest.mark.filterwarnings("ignore:Setting user variables within expressions")
@pytest.mark.parametrize(("text", "what"), SETTINGS, ids=[text[:45] for text, _ in SETTINGS])
async def test_the_next_borrower_inherits_no_setting(app, site, text: str, what: str) -> None:  # noqa: F811
    pool = await app.pool(site.primary)
    async with pool.acquire() as connection:
        before, number = await ask(connection, seen(site, what)), await session(connection)
        for each in text.split("; "):
            await ask(connection, each)
        assert await ask(connection, seen(site, what)) != before, "what is tried is really left"
    async with pool.acquire() as connection:
        assert await ask(connection, seen(site, what)) == before
        assert await session(connection) == number
    await closed(pool)


@pytest.mark.parametrize("scope", ["settings", "session"])
@pytest.mark.parametrize(("text", "what"), OTHER, ids=[text[:45] for text, _ in OTHER])
async def test_what_is_no_setting(app, site, text: str, what: str, scope: str) -> None:  # noqa: F811
    """It stays with the default, as documented, and goes with ``reset_scope=session``."""
    pool = await app.pool(site.primary, options={"reset_scope": scope})
    async with pool.acquire() as connection:
        before, number = await outcome(app, connection, what), await session(connection)
        await ask(connection, text)
        left = await outcome(app, connection, what)
        assert left != before, "what is tried is really left"
    async with pool.acquire() as connection:
        assert await session(connection) == number
        assert await outcome(app, connection, what) == (before if scope == "session" else left)
    await closed(pool)


async def outcome(app: App, connection: Any, sql: str) -> Any:  # noqa: F811
    """Return the rows, or the kind of error."""
    try:
        return await ask(connection, sql)
    except app.error as error:
        return error.args[0]
