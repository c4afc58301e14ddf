"""What drivers of MariaDB and MySQL have that others do not: its settings, implicit commits, procedures, its pool."""

from contextlib import closing
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

from instrumented_wrapper import (
    FailoverFailedError,
    TransactionResolutionUnknownError,
    reset_session,
    session_state,
    switch,
)
from servers import Proxy, guard

from .server_session import ask, end, make_table, session
from .spelling import create, spelled

STATE = "SELECT @@autocommit, @@time_zone, DATABASE(), @x, @@tx_isolation, @@tx_read_only"


@pytest.fixture
def cluster(pair: Any) -> Any:
    return pair


def set_autocommit(connection: Any, value: bool) -> None:
    if callable(getattr(type(connection), "autocommit", None)):
        connection.autocommit(value)
    else:
        connection.autocommit = value


# --- losses -------------------------------------------------------------------------------------------------------


def test_what_commits_by_the_way_is_in_doubt(connect, cluster) -> None:
    table = make_table(cluster)
    with Proxy(cluster.primary.host, cluster.primary.port) as proxy:
        connection = connect(proxy, cluster.primary, autocommit=False)
        ask(connection, f"INSERT INTO {table} VALUES (1)")
        proxy.cut_when(b"CREATE TABLE IF", forward=True)
        with pytest.raises(TransactionResolutionUnknownError):
            ask(connection, "CREATE TABLE IF NOT EXISTS by_the_way (i int)")
    assert guard.wait_until(lambda: cluster.primary.sql(f"SELECT i FROM {table}") == [("1",)], 10)


def test_what_is_shut_for_good_raises_errors_of_the_driver(driver, connect, cluster) -> None:
    connection = connect(options={"failover_timeout": 0.3})
    cluster.primary.kill()
    with pytest.raises(FailoverFailedError):
        ask(connection, "SELECT 1")
    for refused in (lambda: ask(connection, "SELECT 1"), connection.rollback, connection.commit):
        with pytest.raises(driver.Error):
            refused()


def test_what_is_shut_for_good_is_closed_without_a_word(connect, cluster) -> None:
    """The app is told why, and not what its cursors and its own close come upon."""
    connection = connect(options={"failover_timeout": 0.3})
    before = connection.cursor()
    cluster.primary.kill()
    with (
        pytest.raises(FailoverFailedError),
        closing(connection),
        closing(before),
        closing(connection.cursor()) as cursor,
    ):
        cursor.execute("SELECT 1")


def test_no_session_is_left_behind(connect, cluster) -> None:
    connection = connect()
    for _ in range(20):
        end(cluster.primary, session(connection))
        ask(connection, "SELECT 1")
    mine = "SELECT id FROM information_schema.processlist WHERE user = 'app'"
    assert guard.wait_until(lambda: cluster.primary.sql(mine) == [(str(session(connection)),)], 10)


def class_of(kind: str) -> tuple[type[Any], str]:
    """Return the class of a driver's connections, and a method that each new session of it calls."""
    if kind == "pymysql":
        return import_module("pymysql.connections").Connection, "connect"
    if kind == "MySQLdb":
        return import_module("MySQLdb.connections").Connection, "autocommit"
    name = "CMySQLConnection" if kind.endswith("C") else "MySQLConnection"
    return getattr(import_module("mysql.connector"), name), "connect"


@pytest.mark.parametrize("error", [RuntimeError("no token yet"), TypeError("no token yet")], ids=["Runtime", "Type"])
def test_an_error_that_is_not_the_drivers_is_no_final_answer(driver, kind, cluster, error: Exception) -> None:
    """An app's own class may ask a service for its token, which answers a moment later."""
    parent, name = class_of(kind)
    errors: list[Exception] = []

    def fails_once(self: Any, *args: Any, **keywords: Any) -> Any:
        if errors:
            raise errors.pop()
        return getattr(parent, name)(self, *args, **keywords)

    where = {"host": cluster.primary.host, "port": cluster.primary.port, "user": "app", "password": "app-secret"}
    options = {"failover": "on", "failover_timeout": 30}
    make = type("Own", (parent,), {name: fails_once})
    with closing(make(**where, database="app", autocommit=True, instrumented_wrapper=options)) as connection:
        errors.append(error)
        end(cluster.primary, session(connection))
        assert ask(connection, "SELECT 1") == [(1,)]
        assert not errors


