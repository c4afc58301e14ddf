"""Prepare a worker process: bare, instrumented by the package or by a peer, or with one bare span.

A kind is the name of a side and, after a slash, how much of OpenTelemetry's SDK is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import psycopg

__all__ = ["BARE", "FLOOR", "MODES", "OURS", "PEER", "PLAIN", "RESOLVING", "SESSION_SDK", "SWITCHING", "prepare"]

BARE: Final = "bare"
PLAIN: Final = "session"  # we look after the session only: no query spans
SESSION_SDK: Final = "session/metrics"
SWITCHING: Final = "switching"  # the same, failover on
RESOLVING: Final = "resolving"  # the same, and COMMITs are resolved
OURS: Final = "ours"
PEER: Final = "peer"  # opentelemetry-instrumentation-psycopg
FLOOR: Final = "floor"  # one span with eight attributes around each statement, and nothing else
MODES: Final = {
    "none": "no SDK",
    "off": "sampler off",
    "on": "on",
    "metrics": "on, with metrics",
}
_ATTRIBUTES: Final[Mapping[str, Any]] = {
    "db.system.name": "postgresql",
    "db.namespace": "app",
    "db.query.summary": "SELECT",
    "db.query.text": "SELECT ?",
    "server.address": "127.0.0.1",
    "server.port": 5432,
    "network.peer.address": "127.0.0.1",
    "network.peer.port": 5432,
}


def prepare(kind: str) -> None:
    """Make this process a worker of that kind, for good."""
    side, _, mode = kind.partition("/")
    _SIDES[side](_providers(mode or "none"))


def _providers(mode: str) -> dict[str, Any]:
    """Return the providers of a side: spans go through a batch to an exporter that does nothing."""
    if mode == "none":
        return {}
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider, sampling
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        """Discards all spans."""

        def export(self, spans: Any) -> SpanExportResult:
            """Return success."""
            return SpanExportResult.SUCCESS

    tracers = TracerProvider(sampler=sampling.ALWAYS_OFF if mode == "off" else sampling.ALWAYS_ON)
    tracers.add_span_processor(BatchSpanProcessor(Nowhere()))
    meters = {"meter_provider": MeterProvider([InMemoryMetricReader()])} if mode == "metrics" else {}
    return {"tracer_provider": tracers, **meters}


def _bare(providers: Mapping[str, Any]) -> None:
    """Leave psycopg bare."""


def _session(providers: Mapping[str, Any]) -> None:
    import instrumented_wrapper

    instrumented_wrapper.instrument(query_spans="off", **providers)


def _switching(providers: Mapping[str, Any]) -> None:
    import instrumented_wrapper

    instrumented_wrapper.instrument(query_spans="off", failover="on", **providers)


def _resolving(providers: Mapping[str, Any]) -> None:
    import instrumented_wrapper

    instrumented_wrapper.instrument(query_spans="off", failover="on", resolve_commits="on", **providers)


def _ours(providers: Mapping[str, Any]) -> None:
    import instrumented_wrapper

    instrumented_wrapper.instrument(**providers)


def _peer(providers: Mapping[str, Any]) -> None:
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "database"  # the stable conventions, as ours; else it has no metric
    from opentelemetry import metrics
    from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor

    if "meter_provider" in providers:
        metrics.set_meter_provider(providers["meter_provider"])  # it does not take one as an argument
    PsycopgInstrumentor().instrument(**providers)


def _floor(providers: Mapping[str, Any]) -> None:
    from opentelemetry import metrics, trace

    tracer = trace.get_tracer("floor", None, providers.get("tracer_provider"))
    meter = metrics.get_meter("floor", "", providers.get("meter_provider"))
    duration = meter.create_histogram("db.client.operation.duration", "s") if "meter_provider" in providers else None
    measured = {name: _ATTRIBUTES[name] for name in list(_ATTRIBUTES)[:5]}

    def spanning(original: Any) -> Any:
        def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
            with tracer.start_as_current_span("SELECT", kind=trace.SpanKind.CLIENT, attributes=_ATTRIBUTES):
                result = original(self, *args, **kwargs)
            if duration is not None:
                duration.record(0.001, measured)
            return result

        return execute

    def spanning_async(original: Any) -> Any:
        async def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
            with tracer.start_as_current_span("SELECT", kind=trace.SpanKind.CLIENT, attributes=_ATTRIBUTES):
                result = await original(self, *args, **kwargs)
            if duration is not None:
                duration.record(0.001, measured)
            return result

        return execute

    psycopg.Cursor.execute = spanning(psycopg.Cursor.execute)  # type: ignore[method-assign]
    psycopg.AsyncCursor.execute = spanning_async(psycopg.AsyncCursor.execute)  # type: ignore[method-assign]


_SIDES: Final[dict[str, Callable[[Mapping[str, Any]], None]]] = {
    BARE: _bare,
    PLAIN: _session,
    SWITCHING: _switching,
    RESOLVING: _resolving,
    OURS: _ours,
    PEER: _peer,
    FLOOR: _floor,
}
