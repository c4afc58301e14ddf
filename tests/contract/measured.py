"""What was measured since a moment: the reader adds up over the whole run, so differences are taken."""

from collections.abc import Iterator
from typing import Any

from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric

OURS = "instrumented_wrapper."
Key = tuple[str, frozenset[tuple[str, Any]]]


class Measured:
    """Counts per metric and attributes since it was made."""

    def __init__(self, reader: InMemoryMetricReader) -> None:
        self.reader = reader
        self.before = self._counts()

    def metrics(self) -> dict[str, Metric]:
        return {metric.name: metric for metric in self._metrics()}

    def new(self, name: str) -> dict[frozenset[tuple[str, Any]], int]:
        """Return how often each set of attributes was recorded."""
        return self._new(OURS + name)

    def operations(self) -> dict[frozenset[tuple[str, Any]], int]:
        """Return the same for operations of the app."""
        return self._new("db.client.operation.duration")

    def _new(self, name: str) -> dict[frozenset[tuple[str, Any]], int]:
        found = {key: n - self.before.get(key, 0) for key, n in self._counts().items() if key[0] == name}
        return {attributes: n for (_, attributes), n in found.items() if n}

    def _counts(self) -> dict[Key, int]:
        return {
            (metric.name, frozenset(point.attributes.items())): getattr(point, "count", None) or point.value
            for metric in self._metrics()
            for point in metric.data.data_points
        }

    def _metrics(self) -> Iterator[Metric]:
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                yield from scope.metrics
