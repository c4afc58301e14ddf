"""Spans and durations of database operations, by OpenTelemetry's conventions for database clients.

This is the frequent path: attributes are built once for each text and site, and nothing is done without a listener.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter, time_ns
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, Meter
from opentelemetry.semconv.attributes import db_attributes as db
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.network_attributes import NETWORK_PEER_ADDRESS, NETWORK_PEER_PORT
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, Tracer

from instrumented_wrapper.events import error_type
from instrumented_wrapper.operations import Place, Site, Words, bounded_put
from instrumented_wrapper.pages import abandoned, end_abandoned
from instrumented_wrapper.telemetry.attributes import without_missing
from instrumented_wrapper.telemetry.never_raise import never_raise
from instrumented_wrapper.telemetry.other_instrumentations import DURATION, is_instrumented, is_measured
from instrumented_wrapper.telemetry.sdk_present import is_enabled, nobody_listens

logger = logging.getLogger("instrumented_wrapper")
SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)  # boundaries, by the conventions
_SITES, _TEXTS = 64, 1024  # kept: sites, and texts of each
_LONGEST_KEY: Final = 4096  # characters; longer texts are rarely sent twice
_BATCH: Final = "BATCH"
_LEFT_OUT: Final = {  # of metrics, by the option ``metrics_without``
    "namespace": (db.DB_NAMESPACE,),
    "summary": (db.DB_QUERY_SUMMARY, db.DB_COLLECTION_NAME, db.DB_STORED_PROCEDURE_NAME),
}
_CLIENT: Final = SpanKind.CLIENT


class SpanTemplate(NamedTuple):
    """Name and attributes of the spans of one text at one site, and the attributes of their metric."""

    name: str
    attributes: Mapping[str, Any]
    measured: Mapping[str, Any]


class DatabaseOperations:
    """`operations.Operations`, by OpenTelemetry."""

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        self._tracer, self._sites = tracer, dict[tuple[Site, tuple[str, ...], str], _Templates]()
        self._duration: Histogram = meter.create_histogram(
            DURATION,
            "s",
            "Duration of database client operations.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self.nobody = nobody_listens(tracer, meter)
        self._not_measured: Final = nobody_listens(meter)

    def listens(self) -> bool:
        """Return True if an SDK is there and the app has not suppressed instrumentation."""
        return not self.nobody() and is_enabled()

    def templates_at(self, site: Site, without: tuple[str, ...] = (), query_text: str = "auto") -> _Templates:
        """Return the templates of spans at `site`."""
        key = (site, without, query_text)
        if (known := self._sites.get(key)) is None:
            known = bounded_put(self._sites, key, _Templates(*key), _SITES)
        return known

    def begin(
        self, template: SpanTemplate, traces: bool, metrics: bool, started: int, place: Place | None = None
    ) -> DatabaseOperation | None:
        """Start a span, and make it the current one; None where it is not recorded, and nothing is measured."""
        if abandoned:
            end_abandoned()
        span: Span = INVALID_SPAN
        if traces:
            try:
                span = self._tracer.start_span(template.name, None, _CLIENT, template.attributes, None, started)
            except Exception as error:  # noqa: BLE001 - a sampler or processor of the app's: it is measured all the same
                logger.debug("telemetry failed: %s", type(error).__name__)
        duration = None if not metrics or self._not_measured() else self._duration
        if duration is None and not span.is_recording():
            return None
        return DatabaseOperation(span, template, duration, place)

    def is_instrumented(self, driver: str) -> bool:
        """Return True if another instrumentation of `driver` is active."""
        return is_instrumented(driver)

    def is_measured(self, driver: str) -> bool:
        """Return True if another instrumentation of `driver` records durations."""
        return is_measured(driver)

    def within_recorded(self) -> bool:
        """Return True if the current span is recorded."""
        return trace.get_current_span().is_recording()


class _Templates:
    """Templates of the spans at one site, by the text of the statement: with parameters, and without."""

    def __init__(self, site: Site, without: tuple[str, ...], query_text: str) -> None:
        self._site, self._without, self.query_text = site, without, query_text
        self.bound: dict[Hashable, SpanTemplate] = {}
        self.bare: dict[Hashable, SpanTemplate] = {}

    def template(self, words: Words, text: str | None = None, size: int | None = None) -> SpanTemplate:
        """Make a template."""
        return _template(self._site, words, text, size, self._without)

    def put(self, known: dict[Hashable, SpanTemplate], key: Hashable, words: Words, text: str | None) -> SpanTemplate:
        """Create a template and store it."""
        made = self.template(words, text)
        return bounded_put(known, key, made, _TEXTS) if not text or len(text) <= _LONGEST_KEY else made


class DatabaseOperation:
    """An operation that has begun: its span is the current one until `pause` or `end`, where it is recorded."""

    __slots__ = ("_duration", "_moves", "_place", "_span", "_started", "_template", "_token", "_within")

    def __init__(self, span: Span, template: SpanTemplate, duration: Histogram | None, place: Place | None) -> None:
        self._span, self._template, self._duration, self._place = span, template, duration, place
        self._moves = 0 if place is None else place.generation
        self._started = 0.0 if duration is None else perf_counter()
        self._within: Context | None = None
        self._token: Any = None
        if span.is_recording():
            self._within = trace.set_span_in_context(span)
            self._token = context.attach(self._within)

    def end(self, error: BaseException | None = None) -> None:
        """End the span and record the duration; an error is recorded by its code, never by its text."""
        ended = time_ns()
        try:
            self._measure(error)
            self._span.end(ended)
        except Exception as failure:  # noqa: BLE001 - the app is never broken by its observability
            logger.debug("telemetry failed: %s", type(failure).__name__)

    def hold(self) -> bool:
        """Record its duration and leave its span open; return False if it has no span."""
        never_raise(self._measure, None)
        return self._within is not None

    def complete(self, pages: int, seconds: float, ended: int, error: BaseException | None = None) -> None:
        """Add the pages that followed, and end the span when the last of them ended (`time.time_ns`)."""
        never_raise(self._complete, pages, seconds, ended, error)

    def _complete(self, pages: int, seconds: float, ended: int, error: BaseException | None) -> None:
        if pages:
            self._span.add_event("pages", {"count": pages, "seconds": round(seconds, 6)}, ended)
        if error is not None:
            self._failed(error)
        self._span.end(ended)

    def _measure(self, error: BaseException | None) -> None:
        if self._token is not None:
            self.pause()
        measured = self._template.measured if error is None else self._failed(error)
        if self._place is not None and self._place.generation != self._moves and error is None:
            measured = self._moved(self._place.site())
        if self._duration is not None:
            self._duration.record(perf_counter() - self._started, measured, self._within)

    def pause(self) -> None:
        """Leave the span until it is resumed or ends: what the app does meanwhile is not below it."""
        if self._token is not None:
            context.detach(self._token)
            self._token = None

    @contextmanager
    def resumed(self) -> Iterator[None]:
        """Make the span the current one again while inside."""
        token = None if self._within is None else context.attach(self._within)
        try:
            yield
        finally:
            if token is not None:
                context.detach(token)

    def _moved(self, site: Site) -> Mapping[str, Any]:
        """Record the server that carried it out: the one it was meant for was lost."""
        server = _server_of(site)
        self._span.set_attributes(server)
        return {**self._template.measured, **server}

    def _failed(self, error: BaseException) -> Mapping[str, Any]:
        """Record on the span that it failed; return the attributes of the metric."""
        failure = _failure(error)
        if self._within is not None:
            self._span.set_attributes(failure)
            self._span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        return {**self._template.measured, **failure}


def _failure(error: BaseException) -> dict[str, str]:
    code = error_type(error)
    return {ERROR_TYPE: code} if code == type(error).__name__ else {ERROR_TYPE: code, db.DB_RESPONSE_STATUS_CODE: code}


def _template(site: Site, words: Words, text: str | None, size: int | None, without: tuple[str, ...]) -> SpanTemplate:
    batch = size is not None and size != 1
    summary = " ".join(filter(None, (_BATCH, words.summary))) if batch else words.summary
    operation = f"{_BATCH} {words.operation}" if batch and words.operation else words.operation
    named = without_missing(
        {
            db.DB_SYSTEM_NAME: site.system,
            db.DB_NAMESPACE: site.namespace,
            db.DB_QUERY_SUMMARY: summary,
            db.DB_OPERATION_NAME: operation,
            db.DB_COLLECTION_NAME: words.collection,
            db.DB_STORED_PROCEDURE_NAME: words.procedure,
        }
    )
    said = {name: _sendable(value) for name, value in named.items()} | _server_of(site)
    left_out = [name for word in without for name in _LEFT_OUT[word]]
    measured = {name: value for name, value in said.items() if name not in left_out}
    attributes = said | ({db.DB_QUERY_TEXT: _sendable(text)} if text else {})
    if batch and size is not None and size >= 0:
        attributes[db.DB_OPERATION_BATCH_SIZE] = size
    server = f"{site.address}:{site.port}" if site.address and site.port else site.address
    target = site.namespace or server
    name = _sendable(summary or f"{operation} {target}".strip() or site.system)
    return SpanTemplate(name, MappingProxyType(attributes), MappingProxyType(measured))


def _server_of(site: Site) -> dict[str, Any]:
    return without_missing(
        {
            SERVER_ADDRESS: site.address,
            SERVER_PORT: site.port,
            NETWORK_PEER_ADDRESS: site.peer_address,
            NETWORK_PEER_PORT: site.peer_port,
        }
    )


def _sendable(text: str) -> str:
    """Return a text that every exporter can encode."""
    return text if text.isascii() else text.encode(errors="replace").decode()
