"""A real Prometheus that scrapes metrics of this process.

It knows how to start the program, how to wait until it has seen what happened, and how to ask it.
`Exporter` has all metrics of the package, and nothing else.
"""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, Self
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen
from wsgiref.simple_server import WSGIRequestHandler, make_server

import psycopg
import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app
from psycopg_pool import ConnectionPool, PoolTimeout

from instrumented_wrapper import events, telemetry
from instrumented_wrapper.events import (
    Failover,
    FailoverEnd,
    Fetched,
    PristineFetch,
    Reset,
    ServerAddress,
    SettingChange,
    SettingsEnd,
    Signals,
    Transfer,
)
from instrumented_wrapper.instrument import _state as state
from servers import guard

CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: app
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Exporter:
    """The package's metrics through OpenTelemetry's Prometheus exporter; commits are told of within a `span`."""

    def __init__(self) -> None:
        if "registry" not in signature(PrometheusMetricReader).parameters:
            pytest.skip("opentelemetry-exporter-prometheus before 0.63b0 has one registry for all")
        self.registry = CollectorRegistry()
        self._tracers = TracerProvider()
        sources = ("1", self._tracers, MeterProvider([PrometheusMetricReader(registry=self.registry)]))
        self.listeners = telemetry.listeners(*sources)
        self.operations, self.pools = telemetry.operations(*sources)
        self.sessions = telemetry.session_metrics(sources[0], sources[2])

    @contextmanager
    def told(self) -> Iterator[None]:
        """While inside, it is told of all that happens, in the place of what listens in the whole run."""
        assert state.flows
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(events, "_listeners", self.listeners)
            patch.setattr(state.flows.operations, "__dict__", vars(self.operations))
            patch.setattr(state.flows.pools, "__dict__", vars(self.pools))
            with self._tracers.get_tracer("app").start_as_current_span("a day"):
                yield


def one_of_each(dsn: str) -> str:
    """Return all our metrics as they are exposed, after one event of each kind, a statement that failed, and a pool."""
    exporter = Exporter()
    a_session(exporter)
    with exporter.told(), ConnectionPool(dsn, min_size=1, max_size=1, name="shop") as pool:
        with pool.connection() as connection, pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("COPY nowhere TO STDOUT")
        with pool.connection(), pytest.raises(PoolTimeout):
            pool.getconn(timeout=0.01)
        return generate_latest(exporter.registry).decode()


def a_session(exporter: Exporter) -> None:
    """Tell of one event of each kind."""
    where = {"driver": "psycopg", "peer": ServerAddress("postgresql", "app", "h", 1), "signals": Signals()}
    settled = SettingsEnd((SettingChange("autocommit", 1, 2, "failed"),), "default", 0, (), "57P01")
    fate = {"trigger": "connection_lost", "transaction": "none", "may_have_run": False}
    happened = [
        (Reset(**where, trigger="close", settings=()), settled),
        (Transfer(**where, settings=()), settled),
        (Failover(**where, **fate), FailoverEnd("failed", "demoted", None, 1)),
        (PristineFetch(**where, setting="autocommit", source="driver"), Fetched(1)),
    ]
    for event, end in happened:
        for finish in reversed([listener(event) for listener in exporter.listeners]):
            assert finish
            finish(end, None)


class QuietHandler(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Exposed:
    """The metrics of a registry over HTTP."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._server = make_server("127.0.0.1", 0, make_wsgi_app(registry), handler_class=QuietHandler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def free_port() -> int:
    """Return a port below those that clients are given."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


class Prometheus:
    """The program, with its data in a folder of the test."""

    def __init__(self, folder: Path, exposed: Exposed) -> None:
        self._folder, self._exposed, self._port = folder, exposed, free_port()
        self._seen_at = 0.0

    def __enter__(self) -> Self:
        configuration = self._folder / "prometheus.yml"
        configuration.write_text(CONFIGURATION.format(port=self._exposed.port))
        program = shutil.which("prometheus")
        assert program
        command = [program, f"--config.file={configuration}", f"--storage.tsdb.path={self._folder / 'data'}"]
        command += [f"--web.listen-address=127.0.0.1:{self._port}", "--log.level=error"]
        self._process = subprocess.Popen(command, cwd=self._folder, stderr=subprocess.PIPE, text=True)
        self._wait_until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + 20
        while not self._is_ready():
            assert self._process.poll() is None, self._process.communicate()[1]
            assert time.monotonic() < end, "Prometheus is not ready in time"
            time.sleep(0.05)  # it tells nobody when it is

    def _is_ready(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=5):
                return True
        except URLError:  # nobody listens yet, or 503
            return False

    def see(self) -> None:
        """Wait until it has what happened up to now: until a scrape that began later has succeeded."""
        now = time.time()
        assert guard.wait_until(lambda: self._last_success() > now, 60), "no scrape succeeds"

    def _last_success(self) -> float:
        found = self._ask("query", query="timestamp(up) and up == 1")["result"]
        self._seen_at = float(found[0]["value"][1]) if found else 0.0
        return self._seen_at

    def _ask(self, path: str, **parameters: str) -> Any:
        with urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}?{urlencode(parameters)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return the labels and the value of each series that an expression gives for what it has seen.

        A scrape that fails later, as on a busy machine, would hide the series.
        """
        result = self._ask("query", query=expression, time=str(self._seen_at))["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def label_values(self, selector: str, label: str) -> list[str]:
        """Return what Grafana's ``label_values(selector, label)`` offers."""
        values: list[str] = self._ask(f"label/{label}/values", **{"match[]": selector})
        return values
