"""``psycopg2.pool``: a returned connection is reset in the calling thread, after a rollback."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, Final

from psycopg2 import pool

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.operations import PoolState
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.pools import metrics
from instrumented_wrapper.pools.locked import limited
from instrumented_wrapper.pools.returning import take_back, to_take_back

Method = Callable[..., Any]
logger = logging.getLogger("instrumented_wrapper")
PARTS: Final = {pool.AbstractConnectionPool: "_getconn _putconn ._pool ._rused ._used .closed".split()}


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch the pools, whose ``putconn`` is one function under two names."""
    patches.close_over(pool.AbstractConnectionPool, "_getconn", limited)
    patches.close_over(pool.AbstractConnectionPool, "_putconn", functools.partial(_returning, flows))
    patches.close_over(pool.SimpleConnectionPool, "putconn", functools.partial(_returning, flows))
    if options.metrics:
        metrics.install(patches, flows.pools, pool.AbstractConnectionPool, _measured("_getconn", "_putconn"))
        metrics.install(patches, flows.pools, pool.SimpleConnectionPool, _measured("getconn", "putconn"))


def _measured(takes: str, gives: str) -> metrics.MeasuredPool:
    return metrics.MeasuredPool(takes, gives, lambda connection: connection, _state, exhausted=(pool.PoolError,))


def _state(pool: Any) -> PoolState | None:
    return None if pool.closed else PoolState(len(pool._pool), len(pool._used), pool.minconn, pool.maxconn, 0)


def _returning(flows: Flows, original: Method) -> Method:
    """Wrap ``putconn``."""

    @functools.wraps(original)
    def putconn(self: Any, conn: object, key: object = None, close: bool = False) -> None:
        if close or (found := to_take_back(conn)) is None or not _takes(self, conn, key):
            return original(self, conn, key, close)  # type: ignore[no-any-return]
        driver, session = found
        fit = False
        try:
            fit = flows.run(take_back(driver, conn, session, flows, logger))
        finally:
            original(self, conn, key, not fit)
            session.returned = False
        return None

    return putconn


def _takes(pool: Any, connection: Any, key: Any) -> bool:
    """Return True if the pool accepts the connection; otherwise it raises."""
    return not pool.closed and (key is not None or id(connection) in pool._rused)
