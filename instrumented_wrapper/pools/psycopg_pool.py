"""psycopg_pool: when a pool hands a connection out, takes it back, and checks it.

What the pool does before it first hands a connection out is the baseline. A return resets in the calling thread, after
a rollback, before the pool's own ``reset`` callback; nothing that a pool does while it takes one back is a switch.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import psycopg_pool

from instrumented_wrapper.drivers import Driver, Flows
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.drivers.registry import checking_out, configuring, hand_out, tracked, tracked_as
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches, around
from instrumented_wrapper.pools import psycopg_pool_metrics
from instrumented_wrapper.pools.returning import take_back, to_take_back

Method = Callable[..., Any]
logger = logging.getLogger("instrumented_wrapper")
pool_logger = logging.getLogger("psycopg.pool")  # the pool's own: users look for its warnings there
_POOLS: Final = (psycopg_pool.ConnectionPool, psycopg_pool.AsyncConnectionPool)  # the null pools inherit
_IDLE: Final = 0  # psycopg.pq.TransactionStatus
PARTS: Final = dict.fromkeys(_POOLS, "getconn putconn _reset_connection _connect ._check ._reset ._pool".split())


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch the four pools."""
    sync, asynchronous = _POOLS
    for kind in _POOLS:
        patches.close_over(kind, "_connect", _connecting)
        patches.close_over(kind, "_reset_connection", _cleaning)
    patches.close_over(sync, "getconn", _checking_out)
    patches.close_over(asynchronous, "getconn", _checking_out_async)
    patches.close_over(sync, "putconn", functools.partial(_taking_back, flows))
    patches.close_over(asynchronous, "putconn", functools.partial(_taking_back_async, flows))
    if options.metrics:
        psycopg_pool_metrics.install(patches, flows.pools)


# --- a check-out ------------------------------------------------------------------------------------------------


@around
def _connecting(*args: object, **kwargs: object) -> AbstractContextManager[None]:
    """``_connect``: it also calls ``configure``. The baseline ends at the first check-out."""
    return configuring(until_checkout=True)


def _checking_out(original: Method) -> Method:
    @functools.wraps(original)
    def getconn(self: Any, timeout: float | None = None) -> Any:
        if self._check is None:
            connection = original(self, timeout)
        else:
            with _checked(self, timeout):
                connection = original(self, timeout)
        _hand_out(connection)
        return connection

    return getconn


def _checking_out_async(original: Method) -> Method:
    @functools.wraps(original)
    async def getconn(self: Any, timeout: float | None = None) -> Any:
        if self._check is None:
            connection = await original(self, timeout)
        else:
            with _checked(self, timeout):
                connection = await original(self, timeout)
        _hand_out(connection)
        return connection

    return getconn


def _checked(pool: Any, timeout: float | None) -> AbstractContextManager[None]:
    """While inside, a switch that a health check starts lasts no longer than the pool's client waits."""
    return checking_out(time.monotonic() + (pool.timeout if timeout is None else timeout))


def _hand_out(connection: object) -> None:
    if (session := tracked_as(connection)) is not None:
        hand_out(session)


# --- a return ---------------------------------------------------------------------------------------------------


def _taking_back(flows: Flows, original: Method) -> Method:
    @functools.wraps(original)
    def putconn(self: Any, conn: Any) -> None:
        if (found := to_take_back(conn)) is None or not _is_from(self, conn):
            return original(self, conn)  # type: ignore[no-any-return]
        driver, session = found
        try:
            _announce_rollback(driver, conn, session)
            if not flows.run(take_back(driver, conn, session, flows, pool_logger, pool=self.name)):
                driver.end(conn)
        finally:
            original(self, conn)
            session.returned = False
        return None

    return putconn


def _taking_back_async(flows: Flows, original: Method) -> Method:
    @functools.wraps(original)
    async def putconn(self: Any, conn: Any) -> None:
        if (found := to_take_back(conn)) is None or not _is_from(self, conn):
            return await original(self, conn)  # type: ignore[no-any-return]
        driver, session = found
        try:
            _announce_rollback(driver, conn, session)
            if not await flows.run_async(take_back(driver, conn, session, flows, pool_logger, pool=self.name)):
                driver.end(conn)
        finally:
            await original(self, conn)
            session.returned = False
        return None

    return putconn


def _is_from(pool: object, connection: object) -> bool:
    """Return True if the pool accepts the connection; otherwise it raises."""
    return getattr(connection, "_pool", None) is pool


def _announce_rollback(driver: Driver, connection: object, session: TrackedConnection) -> None:
    """Log what the pool itself would log, had its connection not been rolled back already."""
    if session.refusal.error is None and driver.is_in_transaction(connection):
        pool_logger.warning("rolling back returned connection: %s", connection)


@around
def _cleaning(pool: object, conn: object) -> AbstractContextManager[None]:
    """``_reset_connection``: what the pool does here (a rollback, its ``reset`` callback) never starts a switch."""
    driver = _sender(pool, conn)
    return nullcontext() if driver is None else driver.returning(conn)


def _sender(pool: Any, connection: Any) -> Driver | None:
    """Return the driver if the pool may send something; None on an idle connection without a callback."""
    if pool._reset is None and connection.pgconn.transaction_status == _IDLE:  # as the pool itself looks at it
        return None
    found = tracked(connection)
    return None if found is None else found[0]
