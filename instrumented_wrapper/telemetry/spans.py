"""Spans of what happened: kind INTERNAL, children of the app's current span."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from opentelemetry import context, trace
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import Link, Span, SpanContext, Status, StatusCode, Tracer

from instrumented_wrapper.events import (
    Event,
    Failover,
    FailoverEnd,
    Fetched,
    Finish,
    Leak,
    Listener,
    Outcome,
    PristineFetch,
    Reset,
    SettingsEnd,
    Transfer,
    error_type,
)
from instrumented_wrapper.telemetry.attributes import OURS, of_attempts, of_change, of_peer, of_start, shown

_NAMES: Final[Mapping[type[Event], str]] = {
    PristineFetch: "session_state.pristine_fetch",
    Reset: "session_state.reset",
    Leak: "session_state.leak",
    Transfer: "session_state.transfer",
    Failover: "failover",
}


def tracing(tracer: Tracer) -> Listener:
    """Return a listener that makes a span of each event; while it lasts, it is the current one."""

    def listen(event: Event) -> Finish | None:
        if not event.signals.traces or type(event) not in _NAMES:
            return None
        waited = event.waited if isinstance(event, Failover) else 0.0
        moment = time.time_ns() - int(waited * 1e9) if waited else None
        span = tracer.start_span(
            _NAMES[type(event)], attributes=of_start(event), links=_links(event), start_time=moment
        )
        began = time.monotonic() - waited
        token = context.attach(trace.set_span_in_context(span))

        def finish(outcome: Outcome | None, error: BaseException | None) -> None:
            try:
                if span.is_recording():
                    _end(span, event, outcome, error, began)
            finally:
                span.end()
                context.detach(token)

        return finish

    return listen


def here() -> object:
    """Return the context of the app's current span, or None: it marks where an event happens."""
    span = trace.get_current_span()
    context = None if span is trace.INVALID_SPAN else span.get_span_context()
    return None if context is None or not context.is_valid else context


def _links(event: Event) -> list[Link]:
    """Link a reset or a leak to the spans in which the settings were changed: they show the request that did it."""
    origins = event.origins if isinstance(event, (Reset, Leak)) else ()
    return [Link(origin) for origin in origins if isinstance(origin, SpanContext)]


def _end(span: Span, event: Event, outcome: Outcome | None, error: BaseException | None, began: float) -> None:
    if isinstance(outcome, Fetched) and isinstance(event, PristineFetch):
        span.set_attribute(OURS + "pristine_value", shown(event.setting, outcome.value, event.signals.values))
    elif isinstance(outcome, SettingsEnd):
        _settings(span, event, outcome)
    elif isinstance(outcome, FailoverEnd):
        _failover(span, outcome, began)
    code = getattr(outcome, "error", None) or (error_type(error) if error and outcome is None else None)
    if code or (isinstance(outcome, FailoverEnd) and outcome.outcome == "failed"):
        span.set_attribute(ERROR_TYPE, code or "FailoverFailedError")
        span.set_status(Status(StatusCode.ERROR))


def _settings(span: Span, event: Event, end: SettingsEnd) -> None:
    span.set_attribute(OURS + "handled_by", end.handled_by)
    span.set_attribute(OURS + "round_trips", end.round_trips)
    if isinstance(event, Transfer):
        span.set_attribute(OURS + "not_restored", end.not_restored)
    for change in end.changes:
        span.add_event("setting", of_change(change, event.signals.values))
    for name in end.not_restored:
        span.add_event("setting", {"name": name, "outcome": "skipped"})


def _failover(span: Span, end: FailoverEnd, began: float) -> None:
    span.set_attribute(OURS + "outcome", end.outcome)
    span.set_attribute(OURS + "trigger", end.trigger)
    span.set_attribute(OURS + "attempts", end.attempts)
    if end.transaction is not None:
        span.set_attribute(OURS + "transaction", end.transaction)
        span.set_attribute(OURS + "may_have_run", end.may_have_run)
    if isinstance(end.led_by, SpanContext):
        span.add_link(end.led_by)
    wall = time.time() - time.monotonic()
    for tried in end.tried:
        moment = wall + max(tried.first, began)
        span.add_event("attempt", of_attempts(tried, began), timestamp=int(moment * 1e9))
    if end.peer is not None:
        span.set_attributes(of_peer(end.peer))
