"""psycopg_pool's four pools: what is the baseline, what a return puts back, what it never does.

The word after a return is the server's, or that of libpq: which session it was, which it is now.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import psycopg
import psycopg_pool
import pytest
from psycopg import IsolationLevel

from instrumented_wrapper import SessionStateTransferHandlers, session_state
from servers import Proxy

from ..side import Side, backend, done, dsn, inside, rows
from ..watch import Watch, eventually

Handlers = SessionStateTransferHandlers
NAME = "pooled"
ON = {"failover": "on"}


@pytest.fixture(params=[False, True], ids=["pool", "null pool"])
def null(request: pytest.FixtureRequest) -> bool:
    return request.param


async def change(connection: Any) -> None:
    """Change three settings the way the app does."""
    if hasattr(connection, "set_autocommit"):
        await done(connection.set_isolation_level(IsolationLevel.SERIALIZABLE))
        await done(connection.set_read_only(True))
        await done(connection.set_autocommit(True))


def settings(connection: Any) -> tuple[Any, ...]:
    return connection.autocommit, connection.isolation_level, connection.read_only, connection.deferrable


@pytest.mark.parametrize("way", ["putconn", "with", "close_returns"])
async def test_a_return_resets(side: Side, watch: Watch, way: str) -> None:
    pool = await side.pool(watch.dsn(), close_returns=True) if way == "close_returns" else await side.pool(watch.dsn())
    if way == "with":
        async with inside(pool.connection()) as connection:
            await change(connection)
    else:
        connection = await done(pool.getconn())
        await change(connection)
        await done(connection.close() if way == "close_returns" else pool.putconn(connection))
    again = await done(pool.getconn())
    assert again is connection
    assert settings(again) == (False, None, None, None)
    assert await rows(again, "SHOW transaction_isolation") == [("read committed",)]
    await done(pool.putconn(again))


async def test_a_return_of_what_was_not_changed_sends_nothing(side: Side, watch: Watch, proxy: Proxy) -> None:
    pool = await side.pool(dsn(proxy), kwargs={"autocommit": True})
    connection = await done(pool.getconn())
    await done(connection.set_read_only(True))
    sent = proxy.bytes_from_client
    await done(pool.putconn(connection))
    connection = await done(pool.getconn())
    assert connection.read_only is None
    assert proxy.bytes_from_client == sent
    await done(pool.putconn(connection))


async def test_configure_is_the_baseline_through_two_switches(side: Side, watch: Watch) -> None:
    async def configure(connection: Any) -> None:
        await done(connection.set_autocommit(True))

    pool = await side.pool(watch.dsn(), configure=side.callback(configure))
    connection = await done(pool.getconn())
    assert dict(session_state(connection)) == {}
    await done(connection.set_read_only(True))
    for _ in range(2):
        old = await backend(connection)
        watch.end_sessions()
        await rows(connection, "SELECT 1")
        assert await backend(connection) != old
        assert settings(connection) == (True, None, True, None)
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    await done(connection.set_autocommit(False))
    assert session_state(connection)["autocommit"].pristine_value is True
    await done(pool.putconn(connection))
    again = await done(pool.getconn())
    assert again is connection
    assert settings(again) == (True, None, None, None)
    await done(again.execute(watch.insert("by itself")))
    assert watch.words() == ["by itself"]
    await done(pool.putconn(again))


async def test_check_is_not_the_apps_doing(side: Side, watch: Watch) -> None:
    async def check(connection: Any) -> None:
        await done(connection.set_autocommit(True))
        await done(connection.execute("SELECT 1"))

    pool = await side.pool(watch.dsn(), check=side.callback(check))
    async with inside(pool.connection()) as connection:
        assert "autocommit" not in session_state(connection)


async def test_our_reset_comes_before_the_pools(side: Side, watch: Watch) -> None:
    seen: list[tuple[Any, ...]] = []

    async def reset(connection: Any) -> None:
        seen.append(settings(connection))

    pool = await side.pool(watch.dsn(), reset=side.callback(reset))
    async with inside(pool.connection()) as connection:
        await change(connection)
    await _settled(seen, 1)  # an async pool may return it in a worker
    assert seen == [(False, None, None, None)]


async def test_the_handler_runs_once_per_return(side: Side, watch: Watch, null: bool) -> None:
    calls: list[Any] = []

    async def handler(state: Any, connection: Any) -> bool:
        calls.append(dict(state))
        return False

    pool = await side.pool(watch.dsn(), null=null)  # it closes a first connection, made to see whether it can
    Handlers.set_reset_session_state_on_close_func(side.callback(handler))
    for number in (1, 2, 3):
        async with inside(pool.connection()) as connection:
            if number == 2:
                await done(connection.set_read_only(True))
        await _settled(calls, number)
    assert [bool(state) for state in calls] == [False, True, not null]  # of a connection that is kept, entries stay


async def _settled(calls: list[Any], number: int) -> None:
    """A pool may do a part of the return in a worker: wait for it, then see that nothing more comes."""
    end = time.monotonic() + 5
    while len(calls) < number and time.monotonic() < end:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)
    assert len(calls) == number


async def test_a_handler_that_raises_costs_the_connection(side: Side, watch: Watch, null: bool) -> None:
    async def handler(state: Any, connection: Any) -> bool:
        raise ValueError("of the app")

    Handlers.set_reset_session_state_on_close_func(side.callback(handler))
    pool = await side.pool(watch.dsn(application_name=NAME), null=null)
    connection = await done(pool.getconn())
    old = await backend(connection)
    await done(pool.putconn(connection))
    assert eventually(lambda: str(old) not in watch.sessions(NAME))
    assert connection.closed
    Handlers.clear_reset_session_state_on_close_func()
    async with inside(pool.connection(timeout=20)) as other:
        assert await backend(other) != old
        assert await rows(other, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("failed", [False, True])
async def test_returned_in_a_transaction(side: Side, watch: Watch, caplog: Any, failed: bool) -> None:
    pool = await side.pool(watch.dsn())
    connection = await done(pool.getconn())
    await done(connection.set_isolation_level(IsolationLevel.SERIALIZABLE))
    await done(connection.execute(watch.insert("not committed")))
    if failed:
        with pytest.raises(psycopg.errors.SyntaxError):
            await done(connection.execute("SELEKT"))
    with caplog.at_level(logging.WARNING, "psycopg.pool"):
        await done(pool.putconn(connection))
        again = await done(pool.getconn())
    assert sum("rolling back returned connection" in line for line in caplog.messages) == 1
    assert again is connection
    assert settings(again) == (False, None, None, None)
    assert await rows(again, "SHOW transaction_isolation") == [("read committed",)]
    await done(pool.putconn(again))
    assert watch.words() == []


@pytest.mark.parametrize("state", ["idle", "transaction", "changed"])
async def test_a_return_never_switches(side: Side, watch: Watch, proxy: Proxy, null: bool, state: str) -> None:
    """A lost connection that is returned is the pool's to replace: we start nothing, and it does not last."""
    pool = await side.pool(dsn(proxy), null=null, kwargs={"instrumented_wrapper": ON}, reconnect_timeout=1)
    connection = await done(pool.getconn())
    if state == "transaction":
        await done(connection.execute("SELECT 1"))
    if state == "changed":
        await done(connection.set_read_only(True))
    old = connection.pgconn
    proxy.hold()
    proxy.cut()
    await done(pool.putconn(connection))  # returns although nobody answers
    assert connection.pgconn is old
    proxy.release()
    async with inside(pool.connection(timeout=20)) as other:
        assert await rows(other, "SELECT 1") == [(1,)]


