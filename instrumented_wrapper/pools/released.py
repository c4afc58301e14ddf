"""The pools of aiomysql and asyncmy: a task resets a returned connection before the pool takes it.

``Pool.release`` is not a coroutine: it returns a future, which an app need not await. Meanwhile the connection counts
as used. If nothing has to be reset, the pools themselves close a connection with an open transaction.

A connection that is lost while it is in the pool is replaced beneath its object when it is acquired.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any, Final

from instrumented_wrapper.drivers import Driver, Flows
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.drivers.registry import tracked, tracked_as
from instrumented_wrapper.operations import PoolState
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.pools import metrics
from instrumented_wrapper.pools.locked import limited
from instrumented_wrapper.pools.returning import take_back, to_take_back

Method = Callable[..., Any]
logger = logging.getLogger("instrumented_wrapper")
_under_way: Final[set[asyncio.Task[None]]] = set()  # nobody else need keep a task


def install(patches: Patches, options: Options, flows: Flows, kind: type[Any], fills: str) -> None:
    """Patch a class of pools.

    Args:
        patches: what was patched.
        options: whether the pools are measured.
        flows: what a return does.
        kind: the class.
        fills: the method with which an acquire begins: it throws away what is lost, and connects anew.
    """
    patches.close_over(kind, "release", functools.partial(_releasing, flows))
    patches.close_over(kind, fills, _filling)
    patches.close_over(kind, fills, limited)
    if options.metrics:
        metrics.install_async(patches, flows.pools, kind, _MEASURED)


def _state(pool: Any) -> PoolState | None:
    """Return what a pool has now; of one that is closed nothing. A connection that is being reset counts as used."""
    if pool._closed:
        return None
    waiting = sum(not waiter.done() for waiter in pool._cond._waiters)
    return PoolState(len(pool._free), len(pool._used), pool._minsize, pool.maxsize or None, waiting)


_MEASURED: Final = metrics.MeasuredPool("_acquire", "release", lambda connection: connection, _state)


def _filling(original: Method) -> Method:
    """Replace what is lost beneath the objects first."""

    @functools.wraps(original)
    async def fill(self: Any, *args: Any, **kwargs: Any) -> Any:
        if lost := [connection for connection in self._free if _is_lost(connection)]:
            try:
                await asyncio.gather(*(_replaced(connection) for connection in lost))
            finally:
                for connection in lost:
                    if _is_closed(connection):  # for good: aiomysql expects none here
                        self._free.remove(connection)
        return await original(self, *args, **kwargs)

    return fill


async def _replaced(connection: Any) -> None:
    """Replace what is lost beneath `connection`. Close it where some of its state could not be carried."""
    try:
        await connection.ping(False)
    except Exception as error:  # noqa: BLE001 - whatever it is, a pool hands out what works, or makes a new one
        logger.info("a pool replaces a connection that was lost: %s", type(error).__name__)
        connection.close()


def _is_lost(connection: object) -> bool:
    session = tracked_as(connection)
    return session is not None and session.switchable and tracked(connection)[0].is_lost(connection)  # type: ignore[index]


def _is_closed(connection: object) -> bool:
    found = tracked(connection)
    return found is not None and found[0].is_closed(connection)


def _releasing(flows: Flows, original: Method) -> Method:
    @functools.wraps(original)
    def release(self: Any, conn: Any) -> Any:
        if conn not in self._used or (found := to_take_back(conn)) is None:
            return original(self, conn)
        driver, session = found
        task = self._loop.create_task(_given_back(self, conn, driver, session, flows, original))
        _under_way.add(task)
        task.add_done_callback(_under_way.discard)
        return task

    return release


async def _given_back(
    pool: object, connection: object, driver: Driver, session: TrackedConnection, flows: Flows, release: Method
) -> None:
    fit = False
    try:
        async with driver.lock(connection):
            fit = await flows.run_async(take_back(driver, connection, session, flows, logger))
    finally:
        if not fit:
            driver.end(connection)
        future = release(pool, connection)
        session.returned = False
    await future
