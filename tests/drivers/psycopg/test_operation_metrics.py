"""``db.client.operation.duration``: what it counts, and by what; exemplars lead to the trace."""

from __future__ import annotations

import psycopg
import pytest
from opentelemetry.sdk.trace import TracerProvider

from ..operation_spans import attributes, operations
from ..side import done, dsn

TRACER = TracerProvider().get_tracer("app")
NAME = "db.client.operation.duration"


def points(reader, application_name):
    """Return the points of one test: its schema is part of the namespace."""
    data = reader.get_metrics_data()
    (metric,) = (m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name == NAME)
    assert metric.unit == "s"
    mine = [p for p in metric.data.data_points if str(p.attributes.get("db.namespace")).endswith(application_name)]
    return {(p.attributes.get("db.query.summary"), p.attributes.get("error.type")): p for p in mine}


async def test_durations(side, cluster, spans, reader):
    schema = f"durations_{'async' if side.is_async else 'sync'}"
    connection = await side.connect(dsn(cluster.primary, options=f"-csearch_path={schema},public"), autocommit=True)
    await done(connection.execute("SET search_path = " + schema))  # known to servers before 18, too
    spans.clear()
    with TRACER.start_as_current_span("app"):
        for number in range(3):
            await done(connection.execute("SELECT pg_sleep(0.02) FROM pg_am LIMIT %s", [1 if number else 0]))
        with pytest.raises(psycopg.Error):
            await done(connection.execute("SELECT * FROM nowhere"))
        await done(connection.cursor().executemany("SELECT %s", [(1,), (2,)]))
    found = points(reader, schema)
    assert {key: point.count for key, point in found.items() if key[0] != "SET search_path"} == {
        ("SELECT pg_am", None): 3,
        ("SELECT nowhere", "42P01"): 1,
        ("BATCH SELECT", None): 1,
    }
    slept, failed = found["SELECT pg_am", None], found["SELECT nowhere", "42P01"]
    assert slept.max >= 0.02
    assert slept.explicit_bounds == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
    assert failed.attributes["db.response.status_code"] == "42P01"
    span = operations(spans.all())[0]
    assert dict(slept.attributes) == {k: v for k, v in attributes(span).items() if k != "db.query.text"}
    traces = {span.context.trace_id for span in operations(spans.all())}
    assert {exemplar.trace_id for exemplar in slept.exemplars} <= traces
    assert slept.exemplars
    ids = {span.context.span_id for span in operations(spans.all())}
    assert {exemplar.span_id for exemplar in slept.exemplars} <= ids


async def test_metrics_without_spans_and_neither(side, cluster, spans, reader):
    for options, counted in [({"traces": False}, 1), ({"metrics": False}, 0), ({"query_spans": "off"}, 0)]:
        schema = f"{'_'.join(options)}_{'async' if side.is_async else 'sync'}"
        connection = await side.connect(dsn(cluster.primary), autocommit=True, instrumented_wrapper=options)
        await done(connection.execute("SET search_path = " + schema))
        spans.clear()
        await done(connection.execute("SELECT 1"))
        assert len(points(reader, schema)) == counted
        assert len(operations(spans.all())) == (options == {"metrics": False})
