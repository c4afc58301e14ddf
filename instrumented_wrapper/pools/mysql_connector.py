"""``mysql.connector.pooling``: the return of a connection, and the pool's own check before it hands one out."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from mysql.connector import errors, pooling

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.registry import tracked
from instrumented_wrapper.operations import PoolState
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.pools import metrics
from instrumented_wrapper.pools.locked import limited
from instrumented_wrapper.pools.returning import policy_of_clearing, take_back, to_take_back
from instrumented_wrapper.self_test import missing

Method = Callable[..., Any]
logger = logging.getLogger("instrumented_wrapper")
PARTS: Final = {pooling.PooledMySQLConnection: ["close", "._cnx", "._cnx_pool"]}


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch the pool and the connections that it hands out."""
    patches.close_over(pooling.PooledMySQLConnection, "close", functools.partial(_returning, flows))
    patches.close_over(pooling.MySQLConnectionPool, "get_connection", limited)  # the pool checks with its lock held
    if options.metrics and not missing({pooling.MySQLConnectionPool: ["add_connection", "._cnx_queue"]}):
        metrics.install(patches, flows.pools, pooling.MySQLConnectionPool, _MEASURED)


def _returning(flows: Flows, original: Method) -> Method:
    """``PooledMySQLConnection.close``: reset by us, then by the pool, which connects one anew that has ended."""

    @functools.wraps(original)
    def close(self: Any) -> None:
        connection = self._cnx
        if (found := tracked(connection)) is None:
            return original(self)  # type: ignore[no-any-return]
        driver, session = found
        fit = to_take_back(connection) is None
        chosen = policy_of_clearing(session, self._cnx_pool.reset_session)
        try:
            if not fit:
                name = self._cnx_pool.pool_name
                fit = flows.run(take_back(driver, connection, session, flows, logger, chosen, name))
            if not fit:
                driver.end(connection)
        finally:
            with driver.returning(connection), contextlib.suppress(*(() if fit else (Exception,))):  # it has ended
                original(self)
            session.returned = False
        return None

    return close


def _state(pool: Any) -> PoolState:
    idle = pool._cnx_queue.qsize()
    return PoolState(idle, pool.pool_size - idle, pool.pool_size, pool.pool_size, 0)


_MEASURED: Final = metrics.MeasuredPool(
    "get_connection",
    "add_connection",
    lambda given: getattr(given, "_cnx", given),
    _state,
    (errors.PoolError,),
    attrgetter("pool_name"),
)
