"""A very small OTLP/HTTP receiver: keeps the spans and metrics that it is sent, and can send them on.

It knows OTLP. It does not know what the spans are about, nor how they are shown.
"""

from __future__ import annotations

import gzip
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.util.re import parse_env_headers

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SECONDS = 3.0
GRPC = " (4317 is mostly gRPC's port; HTTP's is 4318)"


@dataclass(frozen=True)
class Event:
    """Something that happened within a span."""

    name: str
    at: int
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Span:
    """A span as it was received; times are nanoseconds since 1970, identifiers are hexadecimal."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    failed: bool
    attributes: Mapping[str, Any]
    events: tuple[Event, ...]
    links: tuple[str, ...]  # the identifiers of the linked spans
    scope: str
    resource: Mapping[str, Any]


@dataclass
class Receiver:
    """Listens on a free port of this machine while it is used as a context manager."""

    requests: list[tuple[str, bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Start listening."""
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.keep = self.requests.append
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """What an exporter takes as its endpoint."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def spans(self) -> list[Span]:
        """Return all spans, the earliest first."""
        bodies = (ExportTraceServiceRequest.FromString(body) for path, body in self.requests if path == "/v1/traces")
        return sorted((span for body in bodies for span in _spans(body)), key=lambda span: span.start)

    def metrics(self) -> dict[str, tuple[int, float]]:
        """Return how often and how long in all (0 for what is only counted), by the metrics' names, as last told."""
        bodies = (ExportMetricsServiceRequest.FromString(body) for path, body in self.requests if path == "/v1/metrics")
        return {metric.name: _total(metric) for body in bodies for metric in _metrics(body)}

    def send_on(self, environment: Mapping[str, str]) -> Iterator[str]:
        """Send all to the endpoint that the environment names, if any; yield a line on how that went."""
        headers = parse_env_headers(environment.get("OTEL_EXPORTER_OTLP_HEADERS", ""), liberal=True)
        for signal in ("traces", "metrics"):
            bodies = [body for path, body in self.requests if path == f"/v1/{signal}"]
            if bodies and (url := _target(environment, signal)):
                try:
                    _post(url, bodies, headers)
                except urllib.error.HTTPError as error:
                    yield f"{signal} not taken by {url}: {error.code} {error.reason}"
                except (OSError, ValueError, HTTPException) as error:
                    yield f"{signal} not sent to {url}: {_reason(error)}{GRPC if ':4317/' in url else ''}"
                    return
                else:
                    yield f"{signal} sent to {url}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    keep: Any


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        """Take an export; an empty answer means: all of it."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        zipped = self.headers.get("Content-Encoding") == "gzip"
        self.server.keep((self.path, gzip.decompress(body) if zipped else body))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def _target(environment: Mapping[str, str], signal: str) -> str | None:
    endpoint = environment.get(ENDPOINT)
    return environment.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT") or (
        f"{endpoint.rstrip('/')}/v1/{signal}" if endpoint else None
    )


def _post(url: str, bodies: Iterable[bytes], headers: Mapping[str, str]) -> None:
    for body in bodies:
        request = urllib.request.Request(url, body, {"Content-Type": "application/x-protobuf", **headers})
        urllib.request.urlopen(request, timeout=SECONDS).close()


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or str(reason)


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for told in request.resource_spans:
        for scoped in told.scope_spans:
            for span in scoped.spans:
                yield _span(span, scoped.scope.name, _values(told.resource.attributes))


def _span(span: trace_pb2.Span, scope: str, resource: Mapping[str, Any]) -> Span:
    ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
    events = tuple(Event(event.name, event.time_unix_nano, _values(event.attributes)) for event in span.events)
    links = tuple(link.span_id.hex() for link in span.links)
    failed = span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    times = span.start_time_unix_nano, span.end_time_unix_nano
    kind = trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower()
    return Span(span.name, kind, *ids, *times, failed, _values(span.attributes), events, links, scope, resource)


def _values(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


def _metrics(request: ExportMetricsServiceRequest) -> Iterator[metrics_pb2.Metric]:
    for told in request.resource_metrics:
        for scoped in told.scope_metrics:
            yield from scoped.metrics


def _total(metric: metrics_pb2.Metric) -> tuple[int, float]:
    if metric.WhichOneof("data") == "histogram":
        points = metric.histogram.data_points
        return sum(point.count for point in points), sum(point.sum for point in points)
    return sum(point.as_int for point in metric.sum.data_points), 0.0
