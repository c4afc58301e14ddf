"""What is special to mysql-connector: pure connections and those in C, what the driver keeps itself, its pool."""

import gc
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from instrumented_wrapper import FailoverSuccessError, reset_session, session_state, switch
from servers import Proxy

from .conftest import close
from .server_session import ask, end, make_table, other_account, session
from .spelling import create, spelled

connector = pytest.importorskip("mysql.connector")
pooling = pytest.importorskip("mysql.connector.pooling")
NUMBERS = count(1)


@pytest.fixture(params=["pure", "C"])
def variant(request: pytest.FixtureRequest) -> dict[str, bool]:
    if request.param == "C" and not connector.HAVE_CEXT:
        pytest.skip("the C extension cannot be loaded, or only before all else: `python -m tests`")
    return {"use_pure": request.param == "pure"}


@pytest.fixture
def cluster(pair: Any) -> Any:
    return pair


@pytest.fixture
def given(cluster: Any) -> dict[str, Any]:
    where = {"host": cluster.primary.host, "port": cluster.primary.port, "database": "app", "charset": "utf8mb4"}
    return {**where, "user": "app", "password": "app-secret"}


@pytest.fixture
def connect(variant: dict[str, bool], given: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    """Connect, with failover on."""
    with ExitStack() as stack:

        def connect(failover: str = "on", **keywords: Any) -> Any:
            ours = {"instrumented_wrapper": {"failover": failover}}
            connection = connector.connect(**{**given, **variant, **ours, **keywords})
            stack.callback(close, connection)
            return connection

        yield connect


@pytest.fixture
def pool(variant: dict[str, bool], given: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    with ExitStack() as stack:

        def pool(**keywords: Any) -> Any:
            named = {"pool_name": f"pool{next(NUMBERS)}", "pool_size": 1}
            made = pooling.MySQLConnectionPool(**{**named, **given, **variant, **keywords})
            stack.callback(made._remove_connections)
            return made

        yield pool


# --- cursors ------------------------------------------------------------------------------------------------------


def test_prepared_statements_are_prepared_again(connect, cluster) -> None:
    connection = connect(autocommit=True)
    first, second = connection.cursor(prepared=True), connection.cursor(prepared=True)
    for cursor, text in ((first, "SELECT 1, %s"), (second, "SELECT 2, %s")):
        cursor.execute(text, (7,))
        cursor.fetchall()
    end(cluster.primary, session(connection))
    for cursor, text, number in ((second, "SELECT 2, %s", 2), (first, "SELECT 1, %s", 1)):
        cursor.execute(text, (8,))
        assert cursor.fetchall() == [(number, 8)]
    end(cluster.primary, session(connection))
    ask(connection, "SELECT 1")
    second.close()
    first.execute("SELECT 1, %s", (9,))
    assert first.fetchall() == [(1, 9)]


def test_parameters_of_a_prepared_statement_while_a_span_is_recorded(connect, spans) -> None:
    cursor = connect().cursor(prepared=True)
    cursor.execute("SELECT %s, %s, %s", (5, "a", 8))
    assert cursor.fetchall() == [(5, "a", 8)]
    assert spans.named("SELECT")


def test_what_is_asked_leaves_nothing_in_the_handle(connect, cluster) -> None:
    create(cluster.primary, "PROCEDURE", "twice", "(v int) BEGIN SELECT v; SELECT v * 2; END")
    cursor = connect().cursor()
    for _ in range(2):  # what the CALL has set is asked for before the next statement
        rows = []
        cursor.execute("CALL twice(1); SELECT 5")
        rows.append(cursor.fetchall())
        while cursor.nextset():
            rows += [cursor.fetchall()] if cursor.with_rows else []
        assert rows == [[(1,)], [(2,)], [(5,)]]


def test_a_cursor_whose_connection_is_gone(variant, given) -> None:
    cursor = connector.connect(**given, **variant).cursor()
    gc.collect()
    with pytest.raises(connector.ProgrammingError):
        cursor.execute("SELECT 1")


def test_a_commit_that_is_refused_before_rows_are_read(connect) -> None:
    connection = connect()
    cursor = connection.cursor()
    cursor.execute("SELECT 1 UNION SELECT 2")
    for refused in (connection.commit, connection.cursor):
        with pytest.raises(connector.InternalError):
            refused()
    assert cursor.fetchall() == [(1,), (2,)]


def test_a_lost_result_of_several_statements(connect, cluster) -> None:
    with Proxy(cluster.primary.host, cluster.primary.port) as proxy:
        connection = connect(port=proxy.port, autocommit=True)
        number = session(connection)
        cursor = connection.cursor()
        cursor.execute("SELECT 1; SELECT SLEEP(5)")
        cursor.fetchall()
        proxy.cut()
        with pytest.raises(FailoverSuccessError):
            cursor.nextset()
        end(cluster.primary, number)


# --- what the driver keeps itself ----------------------------------------------------------------------------------


def test_a_character_set_goes_back_in_the_driver_too(connect, cluster) -> None:
    table = make_table(cluster)
    cluster.primary.sql(f"ALTER TABLE {table} ADD word text CHARACTER SET utf8mb4")
    connection = connect(autocommit=True)
    connection.set_charset_collation("latin1", "latin1_general_ci")
    ask(connection, f"INSERT INTO {table} VALUES (1, %s)", "é")
    assert reset_session(connection)
    assert (connection.charset, ask(connection, "SELECT @@character_set_client")) == ("utf8mb4", [("utf8mb4",)])
    ask(connection, f"INSERT INTO {table} VALUES (2, %s)", "é")
    assert cluster.primary.sql(f"SELECT DISTINCT HEX(word) FROM {table}") == [("C3A9",)]


def test_a_character_set_over_a_switch(connect, cluster) -> None:
    connection = connect(autocommit=True)
    connection.set_charset_collation("latin1", "latin1_general_ci")
    end(cluster.primary, session(connection))
    assert ask(connection, "SELECT HEX(CONVERT(%s USING utf8mb4)), @@collation_connection", "é") == [
        ("C3A9", "latin1_general_ci")
    ]


def test_a_session_that_the_app_begins_anew(connect) -> None:
    connection = connect(time_zone="+01:00")
    connection.autocommit = True
    connection.time_zone = "+02:00"
    ask(connection, "SET @x = 1, lock_wait_timeout = 77")
    for begin_anew in (connection.reset_session, connection.reconnect):
        begin_anew()
        kept = ask(connection, "SELECT @@autocommit, @@time_zone, @x, @@lock_wait_timeout = @@global.lock_wait_timeout")
        assert kept == [(1, "+02:00", None, 1)]
        assert dict(session_state(connection)).keys() >= {"autocommit", "time_zone"}
        assert session_state(connection)["time_zone"].pristine_value == "+01:00"
        assert "lock_wait_timeout" not in session_state(connection)
    assert reset_session(connection)
    assert ask(connection, "SELECT @@autocommit, @@time_zone") == [(0, "+01:00")]


def test_another_user_over_a_switch(connect, cluster) -> None:
    other_account(cluster)
    connection = connect(autocommit=True)
    connection.cmd_change_user("other", "other-secret", "other")
    who = ask(connection, "SELECT CURRENT_USER(), DATABASE()")
    assert who == [("other@%", "other")]
    end(cluster.primary, session(connection))
    assert ask(connection, "SELECT CURRENT_USER(), DATABASE()") == who


# --- connecting and closing ----------------------------------------------------------------------------------------


def test_configured_first_and_connected_then(connect, given, cluster) -> None:
    connection = type(connect())()
    connection.config(**given, autocommit=True, instrumented_wrapper={"failover": "on"})
    connection.connect()
    first = session(connection)
    end(cluster.primary, first)
    assert session(connection) != first
    connection.close()


def test_a_connection_that_was_shut_down_stays_shut(connect, variant) -> None:
    if not variant["use_pure"]:
        pytest.skip("connections in C cannot be shut down")
    connection = connect(autocommit=True)
    connection.shutdown()
    with pytest.raises(connector.Error) as caught:
        ask(connection, "SELECT 1")
    assert not isinstance(caught.value, FailoverSuccessError)
    connection.reconnect()
    assert ask(connection, "SELECT 1") == [(1,)]


def test_ping_moves_a_lost_connection(connect, cluster) -> None:
    connection = connect()
    first = session(connection)
    connection.rollback()
    ask(connection, "SET @x = 1")
    connection.rollback()
    end(cluster.primary, first)
    connection.ping(reconnect=True)
    assert ask(connection, "SELECT @x") == [(1,)]
    assert session(connection) != first


def test_an_error_of_commit_that_is_none_of_the_db_api(connect, cluster, variant, spans) -> None:
    with Proxy(cluster.primary.host, cluster.primary.port) as proxy:
        connection = connect("off", port=proxy.port)
        ask(connection, "SELECT 1")
        proxy.cut()
        spans.clear()
        with pytest.raises(Exception) as caught:
            connection.commit()
    assert isinstance(caught.value, connector.Error) is variant["use_pure"]
    (span,) = spans.named("failover")
    assert span.attributes["instrumented_wrapper.outcome"] == "failed"


# --- the pool ------------------------------------------------------------------------------------------------------


def test_our_keywords_through_a_pool(pool, cluster) -> None:
    borrowed = pool(instrumented_wrapper={"failover": "on"}, autocommit=True).get_connection()
    first = session(borrowed)
    end(cluster.primary, first)
    assert session(borrowed) != first
    borrowed.close()


def test_a_connection_that_was_lost_in_the_pool(pool, cluster) -> None:
    made = pool(instrumented_wrapper={"failover": "on"}, autocommit=True)
    borrowed = made.get_connection()
    first = session(borrowed)
    ask(borrowed, "SET @x = 1")
    borrowed.close()
    end(cluster.primary, first)
    borrowed = made.get_connection()  # the pool connects anew
    assert ask(borrowed, "SELECT @x, @@autocommit") == [(None, 1)]
    end(cluster.primary, session(borrowed))
    assert ask(borrowed, "SELECT 1") == [(1,)]
    borrowed.close()


def test_what_the_pool_discards_is_replaced_where_the_primary_is(pool, cluster) -> None:
    primary = (cluster.primary.host, cluster.primary.port)
    with Proxy(*primary) as proxy:
        options = {"failover_hosts": [(proxy.host, proxy.port), primary], "reset_on_return": "close"}
        given = {"host": proxy.host, "port": proxy.port, "pool_reset_session": False}
        made = pool(instrumented_wrapper=options, autocommit=True, **given)
        borrowed = made.get_connection()
        ask(borrowed, "SET @x = 1")
        proxy.refuse()
        proxy.cut()
        assert ask(borrowed, "SELECT @x") == [(1,)]  # it has moved
        borrowed.close()  # the session has changed: the pool gets a connection that has ended
        borrowed = made.get_connection()
        assert ask(borrowed, "SELECT @x") == [(None,)]
        borrowed.close()


@pytest.mark.parametrize("resets", [True, False])
def test_the_next_borrower_inherits_nothing(pool, cluster, resets: bool) -> None:
    made = pool(pool_reset_session=resets, autocommit=False, time_zone="+01:00")
    state = spelled(cluster, "SELECT @@autocommit, @@time_zone, @@tx_read_only, @@character_set_client, @x, @@sql_mode")
    borrowed = made.get_connection()
    pristine = ask(borrowed, state)
    driven = borrowed._cnx  # the driver's wrapper passes on what is called and read, not what is set
    driven.autocommit = True
    driven.time_zone = "+05:00"
    driven.sql_mode = "ANSI"
    borrowed.set_charset_collation("latin1")
    ask(borrowed, "SET SESSION TRANSACTION READ ONLY")
    ask(borrowed, "SET @x = 1")
    assert session_state(borrowed)["time_zone"].value == "+05:00"
    borrowed.close()
    borrowed = made.get_connection()
    assert ask(borrowed, state) == pristine
    borrowed.close()


# --- the current span, as a query attribute -----------------------------------------------------------------------


def test_a_character_set_for_which_python_has_no_codec(connect) -> None:
    with TracerProvider().get_tracer("app").start_as_current_span("app"):  # as each of our query spans is
        connection = connect(autocommit=True)
        sends_spans = connection.otel_context_propagation
        connection.set_charset_collation("binary")
        assert ask(connection, "SELECT 1") == [(1,)]
        switch(connection)
        assert ask(connection, "SELECT 1") == [(1,)]
        connection.set_charset_collation("utf8mb4")
        assert connection.otel_context_propagation == sends_spans


def test_what_the_app_has_turned_off_stays_off(connect) -> None:
    connection = connect()
    connection.otel_context_propagation = False
    for charset in ("binary", "utf8mb4"):
        connection.set_charset_collation(charset)
    assert connection.otel_context_propagation is False


def test_after_a_search_in_vain_it_is_at_its_own_host(given: dict[str, Any], cluster: Any) -> None:
    """Also where another host has answered, but is a standby."""
    other = cluster.standby
    with Proxy(cluster.primary.host, cluster.primary.port) as away:
        away.refuse()
        connection = connector.MySQLConnection()
        ours = {"failover_hosts": f"{other.host}:{other.port}", "failover_timeout": 0.3}
        with pytest.raises(connector.Error):
            connection.connect(**{**given, "host": away.host, "port": away.port}, instrumented_wrapper=ours)
        assert (connection.server_host, connection.server_port) == (away.host, away.port)


def test_the_socket_of_each_connection_is_known(connect: Callable[..., Any]) -> None:
    """Also of the C extension, which exposes none, and while other threads connect to the same server."""
    from instrumented_wrapper.drivers.mysql_connector.install import ADAPTER

    with ThreadPoolExecutor(8) as threads:
        connections = list(threads.map(lambda _: connect(), range(8)))
    seen = [
        ask(connection, "SELECT HOST FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()")
        for connection in connections
    ]
    used = [_local_address(ADAPTER.socket(connection)) for connection in connections]
    assert seen == [[(address,)] for address in used]


def _local_address(descriptor: int | None) -> str:
    assert descriptor is not None
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        return "{}:{}".format(*copy.getsockname())


def test_the_socket_of_the_c_extension_blocks_as_before(connect: Callable[..., Any], variant: dict[str, bool]) -> None:
    """Where Python's own sockets are given a time limit."""
    from instrumented_wrapper.drivers.mysql_connector.install import ADAPTER

    if variant["use_pure"]:
        pytest.skip("a socket of Python's")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    try:
        limited = connect()
    finally:
        socket.setdefaulttimeout(before)
    assert os.get_blocking(ADAPTER.socket(limited)) == os.get_blocking(ADAPTER.socket(connect()))


def test_a_pool_hands_out_a_session_that_is_reset(cluster) -> None:
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
