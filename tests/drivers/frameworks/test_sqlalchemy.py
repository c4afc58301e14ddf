"""SQLAlchemy's engines and pools over each driver: what is the baseline, and what a loss does to the pool."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple

import pytest

from instrumented_wrapper import FailoverFailedError, FailoverSuccessError, reset_session, session_state
from servers import guard

sqlalchemy = pytest.importorskip("sqlalchemy")


class Kind(NamedTuple):
    """A dialect, and what is asked through it."""

    dialect: str
    driver: str
    cluster: str
    change: str
    value: str
    number: str
    end: str
    left: str
    sets: str


OF_POSTGRESQL = (
    "running_cluster",
    "SET search_path = pg_catalog",
    "SHOW search_path",
    "SELECT pg_backend_pid()",
    "SELECT pg_terminate_backend({})",
    "SELECT 1 FROM pg_stat_activity WHERE pid = {}",
    "SELECT set_config('app.' || 'tenant', 'acme', false)",
)
OF_MARIADB = (
    "running_mariadb",
    "SET time_zone = '+02:00'",
    "SELECT @@time_zone",
    "SELECT CONNECTION_ID()",
    "KILL {}",
    "SELECT 1 FROM information_schema.processlist WHERE id = {}",
    "SET @tenant = REPEAT('acme', 3000000)",
)
KINDS = [
    Kind("postgresql+psycopg", "psycopg", *OF_POSTGRESQL),
    Kind("postgresql+psycopg2", "psycopg2", *OF_POSTGRESQL),
    Kind("postgresql+pg8000", "pg8000", *OF_POSTGRESQL),
    Kind("mysql+pymysql", "pymysql", *OF_MARIADB),
    Kind("mysql+mysqldb", "MySQLdb", *OF_MARIADB),
    Kind("mysql+mysqlconnector", "mysql.connector", *OF_MARIADB),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.driver)
def kind(request: pytest.FixtureRequest) -> Kind:
    try:
        import_module(request.param.driver)
    except ImportError as error:
        pytest.skip(f"{request.param.driver} is not installed: {error}")
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def cluster(kind: Kind, request: pytest.FixtureRequest) -> Any:
    cluster = request.getfixturevalue(kind.cluster)
    cluster.restore()
    return cluster


def needs_autocommit(pool: Any) -> None:
    if "AUTOCOMMIT" not in pool.dialect.get_isolation_level_values(None):
        pytest.skip("this SQLAlchemy has no AUTOCOMMIT for this driver")


@pytest.fixture
def engine(kind: Kind, cluster: Any) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def engine(options: dict[str, Any] | None = None, **given: Any) -> Any:
        server = cluster.primary
        url = sqlalchemy.URL.create(kind.dialect, "app", "app-secret", server.host, server.port, "app")
        ours = {"failover_hosts": cluster.hosts(), **(options or {})}
        one = given if "poolclass" in given else {"pool_size": 1, "max_overflow": 0, **given}
        made.append(sqlalchemy.create_engine(url, connect_args={"instrumented_wrapper": ours}, **one))
        return made[-1]

    yield engine
    for each in made:
        each.dispose()


def ask(connection: Any, sql: str) -> Any:
    return connection.exec_driver_sql(sql).scalar()


def end(kind: Kind, cluster: Any, number: int) -> None:
    """End a session; return when it is gone."""
    cluster.primary.sql(kind.end.format(number))
    assert guard.wait_until(lambda: not cluster.primary.sql(kind.left.format(number)), 10)


def own(connection: Any) -> Any:
    return connection.connection.driver_connection


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that it came from: SQLAlchemy rolls back, and may show that that failed, too."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def configured(engine: Any, change: str) -> Any:
    @sqlalchemy.event.listens_for(engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(change)
        cursor.close()
        connection.commit()

    return engine


# --- the baseline -------------------------------------------------------------------------------------------------


def test_what_a_connect_listener_sets_is_the_baseline(kind, cluster, engine, spans) -> None:
    pool = configured(engine(), kind.change)
    with pool.connect() as connection:
        value, number, raw = ask(connection, kind.value), ask(connection, kind.number), own(connection)
        assert dict(session_state(raw)) == dict(session_state(connection.connection)) == {}
        connection.rollback()
        assert reset_session(raw)
        assert ask(connection, kind.value) == value
    assert not spans.named("session_state.pristine_fetch") + spans.named("session_state.reset")
    end(kind, cluster, number)
    with pool.connect() as connection:
        assert own(connection) is raw
        assert ask(connection, kind.number) != number
        assert ask(connection, kind.value) == value


def test_what_is_set_later_goes_back_to_it(kind, engine) -> None:
    pool = configured(engine(), kind.change)
    with pool.connect() as connection:
        value = ask(connection, kind.value)
        for change in ("SET search_path = public", "SET time_zone = '+05:00'"):
            if change.split()[1] == kind.change.split()[1]:
                connection.exec_driver_sql(change)
        connection.commit()
        assert ask(connection, kind.value) != value
        connection.rollback()
        assert reset_session(connection.connection)
        assert ask(connection, kind.value) == value


def test_a_listener_that_fails_is_what_the_app_hears_of(kind, engine) -> None:
    pool = engine()

    @sqlalchemy.event.listens_for(pool, "connect")
    def configure(connection: Any, record: Any) -> None:
        connection.close()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        pool.connect()


@pytest.mark.parametrize("level", ["SERIALIZABLE", "AUTOCOMMIT"])
def test_the_isolation_level_of_an_engine_is_the_baseline(kind, cluster, engine, level) -> None:
    needs_autocommit(engine())
    pool = engine(isolation_level=level)

    def level_of(connection: Any) -> tuple[str, bool]:
        found = connection.get_isolation_level(), connection.connection.dbapi_connection
        opens = kind.driver.startswith("psycopg") and bool(found[1].autocommit)
        return found[0], opens

    with pool.connect() as connection:
        before, number = level_of(connection), ask(connection, kind.number)
        connection.rollback()
        assert reset_session(own(connection))
        assert level_of(connection) == before
    end(kind, cluster, number)
    with pool.connect() as connection:
        assert level_of(connection) == before


# --- losses -------------------------------------------------------------------------------------------------------


def test_a_loss_in_a_transaction_does_not_throw_the_pool_away(kind, cluster, engine) -> None:
    pool, invalidated = engine(), []
    sqlalchemy.event.listen(pool, "invalidate", lambda *args: invalidated.append(args))
    with pool.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS in_a_pool (i int)")
    with pool.connect() as connection:
        raw = own(connection)
        connection.exec_driver_sql("INSERT INTO in_a_pool VALUES (1)")
        end(kind, cluster, ask(connection, kind.number))
        with pytest.raises(sqlalchemy.exc.DBAPIError) as caught:
            ask(connection, "SELECT 1")
        assert isinstance(caught.value.orig, FailoverSuccessError)
        assert caught.value.orig.transaction == "rolled_back"
        assert not caught.value.connection_invalidated
        connection.rollback()
        assert ask(connection, "SELECT count(*) FROM in_a_pool") == 0
    with pool.connect() as connection:
        assert own(connection) is raw
    assert invalidated == []


def without_its_tenant(kind, cluster, connection) -> None:
    """Lose a session with a tenant that cannot be carried."""
    connection.exec_driver_sql(kind.sets)
    number = ask(connection, kind.number)
    connection.commit()
    end(kind, cluster, number)


def test_a_pool_discards_what_lost_its_tenant(kind, cluster, engine, caplog) -> None:
    pool = engine()
    with pool.connect() as connection:
        raw = own(connection)
        without_its_tenant(kind, cluster, connection)
        for _ in range(2):
            with pytest.raises(sqlalchemy.exc.DBAPIError) as caught:
                ask(connection, "SELECT 1")
            assert isinstance(caught.value.orig, FailoverSuccessError)
            connection.rollback()
    with pool.connect() as connection:
        assert own(connection) is not raw
        assert ask(connection, "SELECT 1") == 1
    assert "a pool discards a connection" in caplog.text


def test_a_ping_replaces_what_lost_its_tenant(kind, cluster, engine) -> None:
    pool = engine(pool_pre_ping=True)
    with pool.connect() as connection:
        raw = own(connection)
        without_its_tenant(kind, cluster, connection)
    with pool.connect() as connection:
        assert own(connection) is not raw
        assert ask(connection, "SELECT 1") == 1


def test_nobody_takes_over(kind, cluster, engine) -> None:
    pool = engine({"failover_timeout": 0.3})
    with pool.connect() as connection:
        ask(connection, "SELECT 1")
        connection.rollback()
        cluster.primary.kill()
        with pytest.raises(sqlalchemy.exc.DBAPIError) as caught:
            ask(connection, "SELECT 1")
        assert any(isinstance(error, FailoverFailedError) for error in chain_of(caught.value))
        with suppress(sqlalchemy.exc.DBAPIError):
            connection.rollback()
    cluster.restore()
    with pool.connect() as connection:
        assert ask(connection, "SELECT 1") == 1


# --- returns ------------------------------------------------------------------------------------------------------


def test_a_listener_resets_what_is_returned(kind, engine) -> None:
    """As the README shows it."""
    pool = engine()
    needs_autocommit(pool)
    sqlalchemy.event.listen(pool, "checkin", lambda connection, record: connection and reset_session(connection))
    with pool.connect() as connection:
        pristine, raw = ask(connection, kind.value), own(connection)
    with pool.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(kind.change)
        assert ask(connection, kind.value) != pristine
    with pool.connect() as connection:
        assert own(connection) is raw
        assert ask(connection, kind.value) == pristine


def test_instrumented_late_and_undone() -> None:
    """Engines that are there already are looked after, too; afterwards nothing of ours is left in SQLAlchemy."""
    script = """
import sqlalchemy, instrumented_wrapper as iw
from sqlalchemy.pool.base import _ConnectionRecord
before = dict(vars(_ConnectionRecord))
engine = sqlalchemy.create_engine("sqlite://")
sqlalchemy.event.listen(engine, "connect", lambda connection, record: connection.execute("PRAGMA foreign_keys = 1"))
iw.instrument()
with engine.connect() as connection:
    raw = connection.connection.dbapi_connection
    assert not iw.session_state(raw), iw.session_state(raw)
    connection.exec_driver_sql("PRAGMA foreign_keys = 0")
    assert str(iw.session_state(raw)) == "foreign_keys: 1 -> 0"
iw.uninstrument()
assert dict(vars(_ConnectionRecord)) == before
with sqlalchemy.create_engine("sqlite://").connect() as connection:
    assert connection.exec_driver_sql("SELECT 1").scalar() == 1
print("done")
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr) == ("done\n", "")
