"""DBUtils' ``PooledDB``: a return ends a use of the connection, after the pool's rollback and without its lock."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from dbutils.pooled_db import (
    PooledDB,
    PooledDedicatedDBConnection,
    PooledSharedDBConnection,
    TooManyConnectionsError,
)

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.registry import tracked, tracked_as
from instrumented_wrapper.operations import PoolState
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches, around
from instrumented_wrapper.pools import metrics
from instrumented_wrapper.pools.locked import limited
from instrumented_wrapper.pools.request_end import end_use
from instrumented_wrapper.pools.returning import CLOSE, ON, REPORT, policy

Method = Callable[..., Any]
_PROXIES: Final = (PooledDedicatedDBConnection, PooledSharedDBConnection)
PARTS: Final = {
    PooledDB: "connection cache ._lock ._connections ._idle_cache ._maxconnections ._reset".split(),
    PooledDedicatedDBConnection: ["close", "__del__", "._con"],
    PooledSharedDBConnection: ["close", "__del__", "._con"],
}
_here: Final = threading.local()  # `finalising`: a connection that the app dropped goes back to its pool


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch the pool, and the proxies that it hands out."""
    patches.close_over(PooledDB, "connection", limited)
    patches.close_over(PooledDB, "cache", functools.partial(_taking_back, flows))
    for kind in _PROXIES:
        patches.close_over(kind, "__del__", _finalising)
    if options.metrics:
        metrics.install(patches, flows.pools, PooledDB, _MEASURED)


def _taking_back(flows: Flows, original: Method) -> Method:
    """``PooledDB.cache``: without the lock of the pool, after its rollback."""

    @functools.wraps(original)
    def cache(self: Any, con: Any) -> None:
        session = tracked_as(con._con)
        if session is None or con._closed or session.is_clean():
            return original(self, con)  # type: ignore[no-any-return]
        if getattr(_here, "finalising", False):
            if policy(session, REPORT) in (ON, CLOSE) or session.refusal.error is not None:
                _end(con)  # a finaliser may run within any lock: it sends nothing
        else:
            con._reset(force=self._reset)
            end_use(flows, con._con, con._close)
        if con._closed:
            return _discard(self)
        return original(self, con)  # type: ignore[no-any-return]

    return cache


def _end(con: Any) -> None:
    if (found := tracked(con._con)) is not None:
        found[0].end(con._con)
    con._closed = True


def _discard(pool: Any) -> None:
    """Take a connection that was closed out of the pool's count, and let the next request make another one."""
    with pool._lock:
        pool._connections -= 1
        pool._lock.notify()


@around
@contextmanager
def _finalising(proxy: object) -> Iterator[None]:
    """``__del__`` of a proxy gives its connection back."""
    before = getattr(_here, "finalising", False)
    _here.finalising = True
    try:
        yield
    finally:
        _here.finalising = before


def _state(pool: Any) -> PoolState:
    return PoolState(len(pool._idle_cache), pool._connections, 0, pool._maxconnections or None, 0)


def _connection_of(con: Any) -> Any:
    return (con._con if isinstance(con, _PROXIES) else con)._con


_MEASURED: Final = metrics.MeasuredPool(
    "connection", "cache", _connection_of, _state, exhausted=(TooManyConnectionsError,)
)
