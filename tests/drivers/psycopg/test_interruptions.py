"""An interruption that costs the session: what was under way is not forgotten, nothing is lost in silence.

The interrupted statement waits for a lock of the test; psycopg's request to cancel it gets no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest

from instrumented_wrapper import (
    FailoverError,
    FailoverSuccessError,
    SessionStateTransferHandlers,
    TransactionResolutionUnknownError,
    switch,
    switch_async,
)
from servers import Proxy

from ..side import Side, backend, done, dsn, inside, rows
from ..watch import Watch, eventually

ON = {"failover": "on"}
Handlers = SessionStateTransferHandlers
LOCK = 4711
WAITING = "SELECT 1 FROM pg_stat_activity WHERE usename = 'app' AND wait_event_type = 'Lock'"
WAITS_AT_COMMIT = """
    CREATE FUNCTION {0}_waits() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared({1}); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON {0} DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION {0}_waits()
"""


@pytest.fixture
def lock(watch: Watch) -> Iterator[Any]:
    """Hold the lock that the statements wait for, until `unlock`."""
    with psycopg.connect(dsn(watch.cluster.primary, user="postgres", password=""), autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        yield holder


def unlock(lock: Any) -> None:
    lock.execute("SELECT pg_advisory_unlock_all()")


class Interrupter:
    """Ctrl-C, or a cancellation, while the server works; the network goes once psycopg has tried to cancel there."""

    def __init__(self, side: Side, watch: Watch, proxy: Proxy) -> None:
        self.side, self.watch, self.proxy = side, watch, proxy

    async def interrupt(self, work: Callable[[], Any]) -> None:
        expected = asyncio.CancelledError if self.side.is_async else KeyboardInterrupt
        press = self._cancel(work) if self.side.is_async else _press_keys
        thread = threading.Thread(target=self._strike, args=(press,))
        thread.start()
        with pytest.raises(expected):
            await (asyncio.wait_for(self.task, 20) if self.side.is_async else done(work()))
        thread.join()

    def _cancel(self, work: Callable[[], Any]) -> Callable[[], Any]:
        self.task = asyncio.ensure_future(work())
        return partial(asyncio.get_running_loop().call_soon_threadsafe, self.task.cancel)

    def _strike(self, press: Callable[[], Any]) -> None:
        eventually(lambda: self.watch.sql(WAITING))
        self.proxy.hold()
        before = self.proxy.connections
        press()
        eventually(lambda: self.proxy.connections > before)
        self.proxy.cut()
        self.proxy.release()


def _press_keys() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


@pytest.fixture
def interrupter(side: Side, watch: Watch, proxy: Proxy) -> Iterator[Interrupter]:
    """The loop keeps SIGINT for itself, so another signal stands for Ctrl-C."""
    if psycopg.pq.version() < 170000:
        pytest.skip("libpq before 17 holds the GIL while it cancels, and the proxy is in this process")
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    yield Interrupter(side, watch, proxy)
    signal.signal(signal.SIGUSR1, before)


async def _go_on(connection: Any, text: str) -> Any:
    """Run a statement. A signal may have ended psycopg's generator: then it says once that a command is in progress."""
    try:
        return await done(connection.execute(text))
    except FailoverError:
        raise
    except psycopg.OperationalError:
        with contextlib.suppress(psycopg.OperationalError):  # the end of the network, which nobody has read yet
            connection.pgconn.consume_input()
            connection.pgconn.consume_input()
        return await done(connection.execute(text))


async def connect(side: Side, proxy: Proxy, **keywords: Any) -> Any:
    return await side.connect(dsn(proxy, target_session_attrs="read-write"), instrumented_wrapper=ON, **keywords)


async def test_commit_that_was_interrupted(
    side: Side, watch: Watch, proxy: Proxy, lock: Any, interrupter: Interrupter
) -> None:
    watch.sql(WAITS_AT_COMMIT.format(watch.table, LOCK))
    connection = await connect(side, proxy)
    await done(connection.execute(watch.insert("one")))
    await interrupter.interrupt(connection.commit)
    unlock(lock)
    assert eventually(lambda: watch.words() == ["one"])
    with pytest.raises(TransactionResolutionUnknownError) as told:
        await _go_on(connection, watch.insert("two"))
    assert (told.value.transaction, told.value.may_have_run) == ("unknown", True)
    assert watch.words() == ["one"]


async def test_first_statement_that_was_interrupted(
    side: Side, watch: Watch, proxy: Proxy, lock: Any, interrupter: Interrupter
) -> None:
    """It began the transaction: the next statement does not go on as if it were the first."""
    connection = await connect(side, proxy)
    text = f"INSERT INTO {watch.table} SELECT 'one' FROM pg_advisory_xact_lock_shared({LOCK})"
    await interrupter.interrupt(partial(connection.execute, text))
    unlock(lock)
    with pytest.raises(FailoverSuccessError) as told:
        await _go_on(connection, watch.insert("two"))
    assert told.value.transaction == "rolled_back"
    with pytest.raises(FailoverSuccessError):
        await done(connection.commit())
    await done(connection.rollback())
    await done(connection.execute(watch.insert("three")))
    await done(connection.commit())
    assert watch.words() == ["three"]


async def test_statement_that_was_interrupted_in_autocommit(
    side: Side, watch: Watch, proxy: Proxy, lock: Any, interrupter: Interrupter
) -> None:
    """psycopg gives the session up by itself; the next statement gets another."""
    connection = await side.connect(dsn(proxy), autocommit=True, instrumented_wrapper=ON)
    before = await backend(connection)
    await interrupter.interrupt(partial(connection.execute, f"SELECT pg_advisory_xact_lock_shared({LOCK})"))
    await _go_on(connection, "SELECT 1")
    assert await backend(connection) != before


class Interruption:
    """A reset handler in which the app's Ctrl-C or cancellation arrives."""

    def __init__(self, side: Side) -> None:
        self.side = side
        Handlers.set_reset_session_state_on_close_func(self.wait_for_it if side.is_async else self.press)

    def press(self, state: Any, connection: Any) -> None:
        raise KeyboardInterrupt

    async def wait_for_it(self, state: Any, connection: Any) -> None:
        self.task.cancel()
        await asyncio.sleep(20)

    async def during(self, work: Any) -> None:
        if not self.side.is_async:
            with pytest.raises(KeyboardInterrupt):
                await work()
        else:
            self.task = asyncio.create_task(work())
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(self.task, 20)
        Handlers.clear_reset_session_state_on_close_func()


async def test_planned_switch_that_is_interrupted_after_it_moved(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    await done(connection.execute("LISTEN news"))

    async def move() -> None:
        await done((switch_async if side.is_async else switch)(connection))

    await Interruption(side).during(move)
    with pytest.raises(FailoverSuccessError) as told:
        await done(connection.execute(watch.insert("not sent")))
    assert "LISTEN" in told.value.not_restored
    assert watch.words() == []


async def test_return_to_a_pool_that_is_interrupted(side: Side, watch: Watch) -> None:
    """The pool's only place is free again."""
    pool = await side.pool(watch.dsn())

    async def use() -> None:
        async with inside(pool.connection()) as connection:
            await rows(connection, "SELECT 1")

    await Interruption(side).during(use)
    async with inside(pool.connection(timeout=15)) as connection:
        assert await rows(connection, "SELECT 1") == [(1,)]
