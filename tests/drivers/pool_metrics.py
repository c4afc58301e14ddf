"""What the metrics of one pool say."""

from __future__ import annotations

from typing import Any

PREFIX = "db.client.connection."


def measured(reader: Any, name: str) -> dict[str, Any]:
    """Return the points of the pool of that name, by metric; the counts by state."""
    found: dict[str, Any] = {}
    for resource in reader.get_metrics_data().resource_metrics:
        for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
            short = metric.name.removeprefix(PREFIX)
            for point in metric.data.data_points if short != metric.name else ():
                if point.attributes[f"{PREFIX}pool.name"] == name:
                    found[point.attributes.get(f"{PREFIX}state", short)] = point
    return found
