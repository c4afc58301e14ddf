"""peewee's pools: what its databases set when they connect is the baseline, at each checkout too.

A return ends a use of the connection. The pool itself rolls back what is open.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from peewee import Database
from playhouse.pool import PooledDatabase

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.registry import configuring, hand_out, tracked_as
from instrumented_wrapper.operations import PoolState
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches, around
from instrumented_wrapper.pools import metrics
from instrumented_wrapper.pools.request_end import end_use

Method = Callable[..., Any]
PARTS: Final = {
    Database: ["connect"],
    PooledDatabase: "_connect _close ._in_use ._connections ._max_connections .conn_key".split(),
}


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch what connects, and what hands connections out and takes them back."""
    patches.close_over(Database, "connect", _connecting)
    patches.close_over(PooledDatabase, "_connect", _checking_out)
    patches.close_over(PooledDatabase, "_close", functools.partial(_taking_back, flows))
    if options.metrics:
        metrics.install(patches, flows.pools, PooledDatabase, _MEASURED)


@around
def _connecting(database: object, *args: object, **kwargs: object) -> AbstractContextManager[None]:
    """``Database.connect``: also a connection of a pool is initialised here, each time."""
    return configuring()


def _checking_out(original: Method) -> Method:
    @functools.wraps(original)
    def _connect(self: Any) -> Any:
        connection = original(self)
        if (session := tracked_as(connection)) is not None:
            hand_out(session)
        return connection

    return _connect


def _taking_back(flows: Flows, original: Method) -> Method:
    """``_close``: before the pool locks itself."""

    @functools.wraps(original)
    def _close(self: Any, conn: Any, close_conn: bool = False) -> Any:
        unfit: list[bool] = []
        if not close_conn and self.conn_key(conn) in self._in_use:
            end_use(flows, conn, functools.partial(unfit.append, True))
        if unfit:  # peewee 3.17 does not forget a connection that it is asked to close
            self._in_use.pop(self.conn_key(conn), None)
        return original(self, conn, close_conn or bool(unfit))

    return _close


def _state(pool: Any) -> PoolState:
    return PoolState(len(pool._connections), len(pool._in_use), 0, pool._max_connections or None, 0)


_MEASURED: Final = metrics.MeasuredPool("_connect", "_close", lambda connection: connection, _state)
