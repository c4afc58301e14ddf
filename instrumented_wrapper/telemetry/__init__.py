"""Events become OpenTelemetry spans and metrics. Knows events and OpenTelemetry, no driver and no database."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import TracerProvider, get_tracer

from instrumented_wrapper.events import Event, Finish, Listener
from instrumented_wrapper.telemetry.attributes import SCOPE
from instrumented_wrapper.telemetry.metrics import measuring
from instrumented_wrapper.telemetry.spans import here, tracing

__all__ = ["listeners", "locator"]

logger = logging.getLogger("instrumented_wrapper")


def listeners(
    version: str, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None
) -> list[Listener]:
    """Return what listens to the events: the global providers are used where none is given, also if set later."""
    tracer = get_tracer(SCOPE, version, tracer_provider)
    meter = get_meter(SCOPE, version, meter_provider)
    return [_harmless(measuring(meter)), _harmless(tracing(tracer))]


def locator() -> object:
    """Mark where in the app something happens, for a link from what comes of it."""
    return _quietly(here)


def _harmless(listener: Listener) -> Listener:
    """Nothing that fails in telemetry reaches the app; nothing is told where the app suppresses instrumentation."""

    def listen(event: Event) -> Finish | None:
        if not is_instrumentation_enabled():
            return None
        finish = _quietly(listener, event)
        return None if finish is None else lambda *end: _quietly(finish, *end)

    return listen


def _quietly(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001 - the app is never broken by its observability
        logger.debug("telemetry failed: %s", type(error).__name__)
        return None
