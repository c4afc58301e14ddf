"""The dashboard of the database client says what an app asked of its database, and what its pools had."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from prometheus import Exporter, Exposed, Prometheus
from psycopg_pool import ConnectionPool, PoolTimeout

from servers.guard import wait_until

FILE = Path(__file__).parents[2] / "dashboards/database-client.json"
PANELS = {panel["title"]: panel for panel in json.loads(FILE.read_text())["panels"]}
POOL = "db_client_connection_pool_name"
SUMMARY = "db_query_summary"


def ask(dsn: str) -> None:
    """Six statements that are fast, one that is slow, one that fails."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for _ in range(6):
            connection.execute("SELECT 1 FROM pg_class LIMIT 1")
        connection.execute("SELECT count(pg_sleep(0.06)) FROM pg_am WHERE amname = 'heap'")
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT 1 FROM nowhere")


def in_vain(dsn: str) -> None:
    with (
        ConnectionPool(dsn, min_size=1, max_size=1, name="full") as pool,
        pool.connection(),
        pytest.raises(PoolTimeout),
    ):
        pool.getconn(timeout=0.01)


@contextmanager
def waiting(pool: ConnectionPool) -> Iterator[None]:
    """While inside, a thread waits for the only connection of `pool`."""

    def borrow() -> None:
        with pool.connection(timeout=60):
            pass

    thread = threading.Thread(target=borrow)
    with pool.connection():
        thread.start()
        wait_until(lambda: pool.get_stats().get("requests_waiting"), 10)
        yield
    thread.join(10)


@pytest.fixture(scope="module")
def seen(running_cluster, tmp_path_factory) -> Iterator[Prometheus]:
    """A Prometheus that has seen an app and three pools; two of these are in use."""
    if not shutil.which("prometheus"):
        pytest.skip("no program `prometheus` in PATH: the queries are not run (Debian package `prometheus`)")
    running_cluster.restore()
    dsn = running_cluster.dsn(target_session_attrs="primary")
    exporter = Exporter()
    with (
        closing(Exposed(exporter.registry)) as exposed,
        Prometheus(tmp_path_factory.mktemp("prometheus"), exposed) as prometheus,
        exporter.told(),
    ):
        in_vain(dsn)
        with (
            ConnectionPool(dsn, min_size=2, max_size=4, name="shop") as shop,
            ConnectionPool(dsn, min_size=1, max_size=1, name="busy") as busy,
        ):
            shop.wait()
            with shop.connection(), waiting(busy):
                prometheus.see()
                ask(dsn)
                prometheus.see()
                yield prometheus


def shown(seen: Prometheus, title: str, *labels: str, ref: str = "A") -> dict[tuple[str, ...], float]:
    """Return what a panel shows, by labels."""
    (expression,) = (target["expr"] for target in PANELS[title]["targets"] if target["refId"] == ref)
    for name, value in {"$__range": "5m", "$__rate_interval": "1m", "$__interval": "1m"}.items():
        expression = expression.replace(name, value)
    for name in ("$job", "$db_system", "$server", "$pool"):
        expression = expression.replace(name, ".*")
    return {tuple(series[label] for label in labels): value for series, value in seen.query(expression)}


def test_at_a_glance(seen):
    assert shown(seen, "Requests that failed") == {(): 1 / 8}
    assert shown(seen, "Pool use") == {(): 1}
    assert shown(seen, "Requests that wait for a connection") == {(): 1}
    assert shown(seen, "Pool timeouts") == {(): 1}


def test_statements(seen):
    assert shown(seen, "Most frequent", SUMMARY)["SELECT pg_class",] == 6
    slowest = shown(seen, "Slowest, p95", SUMMARY)
    assert slowest["SELECT pg_am",] >= 0.09
    assert shown(seen, "Most time in total", SUMMARY)["SELECT pg_am",] >= 0.06
    assert shown(seen, "Failed most often", SUMMARY, "error_type") == {("SELECT nowhere", "42P01"): 1}
    assert shown(seen, "Errors by status code", "error_type") == {("42P01",): 1}


def of_pools(seen, *given, **more):
    """Return what is shown of the pools above: others of the same process may still be there."""
    return {key: value for key, value in shown(seen, *given, **more).items() if key[0] in ("shop", "busy", "full")}


def test_the_panels_of_pools_show_their_state_and_limits(seen):
    state = "db_client_connection_state"
    has = {("shop", "used"): 1, ("shop", "idle"): 1, ("busy", "used"): 1, ("busy", "idle"): 0}
    assert of_pools(seen, "Connections", POOL, state) == has
    assert of_pools(seen, "Connections", POOL, ref="B") == {("shop",): 4, ("busy",): 1}
    assert of_pools(seen, "Connections", POOL, ref="C") == {("shop",): 2, ("busy",): 1}
    assert of_pools(seen, "Requests that wait", POOL) == {("shop",): 0, ("busy",): 1}
    assert of_pools(seen, "Timeouts", POOL) == {("full",): 1}
    assert set(of_pools(seen, "Making a connection, p95", POOL)) == {("full",), ("shop",), ("busy",)}
