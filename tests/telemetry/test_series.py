"""How many series an app with a schema for each tenant has, and how their number is kept small."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from instrumented_wrapper import telemetry
from instrumented_wrapper.operations import Site, Words
from instrumented_wrapper.telemetry.operations import SECONDS

TENANTS = 2_500  # an SDK may keep 2,000 series of a metric
NAME = "db.client.operation.duration"
PAGE = Path(__file__).parents[2] / "docs/reference/telemetry.md"
(VIEW,) = (block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "View(" in block)


def points(reader: InMemoryMetricReader) -> list[Any]:
    data = reader.get_metrics_data()
    assert data
    (metric,) = (m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name == NAME)
    return list(metric.data.data_points)


def work(meters: MeterProvider, without: tuple[str, ...] = ()) -> None:
    """One statement for each tenant, on a table of its own."""
    operations, _ = telemetry.operations("1", TracerProvider(), meters)
    for number in range(TENANTS):
        templates = operations.templates_at(Site("postgresql", f"app|tenant_{number}", "db", 5432), without)
        template = templates.template(Words(f"SELECT tenant_{number}.orders", "SELECT * FROM orders"))
        operation = operations.begin(template, True, True, time.time_ns())
        assert operation
        operation.end()


def test_a_schema_for_each_tenant_has_a_series_for_each() -> None:
    reader = InMemoryMetricReader()
    work(MeterProvider([reader]))
    assert len(points(reader)) >= 2_000


@pytest.mark.parametrize(
    ("without", "left"),
    [
        (("namespace", "summary"), set()),
        (("namespace",), {"db.query.summary"}),
        (("summary",), {"db.namespace"}),
    ],
)
def test_what_is_left_out_by_the_option(without, left) -> None:
    reader = InMemoryMetricReader()
    work(MeterProvider([reader]), without)
    found = [point for point in points(reader) if "otel.metric.overflow" not in point.attributes]
    assert all(set(point.attributes) == {"db.system.name", "server.address", "server.port", *left} for point in found)
    assert len(found) >= 2_000 if left else [point.count for point in found] == [TENANTS]


def test_the_view_of_the_documentation() -> None:
    reader = InMemoryMetricReader()
    given = {"reader": reader}
    exec(VIEW, given)
    work(given["provider"])
    (point,) = points(reader)
    assert dict(point.attributes) == {"db.system.name": "postgresql", "server.address": "db", "server.port": 5432}
    assert (point.count, tuple(point.explicit_bounds)) == (TENANTS, SECONDS)
