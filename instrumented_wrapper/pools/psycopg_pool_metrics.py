"""Metrics of psycopg_pool: connections, wait time and use time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Final

import psycopg_pool

from instrumented_wrapper.drivers.registry import tracked
from instrumented_wrapper.operations import Pools, PoolState
from instrumented_wrapper.patching import Patches, around

Method = Callable[..., Any]
# In the pool's own __dict__: who is told of it; which connections the app has, and since when (0.0: not measured).
_WATCHED: Final = "_instrumented_wrapper"
_CHECKED_OUT: Final = "_instrumented_wrapper_checked_out"


def install(patches: Patches, pools: Pools) -> None:
    """Patch the four pools; the null pools inherit."""
    for kind in (psycopg_pool.ConnectionPool, psycopg_pool.AsyncConnectionPool):
        patches.close_over(kind, "__init__", functools.partial(_making, pools))
        patches.close_over(kind, "_connect", around(functools.partial(_connecting, pools)))
    sync, asynchronous = psycopg_pool.ConnectionPool, psycopg_pool.AsyncConnectionPool
    patches.close_over(sync, "getconn", functools.partial(_checking_out, pools))
    patches.close_over(asynchronous, "getconn", functools.partial(_checking_out_async, pools))
    patches.close_over(sync, "putconn", functools.partial(_taking_back, pools))
    patches.close_over(asynchronous, "putconn", functools.partial(_taking_back_async, pools))


def _state(pool: Any) -> PoolState | None:
    """Return the present state of a pool; None for a closed one."""
    if pool.closed:
        return None
    known = pool.get_stats()
    idle, waiting = known["pool_available"], known.get("requests_waiting", 0)
    return PoolState(idle, len(vars(pool)[_CHECKED_OUT]), known["pool_min"], known["pool_max"] or None, waiting)


def _making(pools: Pools, original: Method) -> Method:
    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        _watch(pools, self)

    return __init__


def _watch(pools: Pools, pool: Any) -> None:
    vars(pool)[_WATCHED], vars(pool)[_CHECKED_OUT] = pools, {}
    pools.watch(pool, pool.name, _state)


def _checking_out(pools: Pools, original: Method) -> Method:
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
        _checked_out(pools, self, connection, started)
        return connection

    return getconn


def _checking_out_async(pools: Pools, original: Method) -> Method:
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
        _checked_out(pools, self, connection, started)
        return connection

    return getconn


def _checked_out(pools: Pools, pool: Any, connection: object, started: float) -> None:
    now = perf_counter()
    if pool.__dict__.get(_WATCHED) is not pools:  # made while nothing was instrumented
        _watch(pools, pool)
    found = tracked(connection)
    measured = found is not None and found[1].options.metrics
    pool.__dict__[_CHECKED_OUT][id(connection)] = now if measured else 0.0
    if measured:
        pools.waited(pool.name, now - started)


def _taking_back(pools: Pools, original: Method) -> Method:
    @functools.wraps(original)
    def putconn(self: Any, conn: object) -> None:
        seconds = _seconds_used(pools, self, conn)
        original(self, conn)
        if seconds:
            pools.used(self.name, seconds)

    return putconn


def _taking_back_async(pools: Pools, original: Method) -> Method:
    @functools.wraps(original)
    async def putconn(self: Any, conn: object) -> None:
        seconds = _seconds_used(pools, self, conn)
        await original(self, conn)
        if seconds:
            pools.used(self.name, seconds)

    return putconn


def _seconds_used(pools: Pools, pool: object, connection: object) -> float:
    """Return how long the app had a connection, to be recorded once the pool has taken it: it may refuse; 0.0: not."""
    checked_out: dict[int, float] = pool.__dict__.get(_CHECKED_OUT, {})
    since = checked_out.pop(id(connection), 0.0)  # before the pool hands it out again
    return perf_counter() - since if since and pools.listens() else 0.0


@contextmanager
def _connecting(pools: Pools, pool: Any, *args: object, **kwargs: object) -> Iterator[None]:
    started = perf_counter()
    yield
    pools.created(pool.name, perf_counter() - started)
