"""Turn events into OpenTelemetry spans and metrics. Knows events and OpenTelemetry, no driver and no database."""

from __future__ import annotations

from opentelemetry.metrics import Meter, MeterProvider, get_meter
from opentelemetry.trace import Tracer, TracerProvider, get_tracer

from instrumented_wrapper.events import Event, Finish, Listener
from instrumented_wrapper.telemetry.attributes import SCHEMA, SCOPE
from instrumented_wrapper.telemetry.metrics import measuring
from instrumented_wrapper.telemetry.never_raise import never_raise
from instrumented_wrapper.telemetry.operations import DatabaseOperations
from instrumented_wrapper.telemetry.pools import PoolMetrics
from instrumented_wrapper.telemetry.sdk_present import is_enabled
from instrumented_wrapper.telemetry.sessions import SessionMetrics
from instrumented_wrapper.telemetry.spans import here, tracing

__all__ = [
    "DatabaseOperations",
    "PoolMetrics",
    "SessionMetrics",
    "listeners",
    "locator",
    "operations",
    "session_metrics",
]


def listeners(
    version: str, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None
) -> list[Listener]:
    """Return what listens to the events: the global providers are used where none is given, also if set later."""
    tracer, meter = _sources(version, tracer_provider, meter_provider)
    return [_harmless(tracing(tracer)), _harmless(measuring(meter))]  # measured within the span: exemplars name it


def operations(
    version: str, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None
) -> tuple[DatabaseOperations, PoolMetrics]:
    """Return the recorder of statements, commits and connects, and the recorder of pools."""
    tracer, meter = _sources(version, tracer_provider, meter_provider)
    return DatabaseOperations(tracer, meter), PoolMetrics(meter)


def session_metrics(version: str, meter_provider: MeterProvider | None) -> SessionMetrics:
    """Return what counts sessions."""
    return SessionMetrics(get_meter(SCOPE, version, meter_provider, SCHEMA))


def _sources(
    version: str, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None
) -> tuple[Tracer, Meter]:
    tracer = get_tracer(SCOPE, version, tracer_provider, SCHEMA)
    return tracer, get_meter(SCOPE, version, meter_provider, SCHEMA)


def locator() -> object:
    """Mark the current place in the app, for links from later events."""
    return never_raise(here)


def _harmless(listener: Listener) -> Listener:
    """Catch every failure of telemetry; record nothing where the app suppresses instrumentation."""

    def listen(event: Event) -> Finish | None:
        if not is_enabled():
            return None
        finish = never_raise(listener, event)
        return None if finish is None else lambda *end: never_raise(finish, *end)

    return listen
