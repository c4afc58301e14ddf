"""psycopg: ``close()`` and a return to a pool while the connection's lock is held: in a loop over notifications.

psycopg's own ``close()`` takes no lock, so it returns at once there; with the lock held nothing can be reset.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ..side import Side, done
from ..watch import PATIENCE, Watch, eventually

TENANT = "SET my.tenant = 'acme'"


def in_time(side: Side, work: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[], Coroutine[Any, Any, Any]]:
    """Run `work`, which would wait for itself for ever if something is wrong."""

    async def run() -> Any:
        if side.is_async:
            return await asyncio.wait_for(work(), PATIENCE)
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(asyncio.run(work())), daemon=True)
        thread.start()
        thread.join(PATIENCE)
        assert results, "it still waits, or has raised"
        return results[0]

    return run


async def each(items: Any, call: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    if hasattr(items, "__aiter__"):
        async for item in items:
            await call(item)
    else:
        for item in items:
            await call(item)


async def listening(side: Side, watch: Watch) -> Any:
    connection = await side.connect(watch.dsn(), autocommit=True)
    await done(connection.execute(TENANT))
    await done(connection.execute("LISTEN news"))
    return connection


async def test_closed_in_a_loop_over_notifications(side: Side, watch: Watch, spans) -> None:
    connection = await listening(side, watch)
    watch.sql("NOTIFY news, 'stop'")

    async def close(notify: Any) -> None:
        await done(connection.close())

    async def work() -> bool:
        with pytest.raises(Exception, match="closed"):  # psycopg's own, as it goes on to listen
            await each(connection.notifies(), close)
        return True

    assert await in_time(side, work)()
    assert connection.closed
    assert eventually(lambda: not watch.sessions())
    assert spans.named("session_state.reset") == []


async def test_closed_while_another_listens(side: Side, watch: Watch, spans) -> None:
    connection = await listening(side, watch)
    ended: list[BaseException | None] = []

    async def listen() -> None:
        try:
            await each(connection.notifies(), lambda notify: asyncio.sleep(0))
        except BaseException as error:
            ended.append(error)

    task = asyncio.create_task(listen()) if side.is_async else None
    if task is None:
        threading.Thread(target=lambda: asyncio.run(listen()), daemon=True).start()
    while not connection.lock.locked():
        await asyncio.sleep(0)

    async def work() -> bool:
        await done(connection.close())
        return True

    assert await in_time(side, work)()
    assert connection.closed
    assert spans.named("session_state.reset") == []
    if task is not None:
        task.cancel()


async def test_a_pool_gets_it_back_in_a_loop_over_notifications(side: Side, watch: Watch) -> None:
    pool = await side.pool(watch.dsn(), kwargs={"autocommit": True})
    connection = await done(pool.getconn())
    await done(connection.execute(TENANT))
    await done(connection.execute("LISTEN news"))
    watch.sql("NOTIFY news, 'stop'")

    async def give_back(notify: Any) -> None:
        await done(pool.putconn(connection))

    async def work() -> bool:
        with pytest.raises(Exception, match="closed"):  # what is not reset is discarded
            await each(connection.notifies(), give_back)
        return True

    assert await in_time(side, work)()
    assert connection.closed
