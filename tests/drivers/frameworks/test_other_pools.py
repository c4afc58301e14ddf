"""DBUtils and peewee: what the next user of their connections finds, over drivers of both databases."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from instrumented_wrapper import FailoverSuccessError, reset_session, session_state

OTHER = "SELECT nullif(current_setting('app.tenant', true), ''), pg_backend_pid()"
SETS = {"pg": "SET app.tenant = 'acme'", "my": "SET @tenant = 'acme'"}
SHOWS = {"pg": OTHER, "my": "SELECT @tenant, CONNECTION_ID()"}
CONFIGURES = {"pg": "SET app.tenant = 'base'", "my": "SET @tenant = 'base'"}
ENDS = {"pg": "SELECT pg_terminate_backend({}, 10000)", "my": "KILL {}"}
TENANT = {"pg": "app.tenant", "my": "@tenant"}


class Site:
    """One driver, and a server for it."""

    def __init__(self, kind: str, driver: ModuleType, cluster: Any) -> None:
        self.kind, self.driver, self.cluster = kind, driver, cluster
        server, database = cluster.primary, "dbname" if kind == "pg" else "database"
        self.where = {"host": server.host, "port": server.port, "user": "app", "password": "app-secret"}
        self.where |= {database: "app"}
        self.called = f"{server.host}:{server.port}/app"

    def given(self, chosen: str) -> dict[str, Any]:
        options = {"reset_on_return": chosen, "failover_hosts": self.cluster.hosts()}
        return {**self.where, "instrumented_wrapper": options}

    def ask(self, connection: Any, *texts: str) -> Any:
        cursor = connection.cursor()
        for text in texts:
            cursor.execute(text)
        row = cursor.fetchone()
        cursor.close()
        connection.commit()
        return tuple(cell.decode() if isinstance(cell, bytes) else cell for cell in row)

    def leave_tenant(self, connection: Any) -> Any:
        return self.ask(connection, SETS[self.kind], SHOWS[self.kind])

    def look(self, connection: Any) -> Any:
        return self.ask(connection, SHOWS[self.kind])

    def end(self, number: int) -> None:
        self.cluster.primary.sql(ENDS[self.kind].format(number))


@pytest.fixture(params=["psycopg", "psycopg2", "pymysql", "MySQLdb"])
def site(request: pytest.FixtureRequest) -> Site:
    try:
        driver = import_module(request.param)
    except ImportError as error:
        pytest.skip(f"the driver is not installed: {error}")
    if request.param.startswith("psycopg"):
        return Site("pg", driver, request.getfixturevalue("cluster"))
    pair = request.getfixturevalue("running_mariadb")
    pair.restore()
    return Site("my", driver, pair)


def leaks(spans: Any) -> list[Any]:
    return [span.attributes["instrumented_wrapper.settings"] for span in spans.named("session_state.leak")]


def names(spans: Any) -> list[Any]:
    return [span.attributes["db.client.connection.pool.name"] for span in spans.named("session_state.leak")]


# --- DBUtils ------------------------------------------------------------------------------------------------------


@pytest.fixture
def pooled(site: Site) -> Iterator[Any]:
    """Return a function that makes a pool of one connection."""
    module, made = pytest.importorskip("dbutils.pooled_db"), []

    def pooled(chosen: str = "auto", **more: Any) -> Any:
        made.append(module.PooledDB(site.driver, maxconnections=1, **more, **site.given(chosen)))
        return made[-1]

    yield pooled
    for pool in made:
        pool.close()


def used(pool: Any, use: Any) -> Any:
    connection = pool.connection()
    found = use(connection)
    connection.close()
    return found


@pytest.mark.parametrize(
    ("chosen", "inherits", "stays"),
    [("auto", True, True), ("on", False, True), ("close", False, False), ("off", True, True)],
)
def test_dbutils_pooled(site: Site, pooled, spans, chosen: str, inherits: bool, stays: bool) -> None:
    pool = pooled(chosen)
    _, first = used(pool, site.leave_tenant)
    tenant, second = used(pool, site.look)
    assert tenant == ("acme" if inherits else None)
    assert (second == first) == stays
    assert names(spans) == ([site.called] if chosen == "auto" else [])
    assert used(pool, site.look)[1] == second, "a clean connection stays"


TRIGGERED = """
    DROP TABLE IF EXISTS triggered;
    CREATE TABLE triggered (zone text);
    GRANT ALL ON triggered TO PUBLIC;
    CREATE OR REPLACE FUNCTION triggered() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('timezone', NEW.zone, false); RETURN NEW; END $$;
    CREATE TRIGGER zone BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION triggered();
