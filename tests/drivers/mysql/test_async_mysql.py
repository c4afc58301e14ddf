"""aiomysql and asyncmy: tasks, cancellation, the event loop, and the ends of a connection that are its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from instrumented_wrapper import (
    FailoverSuccessError,
    SessionStateTransferHandlers,
    session_state,
)
from servers import guard

from .server_session import NUMBER

APP = {"user": "app", "password": "app-secret", "db": "app"}
SESSIONS = "SELECT id FROM information_schema.processlist WHERE user = 'app'"


def where(*hosts: Any, **options: Any) -> dict[str, Any]:
    several = ",".join(f"{host.host}:{host.port}" for host in hosts)
    options = {**({"failover_hosts": several} if len(hosts) > 1 else {}), **options}
    return {**APP, "host": hosts[0].host, "port": hosts[0].port, "instrumented_wrapper": options}


@dataclass
class App:
    """An app of one driver at a primary and its replica."""

    module: Any
    pair: Any

    async def connect(self, *hosts: Any, autocommit: bool = True, **keywords: Any) -> Any:
        """Connect to the primary; the replica is known as the other host."""
        given = where(*(hosts or (self.pair.primary, self.pair.standby)), **keywords.pop("options", {}))
        return await self.module.connect(**given, autocommit=autocommit, **keywords)

    async def pool(self, *hosts: Any, **keywords: Any) -> Any:
        given = where(*(hosts or (self.pair.primary, self.pair.standby)), **keywords.pop("options", {}))
        return await self.module.create_pool(minsize=1, maxsize=1, **{"autocommit": True, **keywords}, **given)

    def is_closed(self, connection: Any) -> bool:
        return bool(not connection.connected if hasattr(connection, "connected") else connection.closed)

    @property
    def unbuffered(self) -> Any:
        return self.module.cursors.SSCursor

    @property
    def error(self) -> Any:
        return self.module.Error


@pytest.fixture(params=["aiomysql", "asyncmy"])
def app(request: pytest.FixtureRequest, pair: Any) -> App:
    return App(pytest.importorskip(request.param), pair)


async def ask(connection: Any, sql: str, kind: Any = None) -> list[tuple[Any, ...]]:
    cursor = await connection.cursor(*([kind] if kind else []))
    await cursor.execute(sql)
    return [tuple(row) for row in await cursor.fetchall()] if cursor.description else []


async def session(connection: Any) -> int:
    return int((await ask(connection, NUMBER))[0][0])


async def off(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call what blocks, in a thread."""
    return await asyncio.to_thread(function, *arguments)


def end(server: Any, *numbers: int) -> None:
    for number in numbers:
        server.sql(f"KILL {number}")
    assert guard.wait_until(lambda: not {int(row[0]) for row in server.sql(SESSIONS)} & {*numbers}, 60)


def nobody_is_left(pair: Any) -> bool:
    return guard.wait_until(lambda: not any(server.sql(SESSIONS) for server in pair.servers), 60)


# --- cancellation ---------------------------------------------------------------------------------------------------


async def test_a_cancelled_statement_is_no_loss(app, pair, spans) -> None:
    connection = await app.connect()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await ask(connection, "SELECT SLEEP(30)")
    assert app.is_closed(connection)
    for _ in range(2):
        with pytest.raises(app.module.InterfaceError):
            await ask(connection, "SELECT 1")
    assert spans.named("failover") == []
    assert await off(nobody_is_left, pair)


# --- the event loop -------------------------------------------------------------------------------------------------


async def test_a_statement_of_another_task_waits_for_the_switch(app, pair) -> None:
    connection = await app.connect()
    await off(end, pair.primary, await session(connection))
    one, other = asyncio.create_task(ask(connection, "SELECT 1")), asyncio.create_task(ask(connection, "SELECT 2"))
    assert await asyncio.gather(one, other) == [[(1,)], [(2,)]]
    await connection.ensure_closed()


# --- the ends of a connection ---------------------------------------------------------------------------------------


async def test_close_in_another_task_beside_a_statement_is_no_loss(app, pair, spans) -> None:
    connection = await app.connect()
    under_way = asyncio.create_task(ask(connection, "SELECT SLEEP(30)"))
    number = connection.thread_id()
    busy = f"SELECT 1 FROM information_schema.processlist WHERE id = {number} AND info LIKE 'SELECT SLEEP%'"
    assert await off(guard.wait_until, lambda: pair.primary.sql(busy), 60)
    connection.close()
    with pytest.raises(app.error) as caught:
        await under_way
    assert not isinstance(caught.value, FailoverSuccessError)
    assert spans.named("failover") == []
    await off(end, pair.primary, number)


