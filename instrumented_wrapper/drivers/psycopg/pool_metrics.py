"""psycopg_pool's pools, measured: what they have, how long they make the app wait, how long it keeps a connection."""

from __future__ import annotations

import functools
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

import psycopg_pool

from instrumented_wrapper.drivers.psycopg.records import KEY, Record
from instrumented_wrapper.operations import Pools, PoolState
from instrumented_wrapper.patching import Patches

__all__ = ["install"]

Method = Callable[..., Any]
_WATCHED: Final = "_instrumented_wrapper"  # in the pool's own __dict__


def install(patches: Patches, pools: Pools) -> None:
    """Patch the four pools; the null pools inherit."""
    for kind in (psycopg_pool.ConnectionPool, psycopg_pool.AsyncConnectionPool):
        patches.close_over(kind, "__init__", functools.partial(_making, pools))
    sync, asynchronous = psycopg_pool.ConnectionPool, psycopg_pool.AsyncConnectionPool
    patches.close_over(sync, "getconn", functools.partial(_lending, pools))
    patches.close_over(asynchronous, "getconn", functools.partial(_lending_async, pools))
    patches.close_over(sync, "putconn", functools.partial(_taking_back, pools))
    patches.close_over(asynchronous, "putconn", functools.partial(_taking_back_async, pools))
    patches.close_over(sync, "_connect", functools.partial(_connecting, pools))
    patches.close_over(asynchronous, "_connect", functools.partial(_connecting_async, pools))


def _state(pool: Any) -> PoolState | None:
    """Return what a pool has now; of one that is closed nothing."""
    if pool.closed:
        return None
    known = pool.get_stats()
    size, idle = known["pool_size"], known["pool_available"]
    return PoolState(idle, size - idle, known["pool_min"], known["pool_max"] or None, known.get("requests_waiting", 0))


def _making(pools: Pools, original: Method) -> Method:
    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        _watch(pools, self)

    return __init__


def _watch(pools: Pools, pool: Any) -> None:
    vars(pool)[_WATCHED] = pools
    pools.watch(pool, pool.name, _state)


def _lending(pools: Pools, original: Method) -> Method:
    @functools.wraps(original)
    def getconn(self: Any, timeout: float | None = None) -> Any:
        if not pools.listens():
            return original(self, timeout)
        started = perf_counter()
        try:
            connection = original(self, timeout)
        except psycopg_pool.PoolTimeout:
            pools.timed_out(self.name)
            raise
        _lent(pools, self, connection, started)
        return connection

    return getconn


def _lending_async(pools: Pools, original: Method) -> Method:
    @functools.wraps(original)
    async def getconn(self: Any, timeout: float | None = None) -> Any:
        if not pools.listens():
            return await original(self, timeout)
        started = perf_counter()
        try:
            connection = await original(self, timeout)
        except psycopg_pool.PoolTimeout:
            pools.timed_out(self.name)
            raise
        _lent(pools, self, connection, started)
        return connection

    return getconn


def _lent(pools: Pools, pool: Any, connection: Any, started: float) -> None:
    now = perf_counter()
    pools.waited(pool.name, now - started)
    record: Record | None = connection.__dict__.get(KEY)
    if record is not None:
        record.lent = now
    if pool.__dict__.get(_WATCHED) is not pools:  # made while nothing was instrumented
        _watch(pools, pool)


def _taking_back(pools: Pools, original: Method) -> Method:
    @functools.wraps(original)
    def putconn(self: Any, conn: Any) -> None:
        _returned(pools, self, conn)
        return original(self, conn)  # type: ignore[no-any-return]

    return putconn


def _taking_back_async(pools: Pools, original: Method) -> Method:
    @functools.wraps(original)
    async def putconn(self: Any, conn: Any) -> None:
        _returned(pools, self, conn)
        return await original(self, conn)  # type: ignore[no-any-return]

    return putconn


def _returned(pools: Pools, pool: Any, connection: Any) -> None:
    record: Record | None = connection.__dict__.get(KEY)
    if record is not None and record.lent:
        lent, record.lent = record.lent, 0.0
        if pools.listens():
            pools.used(pool.name, perf_counter() - lent)


def _connecting(pools: Pools, original: Method) -> Method:
    @functools.wraps(original)
    def _connect(self: Any, *args: Any, **kwargs: Any) -> Any:
        started = perf_counter()
        connection = original(self, *args, **kwargs)
        pools.created(self.name, perf_counter() - started)
        return connection

    return _connect


def _connecting_async(pools: Pools, original: Method) -> Method:
    @functools.wraps(original)
    async def _connect(self: Any, *args: Any, **kwargs: Any) -> Any:
        started = perf_counter()
        connection = await original(self, *args, **kwargs)
        pools.created(self.name, perf_counter() - started)
        return connection

    return _connect
