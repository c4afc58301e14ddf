"""aiomysql.Pool: a connection that comes back is reset by a task, before the pool takes it.

``Pool.release`` is no coroutine: it returns a future, which an app need not await. Meanwhile the connection counts as
used. As in bare aiomysql, one with an open transaction is closed.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any, Final

from aiomysql import pool

from instrumented_wrapper.drivers import Driver, Flows
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.pools.returning import take_back, to_take_back
from instrumented_wrapper.self_test import missing

__all__ = ["install"]

Method = Callable[..., Any]
logger = logging.getLogger("instrumented_wrapper")
_PARTS: Final = "release ._loop ._used".split()
_under_way: Final[set[asyncio.Task[None]]] = set()  # nobody else need keep a task


def install(patches: Patches, options: Options, flows: Flows) -> str:
    """Patch the pool."""
    if lacking := ", ".join(missing({pool.Pool: _PARTS})):
        logger.warning("aiomysql.Pool lacks %s: returns to a pool are not looked after", lacking)
        return f"left alone: it lacks {lacking}"
    patches.close_over(pool.Pool, "release", functools.partial(_releasing, flows))
    return "patched"


def _releasing(flows: Flows, original: Method) -> Method:
    @functools.wraps(original)
    def release(self: Any, conn: Any) -> Any:
        if conn not in self._used or (found := to_take_back(conn)) is None:
            return original(self, conn)
        driver, session = found
        if session.lost is not None or driver.is_in_transaction(conn):
            driver.end(conn)
            return original(self, conn)
        task = self._loop.create_task(_given_back(self, conn, driver, session, flows, original))
        _under_way.add(task)
        task.add_done_callback(_under_way.discard)
        return task

    return release


async def _given_back(
    pool: Any, connection: Any, driver: Driver, session: TrackedConnection, flows: Flows, release: Method
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
