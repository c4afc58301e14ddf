"""Losses that SQLAlchemy meets: its ping, savepoints, a search in vain, and connections that it makes afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from instrumented_wrapper import FailoverFailedError, FailoverSuccessError
from servers import Proxy

from .test_sqlalchemy import ask, chain_of, cluster, end, engine, kind, own  # noqa: F401 - fixtures

sqlalchemy = pytest.importorskip("sqlalchemy")


def lose(kind, cluster, pool) -> tuple[Any, int]:  # noqa: F811
    """Lose the session of the one connection in the pool; return the connection, and what its session was."""
    with pool.connect() as connection:
        raw, number = own(connection), ask(connection, kind.number)
    end(kind, cluster, number)
    return raw, number


def test_a_ping_moves_the_connection_and_says_nothing(kind, cluster, engine) -> None:  # noqa: F811
    pool, invalidated = engine(pool_pre_ping=True), []
    sqlalchemy.event.listen(pool, "invalidate", lambda *given: invalidated.append(given))
    with pool.begin() as connection:
        connection.exec_driver_sql(kind.change)
        value = ask(connection, kind.value)
    raw, number = lose(kind, cluster, pool)
    with pool.connect() as connection:
        assert own(connection) is raw
        assert ask(connection, kind.number) != number
        assert ask(connection, kind.value) == value
    assert invalidated == []


def test_a_loss_that_hits_the_ping_itself(kind, cluster, engine) -> None:  # noqa: F811
    """The server goes on answering until the ping is sent, so that it is not found dead before."""
    with Proxy(cluster.primary.host, cluster.primary.port) as proxy:
        url = sqlalchemy.URL.create(kind.dialect, "app", "app-secret", proxy.host, proxy.port, "app")
        ours = {"failover": "on"}
        pool = sqlalchemy.create_engine(
            url, connect_args={"instrumented_wrapper": ours}, pool_size=1, max_overflow=0, pool_pre_ping=True
        )
        invalidated: list[Any] = []
        sqlalchemy.event.listen(pool, "invalidate", lambda *given: invalidated.append(given))
        with pool.connect() as connection:
            raw, number = own(connection), ask(connection, kind.number)
        proxy.cut_when(b"Q\x00\x00\x00" if kind.dialect.startswith("postgresql") else b"\x01\x00\x00\x00\x0e")
        with pool.connect() as connection:
            assert own(connection) is raw
            assert ask(connection, kind.number) != number
        assert invalidated == []
        pool.dispose()


def test_a_savepoint_shows_the_loss(kind, cluster, engine) -> None:  # noqa: F811
    pool = engine()
    with pool.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS in_a_savepoint (i int)")
    with pool.connect() as connection:
        with pytest.raises(sqlalchemy.exc.DBAPIError) as caught, connection.begin(), connection.begin_nested():
            connection.exec_driver_sql("INSERT INTO in_a_savepoint VALUES (1)")
            end(kind, cluster, ask(connection, kind.number))
            ask(connection, "SELECT 1")
        assert isinstance(caught.value.orig, FailoverSuccessError)
        assert caught.value.orig.transaction == "rolled_back"
        assert ask(connection, "SELECT 1") == 1


def test_a_transaction_lost_at_its_commit_has_ended(kind, cluster, engine) -> None:  # noqa: F811
    """SQLAlchemy has no transaction afterwards that the app could roll back."""
    pool = engine()
    with pool.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS lost_at_its_commit (i int)")
    with pool.connect() as connection:
        with pytest.raises(sqlalchemy.exc.DBAPIError) as caught, connection.begin():
            connection.exec_driver_sql("INSERT INTO lost_at_its_commit VALUES (1)")
            end(kind, cluster, ask(connection, kind.number))
        assert isinstance(caught.value.orig, FailoverSuccessError)
        assert caught.value.orig.transaction == "rolled_back"
        assert ask(connection, "SELECT count(*) FROM lost_at_its_commit") == 0


def test_a_savepoint_of_a_loss_that_is_caught(kind, cluster, engine) -> None:  # noqa: F811
    pool = engine()
    with pool.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS in_a_savepoint (i int)")
    with pool.connect() as connection:
        with pytest.raises(sqlalchemy.exc.DBAPIError) as caught, connection.begin():
            with pytest.raises(sqlalchemy.exc.DBAPIError) as inner, connection.begin_nested():
                connection.exec_driver_sql("INSERT INTO in_a_savepoint VALUES (1)")
                end(kind, cluster, ask(connection, kind.number))
                ask(connection, "SELECT 1")
            assert isinstance(inner.value.orig, FailoverSuccessError)
        assert isinstance(caught.value.orig, FailoverSuccessError)


def test_a_search_in_vain_invalidates(kind, cluster, engine) -> None:  # noqa: F811
    pool, invalidated = engine({"failover_timeout": 0.3}), []
    sqlalchemy.event.listen(pool, "invalidate", lambda *given: invalidated.append(given))
    with pool.connect() as connection:
        raw = own(connection)
        ask(connection, "SELECT 1")
        connection.rollback()
        cluster.primary.kill()
        with pytest.raises(sqlalchemy.exc.DBAPIError) as caught:
            ask(connection, "SELECT 1")
        assert any(isinstance(error, FailoverFailedError) for error in chain_of(caught.value))
        assert caught.value.connection_invalidated
    assert len(invalidated) == 1
    cluster.restore()
    with pool.connect() as connection:
        assert own(connection) is not raw
        assert ask(connection, "SELECT 1") == 1


@pytest.mark.parametrize("way", ["overflow", "recycle", "invalidate", "NullPool"])
def test_new_connections_after_a_failover(kind, cluster, engine, spans, way: str) -> None:  # noqa: F811
    given: dict[str, Any] = {"pool_size": 1, "max_overflow": 1}
    given |= {"pool_recycle": 0} if way == "recycle" else {}
    pool = engine(**({"poolclass": sqlalchemy.pool.NullPool} if way == "NullPool" else given))
    with pool.connect() as connection:
        ask(connection, "SELECT 1")
        if way == "invalidate":
            connection.invalidate()
    cluster.wait_streaming()
    cluster.failover()
    with pool.connect() as first, pool.connect() as second:
        assert [ask(first, "SELECT 1"), ask(second, "SELECT 1")] == [1, 1]
    found = [span for span in spans.named("failover") if span.attributes["instrumented_wrapper.trigger"] == "connect"]
    assert found
