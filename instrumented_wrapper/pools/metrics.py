"""Metrics of a pool. A pool without a name of its own is named by its server and database.

Knows no pool: each pool's module names the methods that check connections out and in, and reads the pool's state.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final, NamedTuple

from instrumented_wrapper.drivers.registry import tracked_as
from instrumented_wrapper.operations import Pools, PoolState, Site
from instrumented_wrapper.patching import Patches

Method = Callable[..., Any]
# In the `__dict__` of the pool, or of what it has always: what is known of it, as `_Known`.
_KNOWN: Final = "_instrumented_wrapper"


class MeasuredPool(NamedTuple):
    """Description of one kind of pool for its metrics.

    Attributes:
        takes: the method that checks a connection out.
        gives: the method that takes it back; its first argument is what was checked out, or what is within.
        connection_of: returns the driver's own connection of either.
        state: returns the present state of a pool.
        exhausted: what `takes` raises if there is no connection.
        name: returns the pool's own name, if it has one.
        keeper: returns an object that lives as long as the pool, for a pool whose class has slots only.
    """

    takes: str
    gives: str
    connection_of: Callable[[Any], Any]
    state: Callable[[Any], PoolState | None]
    exhausted: tuple[type[Exception], ...] = ()
    name: Callable[[Any], str] | None = None
    keeper: Callable[[Any], Any] = lambda pool: pool


class _Known:
    """One observed pool: its recorder, its name, and the times at which its connections were checked out."""

    def __init__(self, pools: Pools, name: str) -> None:
        self.pools, self.name = pools, name
        self.since: dict[int, float] = {}


def install(patches: Patches, pools: Pools, kind: type[Any], measured: MeasuredPool) -> None:
    """Patch the two methods of a pool."""
    patches.close_over(kind, measured.takes, functools.partial(_checking_out, pools, measured))
    patches.close_over(kind, measured.gives, functools.partial(_taking_back, pools, measured))


def install_async(patches: Patches, pools: Pools, kind: type[Any], measured: MeasuredPool) -> None:
    """Patch the two methods of a pool whose calls are awaited."""
    patches.close_over(kind, measured.takes, functools.partial(_checking_out_async, pools, measured))
    patches.close_over(kind, measured.gives, functools.partial(_taking_back, pools, measured))


def _checking_out(pools: Pools, measured: MeasuredPool, original: Method) -> Method:
    @functools.wraps(original)
    def take(self: Any, *args: object, **kwargs: object) -> Any:
        if not pools.listens():
            return original(self, *args, **kwargs)
        started = perf_counter()
        try:
            taken = original(self, *args, **kwargs)
        except measured.exhausted:
            _timed_out(pools, measured, self)
            raise
        if (connection := measured.connection_of(taken)) is not None:
            _checked_out(pools, measured, self, connection, started)
        return taken

    return take


def _checking_out_async(pools: Pools, measured: MeasuredPool, original: Method) -> Method:
    @functools.wraps(original)
    async def take(self: Any, *args: object, **kwargs: object) -> Any:
        if not pools.listens():
            return await original(self, *args, **kwargs)
        started = perf_counter()
        try:
            taken = await original(self, *args, **kwargs)
        except measured.exhausted:
            _timed_out(pools, measured, self)
            raise
        if (connection := measured.connection_of(taken)) is not None:
            _checked_out(pools, measured, self, connection, started)
        return taken

    return take


def _timed_out(pools: Pools, measured: MeasuredPool, pool: object) -> None:
    if (known := vars(measured.keeper(pool)).get(_KNOWN)) is not None:
        pools.timed_out(known.name)


def _checked_out(pools: Pools, measured: MeasuredPool, pool: object, connection: object, started: float) -> None:
    session = tracked_as(connection)
    if session is None or not session.options.metrics:
        return
    keeper = measured.keeper(pool)
    known: _Known | None = vars(keeper).get(_KNOWN)
    if known is None or known.pools is not pools:
        known = vars(keeper)[_KNOWN] = _Known(pools, measured.name(pool) if measured.name else name_by(session.site()))
        pools.watch(keeper, known.name, measured.state)
    now = perf_counter()
    known.since[id(connection)] = now
    pools.waited(known.name, now - started)


def name_by(site: Site) -> str:
    """Return what OpenTelemetry's conventions make of a pool without a name."""
    server = site.address if site.port is None else f"{site.address}:{site.port}"
    return f"{server}/{site.namespace.partition('|')[0]}"


def _taking_back(pools: Pools, measured: MeasuredPool, original: Method) -> Method:
    @functools.wraps(original)
    def give(self: Any, *args: object, **kwargs: object) -> Any:
        known: _Known | None = vars(measured.keeper(self)).get(_KNOWN)
        given = next(iter((*args, *kwargs.values())), None)
        if known is not None and (since := known.since.pop(id(measured.connection_of(given)), 0.0)):
            pools.used(known.name, perf_counter() - since)
        return original(self, *args, **kwargs)

    return give
