"""Detect whether telemetry is exported at all: without an SDK nothing is created."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from weakref import WeakSet

from opentelemetry import context, metrics, trace
from opentelemetry.instrumentation import utils

_SUPPRESSING: Final = ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_INSTRUMENTATION_KEY_PLAIN")
_PROXIES: Final = ("ProxyTracer", "_ProxyMeter")


def nobody_listens(*sources: trace.Tracer | metrics.Meter) -> Callable[[], bool]:
    """Return a function that returns True if nothing that `sources` create is recorded.

    Without an SDK the API returns proxies, which keep looking for a global provider; so does this function. If the API
    has changed and the answer is unknown, it returns False.
    """
    active = [source for source in sources if not isinstance(source, trace.NoOpTracer | metrics.NoOpMeter)]
    places = [_global_provider(source) for source in active]
    if any(type(source).__name__ not in _PROXIES for source in active) or any(name not in at for at, name in places):
        return lambda: False
    if not places:
        return lambda: True
    (at, name), (other, other_name) = places[0], places[-1]  # one or two: without a loop, this is asked often
    return lambda: at[name] is None and other[other_name] is None


def is_new(meter: metrics.Meter, known: WeakSet[metrics.Meter]) -> bool:
    """Return True once for each meter. All proxies that the API hands out before a provider is set lead to one."""
    is_known = any(_behind(one) is _behind(meter) for one in known)
    known.add(meter)
    return not is_known


def _behind(meter: metrics.Meter) -> object:
    return getattr(meter, "_real_meter", meter)


def _enabled() -> Callable[[], bool]:
    """Return a function equal to `utils.is_instrumentation_enabled` that looks up the context only once.

    It is called for each statement. If the keys have moved, the original function is returned.
    """
    one, other = (getattr(utils, name, None) for name in _SUPPRESSING)
    if one is None or other is None:
        return utils.is_instrumentation_enabled

    def enabled() -> bool:
        current = context.get_current()
        return not (current and (current.get(one) or current.get(other)))

    return enabled


is_enabled: Final = _enabled()


def _global_provider(source: trace.Tracer | metrics.Meter) -> tuple[dict[str, Any], str]:
    """Return where the API stores the provider that the app has set."""
    if isinstance(source, trace.Tracer):
        return vars(trace), "_TRACER_PROVIDER"
    return vars(getattr(metrics, "_internal", metrics)), "_METER_PROVIDER"