async def test_a_switch_after_the_return_is_undisturbed(side: Side, watch: Watch) -> None:
    """What a return forbids is allowed again once the connection is handed out anew."""
    pool = await side.pool(watch.dsn(application_name=NAME))
    for _ in range(3):
        async with inside(pool.connection()) as connection:
            await done(connection.set_autocommit(True))
            watch.end_sessions()
            assert await rows(connection, "SELECT 1") == [(1,)]
    assert len(watch.sessions(NAME)) == 1


@pytest.mark.parametrize("checked", [False, True])
async def test_idle_connections_survive_a_failover_silently(side: Side, watch: Watch, checked: bool) -> None:
    check = side.pool_class.check_connection if checked else None
    pool = await side.pool(watch.dsn(), min_size=4, max_size=4, check=check)
    held = [await done(pool.getconn()) for _ in range(4)]
    for connection in held:
        await done(pool.putconn(connection))
    watch.cluster.wait_streaming()
    watch.cluster.failover()
    again = [await done(pool.getconn(timeout=20)) for _ in range(4)]
    for connection in again:
        await done(connection.execute(watch.insert("alive")))
        await done(connection.commit())
        await done(pool.putconn(connection))
    assert {id(connection) for connection in again} == {id(connection) for connection in held}
    assert watch.words() == ["alive"] * 4
    assert pool.get_stats().get("connections_lost", 0) == 0


async def test_a_check_ends_within_the_pools_time(side: Side, watch: Watch, proxy: Proxy) -> None:
    options = {"failover": "on", "failover_timeout": 60}
    check = side.pool_class.check_connection
    pool = await side.pool(dsn(proxy), check=check, kwargs={"instrumented_wrapper": options}, reconnect_timeout=1)
    proxy.refuse()
    proxy.cut()
    with pytest.raises(psycopg_pool.PoolTimeout):
        await done(pool.getconn(timeout=1))  # nobody can be reached before it ends
    proxy.accept()
    async with inside(pool.connection(timeout=30)) as connection:
        assert await rows(connection, "SELECT 1") == [(1,)]


async def test_subclass_as_connection_class(side: Side, watch: Watch) -> None:
    class Mine(side.connection_class):  # type: ignore[name-defined, misc]
        tag = None

    pool = await side.pool(watch.dsn(), connection_class=Mine)
    async with inside(pool.connection()) as connection:
        connection.tag = "kept"
        watch.end_sessions()
        await done(connection.execute(watch.insert("one")))
        assert type(connection) is Mine
        assert connection.tag == "kept"
    assert watch.words() == ["one"]


async def test_keywords_of_ours_in_kwargs(side: Side, watch: Watch) -> None:
    pool = await side.pool(watch.dsn(), kwargs={"reset_session_state_on_close": False})
    async with inside(pool.connection()) as connection:
        await done(connection.set_autocommit(True))
    async with inside(pool.connection()) as connection:
        assert connection.autocommit is True


async def test_foreign_connection_is_refused_as_ever(side: Side, watch: Watch) -> None:
    pool = await side.pool(watch.dsn())
    stranger = await side.connect(watch.dsn())
    await done(stranger.set_read_only(True))
    with pytest.raises(ValueError, match="pool"):
        await done(pool.putconn(stranger))
    assert stranger.read_only is True


async def test_closing_the_pool_leaves_no_session(side: Side, watch: Watch, null: bool) -> None:
    pool = await side.pool(watch.dsn(application_name=NAME), null=null)
    async with inside(pool.connection()) as connection:
        await change(connection)
        watch.end_sessions()
        assert await rows(connection, "SELECT 1") == [(1,)]
    await done(pool.close())
    assert eventually(lambda: not watch.sessions(NAME))
