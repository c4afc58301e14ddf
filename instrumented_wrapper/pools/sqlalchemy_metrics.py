"""Metrics of SQLAlchemy's pools: connections, wait time and use time.

A pool is named by its ``pool_logging_name``, else by the server and the database of its connections.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import Pool, QueuePool
from sqlalchemy.pool.base import _ConnectionFairy, _ConnectionRecord

from instrumented_wrapper.drivers.registry import tracked, tracked_as
from instrumented_wrapper.operations import Pools, PoolState
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.pools.in_threads import own

Method = Callable[..., Any]
# In the ``__dict__`` of a pool: who is told of it, its name, its requests, whether it was disposed of.
_WATCHED: Final = "_instrumented_wrapper"
_NAME: Final = "_instrumented_wrapper_name"
_WAITING: Final = "_instrumented_wrapper_waiting"
_DISPOSED: Final = "_instrumented_wrapper_disposed"
_SINCE: Final = "_instrumented_wrapper_checked_out"  # in that of a record: when it was checked out


def install(patches: Patches, pools: Pools, connect: str) -> None:
    """Patch what is measured; `connect` is the name of the method that makes a connection."""
    patches.close_over(_ConnectionRecord, connect, functools.partial(_connecting, pools))
    patches.close_over(_ConnectionFairy, "_checkout", functools.partial(_checking_out, pools))
    patches.close_over(Pool, "_return_conn", functools.partial(_returning, pools))
    patches.close_over(QueuePool, "dispose", _disposing)


def name_of(pool: Any, connection: Any = None) -> str:
    """Return the name of a pool: the app's own, else where its first connection led; `connection` is one of its own."""
    name: str | None = pool._orig_logging_name or pool.__dict__.get(_NAME)
    if not name and connection is not None:
        name = pool.__dict__[_NAME] = _called_by(connection)
    return name or str(getattr(pool._dialect, "name", type(pool).__name__))  # without an engine there is no dialect


def _called_by(connection: object) -> str:
    """Return the server and the database of a connection, as OpenTelemetry's conventions put them together."""
    if (found := tracked(connection)) is None:
        return ""
    _, namespace, address, port = found[0].peer(connection)
    server = f"{address}:{port}" if port else address
    return "/".join(part for part in (server, namespace) if part)


def _state(pool: Any) -> PoolState | None:
    """Return the present state of a pool; None for one that was disposed of."""
    if pool.__dict__.get(_DISPOSED) and not pool.checkedout():
        return None
    size, overflow = pool.size(), pool._max_overflow
    most = None if size <= 0 or overflow < 0 else size + overflow
    return PoolState(pool.checkedin(), pool.checkedout(), None, most, len(pool.__dict__.get(_WAITING, ())))


def _connecting(pools: Pools, original: Method) -> Method:
    @functools.wraps(original)
    def connect(self: Any) -> None:
        started = perf_counter()
        original(self)
        if pools.listens():
            pool, connection = self._ConnectionRecord__pool, own(self.driver_connection)
            _watch(pools, pool, connection)
            if _is_measured(connection):
                pools.created(name_of(pool), perf_counter() - started)

    return connect


def _watch(pools: Pools, pool: object, connection: object) -> None:
    known = pool.__dict__
    known[_DISPOSED] = False
    name = name_of(pool, connection)
    if isinstance(pool, QueuePool) and known.get(_WATCHED) is not pools:
        known[_WATCHED] = pools
        pools.watch(pool, name, _state)


def _is_measured(connection: object) -> bool:
    session = tracked_as(connection)
    return session is None or session.options.metrics


def _checking_out(pools: Pools, original: Method) -> Method:
    """``_ConnectionFairy._checkout``: of a pool, or once more by whoever has the connection (`fairy`)."""

    @functools.wraps(original)
    def _checkout(cls: Any, pool: object, threadconns: object = None, fairy: object = None) -> Any:
        if fairy is not None or not pools.listens():
            return original(cls, pool, threadconns, fairy)
        waiting = pool.__dict__.setdefault(_WAITING, [])
        waiting.append(None)
        started = perf_counter()
        try:
            got = original(cls, pool, threadconns, fairy)
        except PoolTimeout:
            pools.timed_out(name_of(pool))
            raise
        finally:
            waiting.pop()
        if (record := got._connection_record) is not None and _is_measured(own(record.driver_connection)):
            now = record.__dict__[_SINCE] = perf_counter()
            pools.waited(name_of(pool), now - started)
        return got

    return _checkout


def _returning(pools: Pools, original: Method) -> Method:
    @functools.wraps(original)
    def _return_conn(self: Any, record: Any) -> None:
        since = record.__dict__.pop(_SINCE, None)
        original(self, record)
        if since is not None and pools.listens():
            pools.used(name_of(self), perf_counter() - since)

    return _return_conn


def _disposing(original: Method) -> Method:
    @functools.wraps(original)
    def dispose(self: Any) -> None:
        self.__dict__[_DISPOSED] = True
        original(self)

    return dispose
