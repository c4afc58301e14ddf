"""Limits that hold whatever servers, resolvers, handlers and neighbours do: of time, of attempts, of memory."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from instrumented_wrapper import FailoverFailedError, FailoverSuccessError, SessionStateTransferHandlers
from servers import Proxy

from ..side import Side, backend, done, dsn, rows
from ..watch import Watch, eventually

ON = {"failover": "on"}
SHORT = {"failover": "on", "failover_timeout": 0.5}
LONG = 60  # seconds; only a wait without a limit lasts so long
Handlers = SessionStateTransferHandlers


@contextmanager
def never_for_ever(proxy: Proxy) -> Iterator[None]:
    """Fail, but end, where a wait has no limit."""
    late = threading.Event()

    def end() -> None:
        late.set()
        proxy.cut()

    release = threading.Timer(LONG, end)
    release.start()
    yield
    release.cancel()
    assert not late.is_set()


def stall(proxy: Proxy) -> int:
    """Lose all connections; new ones are accepted and get no answer. Returns how many there were."""
    proxy.hold()
    proxy.cut()
    return proxy.connections


def release_when_asked(proxy: Proxy, connections: int, patience: float = 2) -> threading.Thread:
    """Let the proxy answer once so many have connected, or have had the time to."""

    def work() -> None:
        eventually(lambda: proxy.connections >= connections, patience)
        proxy.release()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


async def test_new_server_that_falls_silent_before_the_end_of_the_switch(
    side: Side, watch: Watch, proxy: Proxy
) -> None:
    """In a transaction the last step is a statement that aborts the new one: it is waited for with a limit."""

    async def silence(state: Any, connection: Any) -> None:
        proxy.hold()

    connection = await side.connect(dsn(proxy), instrumented_wrapper=SHORT)
    await done(connection.execute(watch.insert("one")))
    Handlers.set_transfer_session_state_on_switch_func(side.callback(silence))
    watch.end_sessions()
    with never_for_ever(proxy), pytest.raises(FailoverFailedError) as told:
        await done(connection.execute(watch.insert("two")))
    proxy.release()
    assert told.value.transaction == "rolled_back"
    assert connection.closed
    assert watch.words() == []


def test_sync_connection_in_the_loop_of_an_async_one(watch: Watch, proxy: Proxy) -> None:
    """It blocks the loop that leads the search of the other: it does not wait for that."""

    async def main() -> None:
        conninfo, keywords = dsn(proxy), {"autocommit": True, "instrumented_wrapper": {**ON, "failover_timeout": 5}}
        waiting = await psycopg.AsyncConnection.connect(conninfo, **keywords)
        with psycopg.connect(conninfo, **keywords) as blocking:
            before = stall(proxy)
            task = asyncio.create_task(rows(waiting, "SELECT 1"))
            assert await asyncio.to_thread(eventually, lambda: proxy.connections > before)
            thread = release_when_asked(proxy, before + 2)
            assert blocking.execute("SELECT 2").fetchall() == [(2,)]
            assert await task == [(1,)]
            thread.join()
        await waiting.close()

    asyncio.run(main())


async def test_names_that_only_their_addresses_find(side: Side, watch: Watch) -> None:
    """`host` may be the name in a certificate only, where `hostaddr` is given."""
    hosts = {"host": "pg1.invalid,pg2.invalid", "hostaddr": "127.0.0.1,127.0.0.1"}
    connection = await side.connect(watch.dsn(**hosts), autocommit=True, instrumented_wrapper=ON)
    before = await backend(connection)
    watch.end_sessions()
    assert await rows(connection, "SELECT pg_backend_pid()") != [(before,)]


async def test_name_one_of_whose_addresses_fails_at_once(
    side: Side, watch: Watch, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other address is asked once, not in a storm, and again after it failed."""
    connection = await side.connect(dsn(proxy, host="localhost"), autocommit=True, instrumented_wrapper=ON)
    found = [(0, 0, 0, "", (address, 0)) for address in ("255.255.255.255", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **keywords: found)
    before, counted = stall(proxy), []

    def count() -> None:
        assert eventually(lambda: proxy.connections > before)
        time.sleep(0.5)  # the time of a storm
        counted.append(proxy.connections - before)
        proxy.cut()
        proxy.release()

    thread = threading.Thread(target=count)
    thread.start()
    assert await rows(connection, "SELECT 1") == [(1,)]
    thread.join()
    assert counted == [1]


def test_old_password_of_a_neighbour(watch: Watch, proxy: Proxy) -> None:
    """Lost together: the one is refused for good, the other's password is right."""
    role = f"{watch.table}_login"
    watch.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'old'")
    keywords = {"user": role, "autocommit": True, "instrumented_wrapper": ON}
    old = psycopg.connect(dsn(proxy), password="old", **keywords)
    watch.sql(f"ALTER ROLE {role} PASSWORD 'new'")
    new = psycopg.connect(dsn(proxy), password="new", **keywords)
    before = stall(proxy)
    with old, new, ThreadPoolExecutor(2) as threads:
        refused = threads.submit(old.execute, "SELECT 1")
        assert eventually(lambda: proxy.connections > before)
        answered = threads.submit(new.execute, "SELECT 2")
        release_when_asked(proxy, before + 2).join()
        assert answered.result(30).fetchall() == [(2,)]
        with pytest.raises(FailoverFailedError):
            refused.result(30)
    watch.sql(f"DROP ROLE {role}")


@pytest.mark.parametrize("kind", ["future", "task"])
def test_reset_handler_whose_answer_never_comes(watch: Watch, kind: str) -> None:
    async def main() -> None:
        connection = await psycopg.AsyncConnection.connect(watch.dsn())
        Handlers.set_reset_session_state_on_close_func(lambda *_: _never(kind))
        await asyncio.wait_for(connection.close(), LONG)
        assert connection.closed

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["future", "task"])
def test_transfer_handler_whose_answer_never_comes(watch: Watch, kind: str) -> None:
    async def main() -> None:
        connection = await psycopg.AsyncConnection.connect(watch.dsn(), instrumented_wrapper=SHORT)
        Handlers.set_transfer_session_state_on_switch_func(lambda *_: _never(kind))
        watch.end_sessions()
        with pytest.raises(FailoverFailedError):
            await asyncio.wait_for(connection.execute("SELECT 1"), LONG)
        assert connection.closed

    asyncio.run(main())


def _never(kind: str) -> Any:
    return asyncio.Future() if kind == "future" else asyncio.ensure_future(asyncio.sleep(3 * LONG))


class Local:
    """What the app holds in a function that fails."""


async def test_locals_of_the_app_are_not_kept_by_an_error(side: Side, watch: Watch, proxy: Proxy) -> None:
    connection = await side.connect(dsn(proxy), autocommit=True, instrumented_wrapper=ON)

    async def work() -> weakref.ref[Local]:
        local = Local()
        proxy.cut_when(b"never answered")
        try:
            await done(connection.execute("SELECT 'never answered'"))
        except FailoverSuccessError:
            return weakref.ref(local)
        raise AssertionError("it was answered")

    kept = await work()
    gc.collect()
    assert kept() is None
    assert not connection.closed


# --- of the app's own -----------------------------------------------------------------------------------------------


def test_a_time_limit_of_the_app(watch: Watch, proxy: Proxy) -> None:
    async def main() -> None:
        connection = await psycopg.AsyncConnection.connect(dsn(proxy), autocommit=True, instrumented_wrapper=ON)
        stall(proxy)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await connection.execute(watch.insert("never"))
        assert connection.closed

    asyncio.run(main())
    proxy.release()
    assert watch.words() == []
