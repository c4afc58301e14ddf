"""Other instrumentations of the same driver, which make a span for each statement, too.

OpenTelemetry does not keep two of them off one driver. They are looked for where the app has loaded them already, and
never imported. Most of them record no metric, or only where the app opts in to it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.metrics import Meter, MeterProvider, NoOpMeter
from opentelemetry.trace import NoOpTracerProvider

from instrumented_wrapper.telemetry.quietly import quietly

__all__ = ["DURATION", "has_rival", "rival_measures"]

DURATION: Final = "db.client.operation.duration"
_DBAPI: Final = "opentelemetry.instrumentation.dbapi"  # all of OpenTelemetry's own are made with it

_INSTRUMENTORS: Final[Mapping[str, tuple[str, str]]] = {
    "psycopg": ("opentelemetry.instrumentation.psycopg", "PsycopgInstrumentor"),
    "psycopg2": ("opentelemetry.instrumentation.psycopg2", "Psycopg2Instrumentor"),
    "pymysql": ("opentelemetry.instrumentation.pymysql", "PyMySQLInstrumentor"),
    "mysql.connector": ("opentelemetry.instrumentation.mysql", "MySQLInstrumentor"),
    "MySQLdb": ("opentelemetry.instrumentation.mysqlclient", "MySQLClientInstrumentor"),
    "sqlite3": ("opentelemetry.instrumentation.sqlite3", "SQLite3Instrumentor"),
}
# Drivers with a tracer of their own, off unless the app switches it on: it then stands in for ``connect``.
_OWN: Final[Mapping[str, tuple[str, str]]] = {
    "mysql.connector": ("mysql.connector.opentelemetry.instrumentation", "MySQLInstrumentor"),
}


def has_rival(driver: str) -> bool:
    """Tell whether another instrumentation of `driver` is active: OpenTelemetry's own, the driver's, or Datadog's."""
    active = quietly(_is_instrumented, driver) or quietly(_traces_itself, driver)
    return bool(active or getattr(sys.modules.get(driver), "_datadog_patch", False))


def _is_instrumented(driver: str) -> bool:
    module, name = _INSTRUMENTORS[driver]
    instrumentor = getattr(sys.modules.get(module), name, None)
    return instrumentor is not None and bool(instrumentor().is_instrumented_by_opentelemetry)


def _traces_itself(driver: str) -> bool:
    module, name = _OWN.get(driver, ("", ""))
    instrumentor = getattr(getattr(sys.modules.get(module), name, None), "_instance", None)
    return instrumentor is not None and sys.modules[driver].connect is not instrumentor._original_connect


def rival_measures(driver: str) -> bool:
    """Return True if an active instrumentation of `driver` records `DURATION`.

    Of OpenTelemetry's own those from 0.66 on do, where ``OTEL_SEMCONV_STABILITY_OPT_IN`` asks for it. Datadog and the
    tracer of mysql-connector do not.
    """
    integration = getattr(sys.modules.get(_DBAPI), "DatabaseApiIntegration", None)
    return bool(integration and quietly(_is_instrumented, driver) and quietly(_measures, integration))


@functools.cache
def _measures(integration: Any) -> bool:
    """Return True if a new integration creates the histogram; older ones take no meter provider."""
    asked = _Asked()
    try:
        integration("", "", tracer_provider=NoOpTracerProvider(), meter_provider=asked)
    except TypeError:
        return False
    return DURATION in asked.names


class _Asked(MeterProvider):
    """A provider that keeps the names of the instruments that it is asked for."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def get_meter(self, name: str, *args: Any, **kwargs: Any) -> Meter:
        meter = NoOpMeter(name)
        create = meter.create_histogram

        def create_histogram(name: str, *args: Any, **kwargs: Any) -> Any:
            self.names.append(name)
            return create(name)

        meter.create_histogram = create_histogram  # type: ignore[method-assign]
        return meter
