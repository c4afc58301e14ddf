"""OpenTelemetry's own instrumentation of SQLAlchemy beside ours: one CLIENT span for each statement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from .test_sqlalchemy import ask, cluster, engine, kind  # noqa: F401 - fixtures

sqlalchemy = pytest.importorskip("sqlalchemy")
theirs = pytest.importorskip("opentelemetry.instrumentation.sqlalchemy")


@pytest.fixture
def traced() -> Iterator[Callable[[Any], InMemorySpanExporter]]:
    """Return a function that has the other instrumentation trace an engine, and keeps its spans."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def traced(pool: Any) -> InMemorySpanExporter:
        theirs.SQLAlchemyInstrumentor().instrument(engine=pool, tracer_provider=provider, skip_dep_check=True)
        return exporter

    yield traced
    theirs.SQLAlchemyInstrumentor().uninstrument()


def clients(spans: Any) -> list[Any]:
    return [span for span in spans if span.kind is SpanKind.CLIENT and "SELECT" in span.name]


def test_one_span_for_each_statement(kind, engine, spans, traced) -> None:  # noqa: F811
    pool = engine()
    exporter = traced(pool)
    with pool.connect() as connection:
        exporter.clear()
        spans.clear()
        ask(connection, "SELECT 1")
    assert (len(clients(exporter.get_finished_spans())), clients(spans.all())) == (1, [])


def test_both_where_the_app_asks_for_it(kind, engine, spans, traced) -> None:  # noqa: F811
    pool = engine({"query_spans": "on"})
    exporter = traced(pool)
    with pool.connect() as connection:
        exporter.clear()
        spans.clear()
        ask(connection, "SELECT 1")
    assert (len(clients(exporter.get_finished_spans())), len(clients(spans.all()))) == (1, 1)


def test_other_engines_keep_their_spans(kind, engine, spans, traced) -> None:  # noqa: F811
    other = engine()  # those that are made later are traced, too
    traced(engine())
    with other.connect() as connection:
        spans.clear()
        ask(connection, "SELECT 1")
    assert len(clients(spans.all())) == 1