# --- settings -----------------------------------------------------------------------------------------------------


def test_settings_are_known_and_put_back(connect, cluster) -> None:
    connection = connect()
    question = spelled(cluster, STATE)
    pristine = ask(connection, question)
    set_autocommit(connection, False)
    ask(connection, "SET SESSION TRANSACTION READ ONLY")
    ask(connection, spelled(cluster, "SET SESSION tx_isolation = 'READ-COMMITTED', time_zone = '+01:00', @x = 5"))
    ask(connection, "USE other")
    connection.rollback()
    state = session_state(connection)
    values = {name: (state[name].pristine_value, state[name].value) for name in ("autocommit", "read_only", "database")}
    assert values == {"autocommit": (True, False), "read_only": (False, True), "database": ("app", "other")}
    assert (state["isolation_level"].value, state["time_zone"].value) == ("READ-COMMITTED", "+01:00")
    assert state["@X"].value == "5"
    connection.rollback()
    assert reset_session(connection)
    assert ask(connection, question) == pristine


def test_parameters(connect, cluster) -> None:
    connection = connect()
    ask(connection, "SET @x = %s, time_zone = %s", "it's \"é\\", "-03:00")
    ask(connection, "SELECT 1")
    end(cluster.primary, session(connection))
    assert ask(connection, "SELECT @x, @@time_zone") == [("it's \"é\\", "-03:00")]


def test_a_procedure_that_sets(connect, cluster) -> None:
    create(cluster.primary, "PROCEDURE", "zone", "() SET time_zone = '+04:00'")
    connection = connect()
    cursor = connection.cursor()
    cursor.callproc("zone")
    cursor.close()
    ask(connection, "SELECT 1")
    assert session_state(connection)["time_zone"].value == "+04:00"
    assert reset_session(connection)
    assert ask(connection, "SELECT @@time_zone") == [("SYSTEM",)]


def test_a_whole_session_is_reset(connect, cluster) -> None:
    connection = connect(options={"reset_scope": "session"})
    question = spelled(cluster, STATE)
    pristine = ask(connection, question)
    ask(connection, "CREATE TEMPORARY TABLE scratch (i int)")
    ask(connection, "DO GET_LOCK('held', 0)")
    ask(connection, "SET time_zone = '+01:00', @x = 2")
    assert reset_session(connection)
    assert ask(connection, question) == pristine
    assert cluster.primary.sql("SELECT IS_USED_LOCK('held')") == [(None,)]


def test_a_planned_switch(connect, cluster) -> None:
    connection = connect()
    question = spelled(cluster, STATE)
    ask(connection, "SET time_zone = '+02:00', @x = 7")
    before, first = ask(connection, question), session(connection)
    switch(connection)
    assert ask(connection, question) == before
    assert session(connection) != first


def test_query_spans(connect, spans) -> None:
    connection = connect()
    spans.clear()
    ask(connection, "SELECT %s, 'secret'", 1)
    ask(connection, "SELECT 'secret'")
    told = [(span.name, span.attributes["db.query.text"]) for span in spans.all() if "SELECT" in span.name]
    assert told == [("SELECT", "SELECT %s, 'secret'"), ("SELECT", "SELECT ?")]


