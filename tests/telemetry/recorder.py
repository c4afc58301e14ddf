"""Telemetry of its own for a test: events in, spans and metrics out, apart from what the whole run records."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from instrumented_wrapper import events, telemetry


class Recorder:
    """The package's listeners on providers in memory."""

    def __init__(self, **of_tracer_provider: Any) -> None:
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider(**of_tracer_provider)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.listeners = telemetry.listeners("1.2.3", self.tracers, MeterProvider([self._reader]))

    def listen(self, monkeypatch: Any) -> Recorder:
        """Be the only one that is told."""
        monkeypatch.setattr(events, "_listeners", self.listeners)
        return self

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    @property
    def span(self) -> ReadableSpan:
        (span,) = self.spans
        return span

    def metrics(self) -> dict[str, Any]:
        """Return the metrics by name."""
        data = self._reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def points(self, name: str) -> list[Any]:
        metric = self.metrics().get(name)
        return list(metric.data.data_points) if metric else []

    def scopes(self) -> set[tuple[str, str | None]]:
        data = self._reader.get_metrics_data()
        found = [scope.scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {(scope.name, scope.version) for scope in found}


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Return what our own attributes say, without their prefix."""
    ours = "instrumented_wrapper."
    return {name.removeprefix(ours): value for name, value in (span.attributes or {}).items() if name.startswith(ours)}
