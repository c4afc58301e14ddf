"""Spans as the JSON that Jaeger's UI opens ("Upload" on its search page), every trace of the run in one file.

It knows Jaeger's format, which every version of its UI reads without a server's help; OTLP's JSON it does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from receiver import Span

TYPES = {bool: "bool", int: "int64", float: "float64"}


def document(spans: Iterable[Span]) -> str:
    """Return the file's text."""
    traces: dict[str, list[Span]] = {}
    trace_of: dict[str, str] = {}  # links name the span alone
    for span in spans:
        traces.setdefault(span.trace, []).append(span)
        trace_of[span.id] = span.trace
    data = [_trace(name, members, trace_of) for name, members in sorted(traces.items(), key=lambda item: -len(item[1]))]
    return json.dumps({"data": data}, indent=2)


def _trace(name: str, spans: list[Span], trace_of: Mapping[str, str]) -> dict[str, Any]:
    resource = dict(spans[0].resource)
    process = {"serviceName": resource.pop("service.name", "unknown"), "tags": _tags(resource)}
    return {"traceID": name, "spans": [_span(span, trace_of) for span in spans], "processes": {"p1": process}}


def _span(span: Span, trace_of: Mapping[str, str]) -> dict[str, Any]:
    parent = [{"refType": "CHILD_OF", "traceID": span.trace, "spanID": span.parent}] if span.parent else []
    known = [link for link in span.links if link in trace_of]
    links = [{"refType": "FOLLOWS_FROM", "traceID": trace_of[link], "spanID": link} for link in known]
    told = {**span.attributes, "otel.scope.name": span.scope, "span.kind": span.kind}
    return {
        "traceID": span.trace,
        "spanID": span.id,
        "operationName": span.name,
        "references": parent + links,
        "startTime": span.start // 1000,
        "duration": max(1, (span.end - span.start) // 1000),
        "tags": _tags({**told, "error": True} if span.failed else told),
        "logs": [
            {"timestamp": event.at // 1000, "fields": _tags({"event": event.name, **event.attributes})}
            for event in span.events
        ],
        "processID": "p1",
    }


def _tags(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_tag(key, value) for key, value in sorted(values.items())]


def _tag(key: str, value: Any) -> dict[str, Any]:
    plain = json.dumps(value) if isinstance(value, list) else value
    return {"key": key, "type": TYPES.get(type(plain), "string"), "value": plain}