def test_a_pool_of_mysql_connector(cluster) -> None:
    pooling = pytest.importorskip("mysql.connector.pooling")
    where = {"host": cluster.primary.host, "port": cluster.primary.port, "user": "app", "password": "app-secret"}
    pool = pooling.MySQLConnectionPool(pool_size=1, pool_name="one", autocommit=True, charset="utf8mb4", **where)
    borrowed = pool.get_connection()
    first = session(borrowed)
    ask(borrowed, "SET time_zone = '+02:00', @x = 7")
    assert session_state(borrowed)["time_zone"].value == "+02:00"
    assert reset_session(borrowed)
    assert ask(borrowed, "SELECT @@time_zone") == [("SYSTEM",)]
    ask(borrowed, "SET time_zone = '+02:00', @x = 7")
    borrowed.close()
    with pytest.raises(TypeError):
        session_state(borrowed)
    again = pool.get_connection()
    assert session(again) == first
    state = "SELECT @@time_zone, @x, @@autocommit, @@character_set_client"
    assert ask(again, state) == [("SYSTEM", None, 1, "utf8mb4")]
    again.close()
    pool._remove_connections()


# --- round trips ---------------------------------------------------------------------------------------------------


def commands(sent: bytes) -> list[bytes]:
    """Split what a client has sent into its commands: 3 bytes of length, a number, which is 0 where one begins."""
    found = []
    while sent:
        size, number = int.from_bytes(sent[:3], "little"), sent[3]
        found += [sent[4 : 4 + size]] if number == 0 else []
        sent = sent[4 + size :]
    return found


def at_once(kind: str) -> int:
    """How many commands are sent at once; PyMySQL sends one for each statement, and reads the answers then.

    PyMySQL on MySQL asks before (``DO 0``): after rows the server does not report what a function has changed.
    """
    return 2 if kind == "pymysql" else 1


def test_a_reset_is_one_round_trip(connect, kind, cluster) -> None:
    with Proxy(cluster.primary.host, cluster.primary.port) as proxy:
        connection = connect(proxy, options={"failover": "off"})
        question = "SELECT @@time_zone, @x, @@lock_wait_timeout, DATABASE()"
        pristine = ask(connection, question)
        ask(connection, "SET time_zone = '+02:00', @x = 'acme', lock_wait_timeout = 77")
        ask(connection, "USE other")
        ask(connection, "SELECT 1")
        proxy.clear()
        assert reset_session(connection)
        sent = [command for command in commands(proxy.seen("client")) if b"DO 0" not in command]  # see below
        assert len(sent) == at_once(kind)
        assert ask(connection, question) == pristine


def test_a_transfer_is_one_round_trip(connect, kind, cluster) -> None:
    """What a new session is sent after its login: what kind of server it is, and all that it is given."""
    with Proxy(cluster.primary.host, cluster.primary.port) as proxy:
        connection = connect(cluster.primary, options={"failover": "off"})
        ask(connection, "SET time_zone = '+02:00', @x = 'acme', lock_wait_timeout = 77")
        ask(connection, "SELECT 1")
        before = ask(connection, "SELECT @@time_zone, @x, @@lock_wait_timeout, DATABASE()")
        switch(connection, proxy.host, proxy.port)
        given = [command for command in commands(proxy.seen("client")) if b"lock_wait_timeout" in command]
        assert len(given) == at_once(kind)
        assert ask(connection, "SELECT @@time_zone, @x, @@lock_wait_timeout, DATABASE()") == before


def test_without_a_transfer_all_is_at_the_baseline(connect, cluster, driver: ModuleType) -> None:
    characters = "@@character_set_client, @@character_set_results, @@collation_connection"
    question = f"{spelled(cluster, STATE)}, {characters}, @@sql_mode"
    connection = connect(charset="latin1", sql_mode="ANSI_QUOTES", options={"transfer_session_state_on_switch": False})
    before = ask(connection, question)
    for statement in ("USE other", "SET NAMES utf8mb4", "SET @x = 1, sql_mode = '', time_zone = '+03:00'"):
        ask(connection, statement)
    connection.set_character_set("utf8mb4") if driver.__name__ == "MySQLdb" else None
    end(cluster.primary, session(connection))
    assert ask(connection, question) == before
    assert ask(connection, "SELECT HEX(%s)", "\u00e9") == [("E9",)]  # the driver's side of it, too
    assert not session_state(connection)


def test_wrong_arguments_are_the_drivers_affair(connect, driver) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        connect().cursor().callproc("zone", None)
    assert caught.traceback[-1].frame.f_globals["__name__"].startswith(driver.__name__)
