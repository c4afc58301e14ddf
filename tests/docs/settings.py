"""The set-ups of the pages: each yields the names that Python blocks have, or the environment that commands have.

Names that stand for an app's own servers on a page (`db1`, `a,b`) are replaced by those of real ones: `Given.places`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from instrumented_wrapper import options
from servers import Cluster, MariaDBCluster, PgBouncer, pgbouncer
from servers.server import APP

Fixtures = Callable[[str], Any]


@dataclass
class Given:
    """What a block gets."""

    names: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    sql: Callable[[str], object] | None = None  # of blocks that are not Python


@contextmanager
def plain(fixtures: Fixtures) -> Iterator[Given]:
    """Nothing besides Python, or a shell."""
    yield Given()


@contextmanager
def psycopg_pair(fixtures: Fixtures) -> Iterator[Given]:
    """A connection to a primary and its standby."""
    cluster: Cluster = fixtures("cluster")
    dsn = cluster.dsn(target_session_attrs="read-write")
    one, two = cluster.primary, cluster.standby
    places = {
        '"host=a,b dbname=shop target_session_attrs=read-write"': "dsn",
        "db1,db2:5433": f"{one.host}:{one.port},{two.host}:{two.port}",
        '"b", 5432': f'"{one.host}", {one.port}',
    }
    with psycopg.connect(dsn) as connection:
        yield Given(
            {
                "psycopg": psycopg,
                "dsn": dsn,
                "connection": connection,
                "admin_dsn": one.dsn(user="postgres", dbname="postgres"),
            },
            places=places,
        )


@contextmanager
def psycopg_pooler(fixtures: Fixtures) -> Iterator[Given]:
    """A connection through PgBouncer in transaction mode."""
    if not pgbouncer.available():
        pytest.skip("PgBouncer is not on this machine")
    cluster: Cluster = fixtures("cluster")
    with PgBouncer(cluster.primary, "transaction") as pooler:
        dsn = cluster.primary.dsn(host=pooler.host, port=pooler.port)
        with psycopg.connect(dsn, prepare_threshold=None) as connection:
            yield Given({"connection": connection})


@contextmanager
def servers_command(fixtures: Fixtures) -> Iterator[Given]:
    """An environment in which `python -m servers` runs; of other instrumentations only what the tutorial installs."""
    quiet = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "psycopg,sqlalchemy"}
    yield Given(environment=quiet)


@contextmanager
def sqlalchemy_engine(fixtures: Fixtures) -> Iterator[Given]:
    """SQLAlchemy, and a pair that stands in the place of the page's hosts."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    cluster: Cluster = fixtures("cluster")
    one, two = cluster.primary, cluster.standby
    places = {
        "postgresql+psycopg://app:secret@one/shop": f"postgresql+psycopg://app:app-secret@{one.host}:{one.port}/app",
        '"one,two"': f'"{one.host}:{one.port},{two.host}:{two.port}"',
    }
    given = Given({"create_engine": sqlalchemy.create_engine}, places=places)
    yield given
    with given.names["engine"].connect() as connection:  # the page makes it
        connection.exec_driver_sql("SELECT 1")
    given.names["engine"].dispose()


@contextmanager
def django_settings(fixtures: Fixtures) -> Iterator[Given]:
    """A module of settings, whose OPTIONS the wrapper takes."""
    pytest.importorskip("django")
    given = Given()
    yield given
    keywords = dict(given.names["DATABASES"]["default"]["OPTIONS"])
    options.Options().with_keywords(options.take_keywords(keywords), options.CONNECT)
    assert not keywords


@contextmanager
def sql(fixtures: Fixtures) -> Iterator[Given]:
    """A server that runs statements."""
    cluster: Cluster = fixtures("cluster")
    yield Given(sql=lambda text: cluster.primary.sql(text, "app"))