"""


def leave_zone(site: Site, connection: Any) -> str:
    """Have a trigger set the time zone: PostgreSQL reports it, and no statement of the app names it."""
    zone: str = site.ask(connection, "INSERT INTO triggered VALUES ('Asia/Tokyo')", "SHOW timezone")[0]
    return zone


@pytest.mark.parametrize("chosen", ["on", "close"])
@pytest.mark.parametrize("pool", ["pooled_db.PooledDB", "persistent_db.PersistentDB"])
def test_dbutils_what_a_trigger_sets_is_not_inherited(site: Site, pool: str, chosen: str) -> None:
    if site.kind != "pg":
        pytest.skip("MySQL reports what its triggers set with each answer")
    pytest.importorskip("dbutils")
    site.cluster.primary.sql(TRIGGERED, "app")
    module, name = pool.split(".")
    made = getattr(import_module(f"dbutils.{module}"), name)(site.driver, **site.given(chosen))
    for _ in range(2):  # the wrapper knows the text then
        assert used(made, lambda connection: leave_zone(site, connection)) == "Asia/Tokyo"
        assert used(made, lambda connection: site.ask(connection, "SHOW timezone")[0]) != "Asia/Tokyo"


def test_dbutils_setsession_is_the_baseline(site: Site, pooled) -> None:
    """Outside autocommit it belongs to the transaction in which the app sets the tenant."""
    pool = pooled("on", setsession=[CONFIGURES[site.kind]])
    connection = pool.connection()
    site.leave_tenant(connection)
    state = session_state(connection)[TENANT[site.kind]]
    assert (state.pristine_value, state.value) == ("base", "acme")
    connection.close()
    assert used(pool, site.look)[0] == "base"


def test_dbutils_a_wrapper_is_accepted_everywhere(site: Site, pooled) -> None:
    pool = pooled("off")
    connection = pool.connection()
    site.leave_tenant(connection)
    assert session_state(connection._con)[TENANT[site.kind]].value == "acme"
    assert reset_session(connection)
    assert site.look(connection)[0] is None
    connection.close()
    with pytest.raises(TypeError):
        session_state(connection)


def test_dbutils_a_dropped_connection_is_not_reset_in_its_finaliser(site: Site, pooled, spans) -> None:
    pool = pooled("on")
    connection = pool.connection()
    _, first = site.leave_tenant(connection)
    del connection
    assert not spans.named("session_state.reset")
    tenant, second = used(pool, site.look)
    assert tenant is None and second != first


def test_dbutils_does_not_run_a_statement_again_on_a_moved_connection(site: Site, pooled) -> None:
    """State that a switch cannot carry is not passed over in silence."""
    pool = pooled("off")
    connection = pool.connection()
    left = "CREATE TEMPORARY TABLE mine (a int)"
    cursor = connection.cursor()
    cursor.execute(left)
    connection.commit()
    site.end(site.look(connection)[1])
    with pytest.raises(FailoverSuccessError):
        cursor.execute(SHOWS[site.kind])
    raw = connection._con._con
    connection.rollback()
    assert site.look(connection)[0] is None
    assert connection._con._con is raw


def test_dbutils_a_loss_of_an_idle_connection_is_not_noticed(site: Site, pooled) -> None:
    pool = pooled("report")
    _, first = used(pool, site.leave_tenant)
    site.end(first)
    tenant, second = used(pool, site.look)
    assert tenant == "acme" and second != first


@pytest.mark.parametrize("chosen", ["report", "on", "close"])
def test_dbutils_persistent(site: Site, spans, chosen: str) -> None:
    module = pytest.importorskip("dbutils.persistent_db")
    persistent = module.PersistentDB(site.driver, setsession=[CONFIGURES[site.kind]], **site.given(chosen))
    _, first = used(persistent, site.leave_tenant)
    tenant, second = used(persistent, site.look)
    assert tenant == ("acme" if chosen == "report" else "base")
    assert (first == second) == (chosen != "close")
    assert len(leaks(spans)) == (chosen == "report")
    persistent.thread.connection._close()


@pytest.mark.parametrize("pool", ["pooled_db.PooledDB", "persistent_db.PersistentDB"])
@pytest.mark.parametrize(("chosen", "named"), [("on", "session_state.reset"), ("report", "session_state.leak")])
def test_dbutils_a_reset_is_linked_to_its_request(site: Site, spans, pool: str, chosen: str, named: str) -> None:
    pytest.importorskip("dbutils")
    module, kind = pool.split(".")
    made = getattr(import_module(f"dbutils.{module}"), kind)(site.driver, **site.given(chosen))
    with TracerProvider().get_tracer("app").start_as_current_span("request") as request:
        connection = made.connection()
        site.leave_tenant(connection)
    connection.close()
    (span,) = spans.named(named)
    wanted = request.get_span_context().trace_id
    assert span.parent is None and {link.context.trace_id for link in span.links} == {wanted}


# --- peewee -------------------------------------------------------------------------------------------------------


@pytest.fixture
def database(site: Site, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Return a function that makes a pool of one connection, which configures each that it hands out."""
    pool, made = pytest.importorskip("playhouse.pool"), []
    if site.driver.__name__ not in ("psycopg2", "pymysql"):
        pytest.skip("peewee chooses the driver")
    kind = pool.PooledPostgresqlDatabase if site.kind == "pg" else pool.PooledMySQLDatabase

    class Configured(kind):  # type: ignore[misc, valid-type]
        def _initialize_connection(self, conn: Any) -> None:
            site.ask(conn, CONFIGURES[site.kind], SHOWS[site.kind])

    def database(chosen: str, configured: bool = False) -> Any:
        given = {name: value for name, value in site.given(chosen).items() if name not in ("dbname", "database")}
        old = not hasattr(pytest.importorskip("peewee"), "Psycopg3Adapter")  # it knows psycopg2 only
        more = {} if old or site.kind != "pg" else {"prefer_psycopg3": False}
        made.append((Configured if configured else kind)("app", max_connections=1, **more, **given))
        return made[-1]

    yield database
    for one in made:
        one.close_all()


