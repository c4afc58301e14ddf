"""``psycopg2.pool``: a connection that comes back is reset, in the calling thread, after a rollback."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from instrumented_wrapper.drivers import Driver, Flows
from instrumented_wrapper.drivers.blocking.closing import reset_on_return
from instrumented_wrapper.drivers.blocking.native import Native
from instrumented_wrapper.drivers.blocking.records import record_of
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.self_test import missing

__all__ = ["install"]

Method = Callable[..., Any]
logger = logging.getLogger("instrumented_wrapper")


def install(patches: Patches, native: Native, driver: Driver, flows: Flows) -> None:
    """Patch the pools, whose ``putconn`` is one function under two names."""
    from psycopg2 import pool

    if lacking := missing({pool.AbstractConnectionPool: ["_putconn", "._rused", ".closed"]}):
        logger.warning("psycopg2.pool lacks %s: returns to a pool are not looked after", ", ".join(lacking))
        return
    taking_back = functools.partial(_taking_back, native, driver, flows)
    patches.close_over(pool.AbstractConnectionPool, "_putconn", taking_back)
    patches.close_over(pool.SimpleConnectionPool, "putconn", taking_back)


def _taking_back(native: Native, driver: Driver, flows: Flows, original: Method) -> Method:
    @functools.wraps(original)
    def putconn(self: Any, conn: Any, key: Any = None, close: bool = False) -> Any:
        record = record_of(conn)
        if record is None or close or not _takes(self, conn, key):
            return original(self, conn, key, close)
        clean = reset_on_return(native, driver, flows, conn, record)
        try:
            return original(self, conn, key, close or not clean)
        finally:
            record.returned = False

    return putconn


def _takes(pool: Any, connection: Any, key: Any) -> bool:
    """Tell whether the pool will take it (otherwise it raises)."""
    return not pool.closed and (key is not None or id(connection) in pool._rused)