@contextmanager
def retrying(fixtures: Fixtures) -> Iterator[Given]:
    """Functions that take orders; those with a retry then lose their session in the middle of the transaction."""
    for package in ("tenacity", "stamina"):
        pytest.importorskip(package)
    cluster: Cluster = fixtures("cluster")
    server = cluster.primary
    server.sql(
        "DROP TABLE IF EXISTS orders; CREATE TABLE orders (number int PRIMARY KEY); GRANT ALL ON orders TO app", "app"
    )
    given = Given({"psycopg": psycopg})
    yield given
    lost = []

    class Losing(psycopg.Connection[Any]):
        def execute(self, query: Any, *arguments: Any, **keywords: Any) -> Any:
            if self.info.transaction_status and not lost:
                lost.append(pid := self.info.backend_pid)
                server.sql(f"SELECT pg_terminate_backend({pid}, 10000)")
            return super().execute(query, *arguments, **keywords)

    with Losing.connect(cluster.dsn(target_session_attrs="read-write"), autocommit=True) as connection:
        for number, name in enumerate(("take_order", "take_order_too")):
            lost.clear()
            given.names[name](connection, number)
            assert lost
        for _ in range(2):
            given.names["take_order_once"](connection, 2)
    assert server.sql("SELECT number FROM orders ORDER BY 1", "app") == [("0",), ("1",), ("2",)]


@contextmanager
def tenants(fixtures: Fixtures) -> Iterator[Given]:
    """The table of the page on tenants, and what kills a primary."""
    pytest.importorskip("psycopg_pool")
    cluster: Cluster = fixtures("cluster")
    cluster.wait_streaming()
    dsn = cluster.dsn(target_session_attrs="read-write")
    given = Given({"dsn": dsn, "fail_over": cluster.failover})
    yield given
    given.names["pool"].close()
    assert cluster.primary.sql("SELECT tenant, text FROM notes", "app") == [("acme", "buy tea"), ("acme", "buy milk")]


@contextmanager
def tenants_sql(fixtures: Fixtures) -> Iterator[Given]:
    """A database in which the table of the page does not exist yet."""
    cluster: Cluster = fixtures("cluster")
    cluster.primary.sql("DROP TABLE IF EXISTS notes", "app")
    yield Given(sql=lambda text: cluster.primary.sql(text, "app"))


@contextmanager
def pymysql_pair(fixtures: Fixtures) -> Iterator[Given]:
    """A MariaDB primary and its replica in the place of the page's hosts, and what kills the primary."""
    pytest.importorskip("pymysql")
    pair: MariaDBCluster = fixtures("running_mariadb")
    pair.restore()
    one, two = pair.primary, pair.standby
    places = {
        '"db1,db2:3307"': f'"{one.host}:{one.port},{two.host}:{two.port}"',
        '"db1"': f'"{one.host}", port={one.port}',
        '"secret"': f'"{APP["password"]}"',
        '"shop"': '"app"',
    }
    given = Given({"fail_over": pair.failover}, places=places)
    yield given
    given.names["connection"].close()


@contextmanager
def celery(fixtures: Fixtures) -> Iterator[Given]:
    """A Celery app that runs tasks at once, and a pool; the task loses its first session in its transaction."""
    app = pytest.importorskip("celery").Celery("notes", set_as_current=False)
    app.conf.update(task_always_eager=True)
    pools = pytest.importorskip("psycopg_pool")
    cluster: Cluster = fixtures("cluster")
    server = cluster.primary
    server.sql(
        "DROP TABLE IF EXISTS notes; CREATE TABLE notes (text text PRIMARY KEY); GRANT ALL ON notes TO app", "app"
    )
    lost = []

    class Losing(psycopg.Connection[Any]):
        def execute(self, query: Any, *arguments: Any, **keywords: Any) -> Any:
            if str(query).startswith("INSERT") and not lost:
                lost.append(pid := self.info.backend_pid)
                server.sql(f"SELECT pg_terminate_backend({pid}, 10000)")
            return super().execute(query, *arguments, **keywords)

    dsn = cluster.dsn(target_session_attrs="read-write")
    with pools.ConnectionPool(dsn, connection_class=Losing, min_size=1, max_size=1) as pool:
        given = Given({"app": app, "pool": pool, "psycopg": psycopg})
        yield given
        given.names["add"].delay("acme", "buy tea")
    assert lost
    assert server.sql("SELECT text FROM notes", "app") == [("buy tea",)]