def within(database: Any, use: Any) -> Any:
    with database.connection_context():
        return use(database.connection())


@pytest.mark.parametrize(
    ("chosen", "inherits", "stays"),
    [("auto", True, True), ("on", False, True), ("close", False, False), ("off", True, True)],
)
def test_peewees_pool_does_what_the_option_says(
    site: Site, database, spans, chosen: str, inherits: bool, stays: bool
) -> None:
    pool = database(chosen)
    _, first = within(pool, site.leave_tenant)
    tenant, second = within(pool, site.look)
    assert tenant == ("acme" if inherits else None)
    assert (second == first) == stays
    assert len(leaks(spans)) == (chosen == "auto")


@pytest.mark.parametrize("chosen", ["on", "close"])
def test_peewee_what_a_trigger_sets_is_not_inherited(site: Site, database, chosen: str) -> None:
    if site.kind != "pg":
        pytest.skip("MySQL reports what its triggers set with each answer")
    site.cluster.primary.sql(TRIGGERED, "app")
    pool = database(chosen)
    for _ in range(2):
        assert within(pool, lambda connection: leave_zone(site, connection)) == "Asia/Tokyo"
        assert within(pool, lambda connection: site.ask(connection, "SHOW timezone")[0]) != "Asia/Tokyo"


def test_peewee_what_a_database_sets_at_each_checkout_is_the_baseline(site: Site, database, spans) -> None:
    pool = database("on", configured=True)
    for _ in range(3):
        assert within(pool, site.look)[0] == "base"
    assert not spans.named("session_state.reset")
    assert within(pool, site.leave_tenant)[0] == "acme"
    assert within(pool, site.look)[0] == "base"


