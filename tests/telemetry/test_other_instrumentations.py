"""Other instrumentations of the same driver, which are stepped back from while they are active."""

import os
import subprocess
import sys
from collections import Counter
from importlib.metadata import version

import pytest

from instrumented_wrapper.telemetry.other_instrumentations import is_instrumented, is_measured

OPENTELEMETRYS = {
    "psycopg": ("psycopg", "PsycopgInstrumentor"),
    "psycopg2": ("psycopg2", "Psycopg2Instrumentor"),
    "pymysql": ("pymysql", "PyMySQLInstrumentor"),
    "mysql.connector": ("mysql", "MySQLInstrumentor"),
    "MySQLdb": ("mysqlclient", "MySQLClientInstrumentor"),
    "sqlite3": ("sqlite3", "SQLite3Instrumentor"),
}


@pytest.mark.parametrize("driver", OPENTELEMETRYS)
def test_opentelemetrys_own(driver: str) -> None:
    module, name = OPENTELEMETRYS[driver]
    pytest.importorskip(driver)
    instrumentor = getattr(pytest.importorskip(f"opentelemetry.instrumentation.{module}"), name)()
    assert not is_instrumented(driver)
    instrumentor.instrument(skip_dep_check=True)
    try:
        assert is_instrumented(driver)
    finally:
        instrumentor.uninstrument()
    assert not is_instrumented(driver)


def test_the_tracer_that_mysql_connector_has() -> None:
    pytest.importorskip("mysql.connector")
    from mysql.connector.opentelemetry.instrumentation import MySQLInstrumentor

    assert not is_instrumented("mysql.connector")
    MySQLInstrumentor().instrument()
    try:
        assert is_instrumented("mysql.connector")
        assert not is_instrumented("pymysql")
    finally:
        MySQLInstrumentor().uninstrument()
    assert not is_instrumented("mysql.connector")


# Runs both instrumentations and an SDK, and prints how many spans and durations of a SELECT each scope has.
APP_OF_TWO = """
import importlib, sys
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(tracers)
metrics.set_meter_provider(MeterProvider([reader]))
driver, module, name, place, first = sys.argv[1:]
theirs = getattr(importlib.import_module("opentelemetry.instrumentation." + module), name)()
import instrumented_wrapper
verbs = [theirs.instrument, lambda: instrumented_wrapper.instrument([driver])]
for instrument in verbs if first == "theirs" else verbs[::-1]:
    instrument()
connection = importlib.import_module(driver).connect(place)
cursor = connection.cursor()
spans.clear()
cursor.execute("SELECT 1")
for span in spans.get_finished_spans():
    if "SELECT" in span.name:
        print("span", span.instrumentation_scope.name)
for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics:
    for metric in scope.metrics:
        if metric.name == "db.client.operation.duration":
            for point in metric.data.data_points:
                print("durations", scope.scope.name, point.count) if "SELECT" in str(point.attributes) else None
"""
OURS = "instrumented_wrapper"


@pytest.mark.parametrize("first", ["theirs", "ours"])
@pytest.mark.parametrize("opted_in", [None, "database", "database/dup", "http"])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "sqlite3"])
def test_each_statement_is_told_of_once_and_measured_once(driver, opted_in, first, cluster):
    """Their metrics depend on ``OTEL_SEMCONV_STABILITY_OPT_IN``; ours are recorded where theirs are not."""
    module, name = OPENTELEMETRYS[driver]
    pytest.importorskip(f"opentelemetry.instrumentation.{module}")
    place = ":memory:" if driver == "sqlite3" else cluster.dsn(target_session_attrs="primary")
    given = {} if opted_in is None else {"OTEL_SEMCONV_STABILITY_OPT_IN": opted_in}
    command = [sys.executable, "-c", APP_OF_TWO, driver, module, name, place, first]
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, check=True)
    theirs = f"opentelemetry.instrumentation.{module}"
    measures = not version("opentelemetry-instrumentation").startswith("0.55")  # which has no metrics of databases
    measured = theirs if measures and opted_in and "database" in opted_in else OURS
    assert Counter(done.stdout.splitlines()) == {f"span {theirs}": 1, f"durations {measured} 1": 1}


def test_older_ones_that_take_no_meter_provider_measure_nothing(monkeypatch) -> None:
    class Integration:
        def __init__(self, name, system, tracer_provider=None):
            raise AssertionError("is not made")

    monkeypatch.setattr("opentelemetry.instrumentation.dbapi.DatabaseApiIntegration", Integration)
    monkeypatch.setattr("instrumented_wrapper.telemetry.other_instrumentations._has_instrumentor", lambda driver: True)
    assert not is_measured("psycopg")
