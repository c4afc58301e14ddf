"""What SQLAlchemy's pools have, and how long they make the app wait: OpenTelemetry's metrics, over each driver."""

from __future__ import annotations

from typing import Any

import pytest

from ..psycopg.test_pool_metrics import numbers, points, timings
from .test_sqlalchemy import ask, cluster, engine, kind  # noqa: F401 - fixtures

sqlalchemy = pytest.importorskip("sqlalchemy")


def test_what_a_pool_has(kind, engine, request, reader) -> None:  # noqa: F811
    name = request.node.name
    pool = engine(pool_logging_name=name, pool_size=1, max_overflow=1, pool_timeout=0.05)
    with pool.connect() as first, pool.connect():
        assert numbers(reader, name) == {"max": 2, "idle": 0, "used": 2, "pending_requests": 0}
        with pytest.raises(sqlalchemy.exc.TimeoutError):
            pool.connect()
        assert ask(first, "SELECT 1") == 1
    assert numbers(reader, name) == {"max": 2, "idle": 1, "used": 0, "pending_requests": 0, "timeouts": 1}
    pool.dispose()
    assert set(numbers(reader, name)) == {"timeouts"}, "a pool that was disposed of has nothing"


def test_the_times_of_a_pool(kind, engine, request, reader) -> None:  # noqa: F811
    name = request.node.name
    pool = engine(pool_logging_name=name)
    for _ in range(3):
        with pool.connect() as connection:
            ask(connection, "SELECT 1")
    found = timings(reader, name)
    assert {name: point.count for name, point in found.items()} == {"create_time": 1, "wait_time": 3, "use_time": 3}


def test_its_name_is_where_it_leads(kind, cluster, engine, reader) -> None:  # noqa: F811
    pool = engine()
    with pool.connect():
        server = cluster.primary
        assert numbers(reader, f"{server.host}:{server.port}/app")["used"] >= 1


def test_engines_of_one_name_are_one_series(kind, engine, request, reader) -> None:  # noqa: F811
    name = request.node.name
    with engine(pool_logging_name=name).connect(), engine(pool_logging_name=name).connect():
        assert numbers(reader, name) == {"max": 2, "idle": 0, "used": 2, "pending_requests": 0}
        assert [len(these) for these in points(reader, name).values() if hasattr(these[0], "value")] == [2, 1, 1]


def test_without_a_limit(kind, engine, request, reader) -> None:  # noqa: F811
    with engine(pool_logging_name=request.node.name, max_overflow=-1).connect():
        assert numbers(reader, request.node.name) == {"idle": 0, "used": 1, "pending_requests": 0}


def test_a_connection_without_metrics(kind, engine, request, reader) -> None:  # noqa: F811
    pool = engine({"metrics": False}, pool_logging_name=request.node.name)
    with pool.connect():
        pass
    assert timings(reader, request.node.name) == {}


def test_drivers_that_are_not_supported(request, reader: Any) -> None:
    """The pool is SQLAlchemy's, whatever its connections are."""

    class Connection:
        def cursor(self) -> Any:
            raise NotImplementedError

        def rollback(self) -> None:
            """Do nothing."""

        close = commit = rollback

    name = request.node.name
    pool = sqlalchemy.pool.QueuePool(Connection, pool_size=1, logging_name=name)
    pool.connect().close()
    assert {name: point.count for name, point in timings(reader, name).items()} == {
        "create_time": 1,
        "wait_time": 1,
        "use_time": 1,
    }