# --- metrics ------------------------------------------------------------------------------------------------------


class Measured:
    """What the metrics say of a pool, apart from what pools of other tests have left."""

    def __init__(self, reader: Any, pool: str) -> None:
        gc.collect()
        self._reader, self._pool = reader, pool
        self._before = self._now()

    def grown(self) -> dict[str, Any]:
        now = self._now()
        return {name: value - self._before.get(name, 0) for name, value in now.items()}

    def _now(self) -> dict[str, Any]:
        data = self._reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        found: dict[str, Any] = {}
        for metric in (metric for scope in scopes for metric in scope.metrics):
            for point in metric.data.data_points:
                attributes = dict(point.attributes)
                if attributes.get("db.client.connection.pool.name") == self._pool and hasattr(point, "value"):
                    found[attributes.get("db.client.connection.state", metric.name.rpartition(".")[2])] = point.value
        return found


def test_a_pool_without_a_name_is_named_after_its_server(site: Site, pooled, reader) -> None:
    measured = Measured(reader, f"{site.where['host']}:{site.where['port']}/app")
    pool = pooled("off")
    connection = pool.connection()
    site.look(connection)
    assert {"used": 1, "idle": 0, "max": 1}.items() <= measured.grown().items()
    connection.close()
    assert {"used": 0, "idle": 1}.items() <= measured.grown().items()


def test_pools_of_one_name_are_counted_together(site: Site, pooled, reader) -> None:
    measured = Measured(reader, f"{site.where['host']}:{site.where['port']}/app")
    connections = [pooled("off").connection() for _ in range(3)]
    assert {"used": 3, "max": 3}.items() <= measured.grown().items()
    for connection in connections:
        connection.close()


def test_psycopg2s_pool_is_measured(cluster: Any, reader: Any) -> None:
    pool = pytest.importorskip("psycopg2.pool")
    server = cluster.primary
    where = {"host": server.host, "port": server.port, "dbname": "app", "user": "app", "password": "app-secret"}
    for kind in (pool.SimpleConnectionPool, pool.ThreadedConnectionPool):
        measured = Measured(reader, f"{server.host}:{server.port}/app")
        made = kind(1, 2, **where)
        connection = made.getconn()
        assert {"used": 1, "idle": 0, "max": 2, "min": 1}.items() <= measured.grown().items()
        made.putconn(conn=connection)
        assert {"used": 0, "idle": 1}.items() <= measured.grown().items()
        taken = [made.getconn() for _ in range(2)]
        with pytest.raises(pool.PoolError):
            made.getconn()
        assert {"used": 2, "timeouts": 1}.items() <= measured.grown().items()
        for one in taken:
            made.putconn(one)
        made.closeall()


def test_mysql_connectors_pool_is_measured(running_mariadb: Any, reader: Any) -> None:
    connector = pytest.importorskip("mysql.connector")
    running_mariadb.restore()
    server, name = running_mariadb.primary, "measured"
    where = {"host": server.host, "port": server.port, "user": "app", "password": "app-secret", "database": "app"}
    measured = Measured(reader, name)
    pool = connector.pooling.MySQLConnectionPool(pool_name=name, pool_size=2, use_pure=True, **where)
    connection = pool.get_connection()
    assert {"used": 1, "idle": 1, "max": 2}.items() <= measured.grown().items()
    connection.close()
    assert {"used": 0, "idle": 2}.items() <= measured.grown().items()
    pool._remove_connections()
