"""Spans of operations as trees, with only what a test is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

Tree = list[Any]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def operations(spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
    """Return the spans of a database client, in the order in which they began."""
    return sorted((span for span in spans if span.kind is SpanKind.CLIENT), key=lambda span: span.start_time)


def names(spans: Sequence[ReadableSpan]) -> list[str]:
    return [span.name for span in operations(spans)]


def tree(spans: Sequence[ReadableSpan]) -> Tree:
    """Return names as nested lists: a span, then what is below it, in the order in which it began."""
    known = {span.context.span_id for span in spans}

    def below(parent: int | None) -> Tree:
        found = [s for s in spans if (s.parent.span_id if s.parent and s.parent.span_id in known else None) == parent]
        return [[s.name, *below(s.context.span_id)] for s in sorted(found, key=lambda s: s.start_time)]

    return below(None)


def seconds(span: ReadableSpan) -> float:
    return (span.end_time - span.start_time) / 1e9


def span_of(spans: Sequence[ReadableSpan], name: str) -> ReadableSpan:
    (found,) = (span for span in spans if span.name == name)
    return found
