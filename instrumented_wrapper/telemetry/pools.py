"""Metrics of connection pools, by OpenTelemetry's conventions for database clients.

The state of a pool is read when metrics are collected, and costs nothing in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final
from weakref import ReferenceType, WeakSet, ref

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from instrumented_wrapper.operations import PoolState
from instrumented_wrapper.telemetry.attributes import POOL_NAME as NAME
from instrumented_wrapper.telemetry.never_raise import never_raise
from instrumented_wrapper.telemetry.operations import SECONDS
from instrumented_wrapper.telemetry.sdk_present import is_enabled, is_new, nobody_listens

CONNECTION: Final = "db.client.connection."
STATE: Final = CONNECTION + "state"
Asked = tuple[ReferenceType[Any], str, Callable[[Any], PoolState | None]]

# Callbacks cannot be taken from an OpenTelemetry meter again: there is one set of them, whoever watches.
_watched: dict[int, Asked] = {}
_observed: WeakSet[Meter] = WeakSet()


class PoolMetrics:
    """`operations.Pools`, by OpenTelemetry."""

    def __init__(self, meter: Meter) -> None:
        self._nobody = nobody_listens(meter)
        self._waits = _seconds(meter, "wait_time", "The time it took to obtain an open connection from the pool.")
        self._uses = _seconds(meter, "use_time", "The time between borrowing a connection and returning it.")
        self._creations = _seconds(meter, "create_time", "The time it took to create a new connection.")
        self._timeouts = meter.create_counter(
            CONNECTION + "timeouts", "{timeout}", "Requests for a connection that timed out."
        )
        if is_new(meter, _observed):
            _observe(meter)

    def listens(self) -> bool:
        """Return True if a meter provider is configured."""
        return not self._nobody() and is_enabled()

    def watch(self, pool: object, name: str, state: Callable[[Any], PoolState | None]) -> None:
        """Observe `pool` from now on, as long as it exists."""
        number = id(pool)  # a pool need not be hashable
        _watched[number] = ref(pool, lambda _: _watched.pop(number, None)), name, state

    def forget(self) -> None:
        """Stop observing all pools."""
        _watched.clear()

    def waited(self, name: str, seconds: float) -> None:
        """Record that the pool handed a connection out."""
        never_raise(self._waits.record, seconds, {NAME: name})

    def timed_out(self, name: str) -> None:
        """The pool had no connection in time."""
        never_raise(self._timeouts.add, 1, {NAME: name})

    def used(self, name: str, seconds: float) -> None:
        """A connection came back."""
        never_raise(self._uses.record, seconds, {NAME: name})

    def created(self, name: str, seconds: float) -> None:
        """The pool made a connection."""
        never_raise(self._creations.record, seconds, {NAME: name})


def _seconds(meter: Meter, name: str, description: str) -> Histogram:
    return meter.create_histogram(CONNECTION + name, "s", description, explicit_bucket_boundaries_advisory=SECONDS)


def _observe(meter: Meter) -> None:
    """Create the four observed metrics: connections in use and idle, their limits, and pending requests."""
    observe, unit = meter.create_observable_up_down_counter, "{connection}"
    observe(CONNECTION + "count", [_counts], unit, "Connections in the state that the attribute says.")
    observe(CONNECTION + "idle.min", [_one("least")], unit, "The smallest number of connections that the pool keeps.")
    observe(CONNECTION + "max", [_one("most")], unit, "The largest number of connections that the pool may have.")
    observe(CONNECTION + "pending_requests", [_one("waiting")], "{request}", "Requests that wait for a connection.")


def _states() -> dict[str, PoolState]:
    """Return the states of all pools by name; pools of one name are one series."""
    found: dict[str, PoolState] = {}
    for pool, name, ask in list(_watched.values()):
        state = None if (present := pool()) is None else never_raise(ask, present)
        if state is not None:
            found[name] = PoolState(*map(_sum, found[name], state)) if name in found else state
    return found


def _sum(one: int | None, other: int | None) -> Any:
    return other if one is None else one if other is None else one + other


def _counts(_: CallbackOptions) -> Iterable[Observation]:
    for name, state in _states().items():
        yield Observation(state.idle, {NAME: name, STATE: "idle"})
        yield Observation(state.used, {NAME: name, STATE: "used"})


def _one(part: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        for name, state in _states().items():
            if (number := getattr(state, part)) is not None:
                yield Observation(number, {NAME: name})

    return observe
