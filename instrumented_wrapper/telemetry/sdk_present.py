"""Whether telemetry goes anywhere, here and now: without an SDK nothing of it is even put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from opentelemetry import context, metrics, trace
from opentelemetry.instrumentation import utils

_SUPPRESSING: Final = ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_INSTRUMENTATION_KEY_PLAIN")
_PROXIES: Final = ("ProxyTracer", "_ProxyMeter")


def nobody_listens(*sources: trace.Tracer | metrics.Meter) -> Callable[[], bool]:
    """Return a function that tells whether nothing goes anywhere that `sources` make.

    Without an SDK the API hands out proxies, which go on to look for a global provider; so does this. Where the API
    has changed and it cannot be seen, somebody may listen.
    """
    active = [source for source in sources if not isinstance(source, trace.NoOpTracer | metrics.NoOpMeter)]
    places = [_global_provider(source) for source in active]
    if any(type(source).__name__ not in _PROXIES for source in active) or any(name not in at for at, name in places):
        return lambda: False
    if not places:
        return lambda: True
    (at, name), (other, other_name) = places[0], places[-1]  # one or two: without a loop, this is asked often
    return lambda: at[name] is None and other[other_name] is None


def _enabled() -> Callable[[], bool]:
    """Return a function that does what `utils.is_instrumentation_enabled` does, and looks up the context once.

    It is asked for each statement. Where the keys are not where they were, that function is asked itself.
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
    """Return where the API keeps the provider that the app has set."""
    if isinstance(source, trace.Tracer):
        return vars(trace), "_TRACER_PROVIDER"
    return vars(getattr(metrics, "_internal", metrics)), "_METER_PROVIDER"
