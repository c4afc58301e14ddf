"""Other instrumentations of the same driver, which make a span for each statement, too.

OpenTelemetry does not keep two of them off one driver. They are looked for where the app has loaded them already, and
never imported.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

from instrumented_wrapper.telemetry.quietly import quietly

__all__ = ["has_rival"]

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