async def test_ensure_closed_resets_and_close_only_ends(app, pair, spans) -> None:
    for how, resets in (("ensure_closed", 1), ("close", 0)):
        spans.clear()
        connection = await app.connect()
        await ask(connection, "SET time_zone = '+02:00'")
        closed = getattr(connection, how)()
        if closed is not None:
            await closed
        assert app.is_closed(connection)
        assert len(spans.named("session_state.reset")) == resets
    assert await off(nobody_is_left, pair)


async def test_an_unbuffered_result_that_was_being_read(app, pair) -> None:
    connection = await app.connect()
    cursor = await connection.cursor(app.unbuffered)
    await cursor.execute("SELECT REPEAT('x', 10000) FROM information_schema.columns a, information_schema.columns b")
    assert await cursor.fetchone()
    number = connection.thread_id()
    await off(end, pair.primary, number)
    with pytest.raises(FailoverSuccessError):
        while await cursor.fetchone():
            pass
    await cursor.close()
    assert await ask(connection, "SELECT 1", app.unbuffered) == [(1,)]
    await connection.ensure_closed()


async def test_ping_finds_a_lost_connection_replaced(app, pair) -> None:
    connection = await app.connect()
    await ask(connection, "SET @tenant = 'acme'")
    await off(end, pair.primary, await session(connection))
    await connection.ping()
    assert await ask(connection, "SELECT @tenant") == [("acme",)]
    await connection.ensure_closed()


async def test_ping_connects_anew_where_failover_is_off(app, pair) -> None:
    connection = await app.connect(pair.primary)
    await ask(connection, "SET @tenant = 'acme'")
    await off(end, pair.primary, await session(connection))
    await connection.ping()
    assert await ask(connection, "SELECT @tenant") == [(None,)]
    assert dict(session_state(connection)) == {}
    await connection.ensure_closed()


async def test_a_handler_that_waits_in_a_task_of_its_own(app, pair) -> None:
    async def handler(state: Any, new: Any) -> bool:
        return bool(await asyncio.wait_for(asyncio.create_task(ask(new, "SET @tenant = 'handled'")), 10) == [])

    SessionStateTransferHandlers.set_transfer_session_state_on_switch_func(handler)
    connection = await app.connect()
    await ask(connection, "SET @tenant = 'acme'")
    await off(end, pair.primary, await session(connection))
    assert await ask(connection, "SELECT @tenant") == [("handled",)]
    await connection.ensure_closed()


# --- the pool -------------------------------------------------------------------------------------------------------


async def closed(pool: Any) -> None:
    pool.close()
    await pool.wait_closed()


@pytest.mark.parametrize("waits", [True, False])
async def test_the_next_borrower_gets_a_clean_session(app, pair, waits: bool) -> None:
    pool = await app.pool()
    first = await pool.acquire()
    await ask(first, "SET time_zone = '+02:00', @tenant = 'acme'")
    await first.autocommit(False)
    released = pool.release(first)
    if waits:
        await released
    second = await pool.acquire()
    assert second is first
    assert await ask(second, "SELECT @@time_zone, @tenant, @@autocommit") == [("SYSTEM", None, 1)]
    await second.rollback()
    await pool.release(second)
    await closed(pool)


async def test_terminate_beside_a_statement_starts_no_switch(app, pair, spans) -> None:
    pool = await app.pool()
    connection = await pool.acquire()
    under_way = asyncio.create_task(ask(connection, "SELECT SLEEP(30)"))
    busy = "SELECT 1 FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(30)%'"
    assert await off(guard.wait_until, lambda: pair.primary.sql(busy), 60)
    number = connection.thread_id()
    pool.terminate()
    with pytest.raises(app.error):
        await under_way
    await pool.release(connection)
    await pool.wait_closed()
    assert spans.named("failover") == []
    await off(end, pair.primary, number)


async def test_a_release_that_is_cancelled_closes_the_connection(app, pair) -> None:
    pool = await app.pool()
    connection = await pool.acquire()
    await ask(connection, "SET time_zone = '+02:00'")
    released = pool.release(connection)
    await asyncio.sleep(0)
    released.cancel()
    with pytest.raises(asyncio.CancelledError):
        await released
    async with pool.acquire() as other:
        assert other is not connection
    await closed(pool)


async def test_what_lost_state_in_the_pool_is_not_handed_out(app, pair) -> None:
    pool = await app.pool(options={"reset_on_return": "off"})
    async with pool.acquire() as connection:
        await ask(connection, "CREATE TEMPORARY TABLE own (i int)")
        number = connection.thread_id()
    await off(end, pair.primary, number)
    async with pool.acquire() as other:
        assert other is not connection
        assert await ask(other, "SELECT 1") == [(1,)]
    await closed(pool)
