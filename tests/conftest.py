"""Fixtures for all tests: a primary and a standby per run, of each database, and recorders.

The drivers are instrumented for the whole run, with providers of the tests; `servers` under test are real.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import instrumented_wrapper
from instrumented_wrapper import SessionStateTransferHandlers
from servers import Cluster, GaleraCluster, MariaDBCluster, MySQLCluster, galera, mariadb, mysql
from tests import selection

# Started in the background, we would be deaf to Ctrl-C, and so would the programs that we start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine makes generated examples slow, which says nothing about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

EXPORTER = InMemorySpanExporter()
READER = InMemoryMetricReader()


class Spans:
    """What was exported since the test began."""

    def all(self) -> list[ReadableSpan]:
        return list(EXPORTER.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def clear(self) -> None:
        EXPORTER.clear()


def pytest_addoption(parser: pytest.Parser) -> None:
    selection.add_option(parser)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    selection.select(config, items)


def pytest_collection_finish() -> None:
    """Leave the collected tests, which live as long as the run, out of all garbage collections."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def instrumented() -> Iterator[None]:
    """Patch the drivers once, with providers that keep everything in memory."""
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(EXPORTER))
    instrumented_wrapper.instrument(tracer_provider=tracers, meter_provider=MeterProvider([READER]))
    yield
    instrumented_wrapper.uninstrument()


@pytest.fixture
def reader() -> InMemoryMetricReader:
    """What reads the metrics of the whole run."""
    return READER


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def running_mariadb() -> Iterator[MariaDBCluster]:
    if not mariadb.available():
        pytest.skip(mariadb.MISSING)
    with MariaDBCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def running_mysql() -> Iterator[MySQLCluster]:
    if not mysql.available():
        pytest.skip(mysql.missing())
    with MySQLCluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(running_cluster: Cluster) -> Cluster:
    """A healthy primary and standby, whatever the test before did to them."""
    running_cluster.restore()
    return running_cluster


@pytest.fixture
def spans() -> Spans:
    EXPORTER.clear()
    return Spans()


@pytest.fixture(autouse=True)
def no_handlers() -> Iterator[None]:
    """Handlers are process-wide: none outlives its test."""
    yield
    SessionStateTransferHandlers.clear_reset_session_state_on_close_func()
    SessionStateTransferHandlers.reset_transfer_session_state_on_switch_func()


@pytest.fixture(scope="session")
def running_galera() -> Iterator[GaleraCluster]:
    if not galera.available():
        pytest.skip(galera.MISSING)
    with GaleraCluster() as cluster:
        yield cluster
