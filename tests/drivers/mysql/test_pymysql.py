"""What is special to PyMySQL: the server's own session tracking, results that are read late, COM_RESET_CONNECTION."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

pymysql = pytest.importorskip("pymysql")

from pymysql.connections import Connection  # noqa: E402
from pymysql.constants import CLIENT  # noqa: E402
from pymysql.cursors import SSCursor  # noqa: E402

from instrumented_wrapper import (  # noqa: E402
    FailoverSuccessError,
    TransactionResolutionUnknownError,
    reset_session,
    session_state,
)
from servers import Proxy  # noqa: E402

from ..script import complete  # noqa: E402
from .spelling import create, is_mysql, spelled  # noqa: E402

NUMBERS = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 200000)"
STATE = "SELECT @@autocommit, @@tx_isolation, @@time_zone, @@character_set_client, DATABASE(), @x"


@pytest.fixture
def state(pair: Any) -> str:
    return spelled(pair, STATE)


@pytest.fixture
def server(pair: Any) -> Any:
    return pair.primary


@pytest.fixture
def connect(server: Any) -> Iterator[Callable[..., Any]]:
    with ExitStack() as stack:

        def connect(kind: Any = pymysql.connect, **keywords: Any) -> Any:
            where = {"host": server.host, "port": server.port, "user": "app", "password": "app-secret"}
            connection = kind(**{**where, "database": "app", "autocommit": True, **keywords})
            stack.callback(lambda: connection.open and connection.close())
            return connection

        yield connect


@pytest.fixture
def switching(connect: Callable[..., Any]) -> Callable[..., Any]:
    options = {"failover": "on", "failover_timeout": 5}
    return lambda **keywords: connect(instrumented_wrapper=options, **keywords)


def ask(connection: Any, sql: str, *parameters: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return cursor.fetchall()


def end(server: Any, connection: Any) -> None:
    """End the session; return when it is gone."""
    session = connection.thread_id()
    server.sql(f"KILL {session}")
    left = f"SELECT 1 FROM information_schema.processlist WHERE id = {session}"
    deadline = time.monotonic() + 10
    while server.sql(left):
        assert time.monotonic() < deadline


def questions(server: Any, connection: Any) -> int:
    """Count the statements that the session was sent so far, as the server counts them."""
    ((_, count),) = ask(connection, "SHOW SESSION STATUS LIKE 'Questions'")
    return int(count)


# --- what the server reports --------------------------------------------------------------------------------------


@pytest.fixture
def procedure(connect: Callable[..., Any]) -> str:
    connection = connect()
    ask(connection, "DROP PROCEDURE IF EXISTS change_all")
    ask(connection, "CREATE PROCEDURE change_all() BEGIN SET time_zone = '+03:00'; SET lock_wait_timeout = 77; END")
    return "CALL change_all()"


def test_changes_inside_a_procedure_are_seen(connect, procedure: str) -> None:
    connection = connect()
    ask(connection, procedure)
    ask(connection, "SELECT 1")
    state = session_state(connection)
    assert (state["time_zone"].value, state["lock_wait_timeout"].value) == ("+03:00", "77")
    assert state["time_zone"].pristine_value == "SYSTEM"


def test_they_are_reset(connect, procedure: str) -> None:
    connection = connect()
    before = ask(connection, "SELECT @@time_zone, @@lock_wait_timeout")
    ask(connection, procedure)
    assert ask(connection, "SELECT @@time_zone, @@lock_wait_timeout") == (("+03:00", 77),)
    assert reset_session(connection)
    assert ask(connection, "SELECT @@time_zone, @@lock_wait_timeout") == before


def ask_after_loss(connection: Any, sql: str) -> Any:
    """Ask; whether a procedure has set user variables, too, MySQL does not tell this account."""
    try:
        return ask(connection, sql)
    except FailoverSuccessError as error:
        if error.not_restored != ("user variables",):
            raise
        return ask(connection, sql)


def test_they_are_carried_over(switching, server, procedure: str) -> None:
    connection = switching()
    ask(connection, procedure)
    end(server, connection)
    assert ask_after_loss(connection, "SELECT @@time_zone, @@lock_wait_timeout") == (("+03:00", 77),)


@pytest.mark.parametrize("flags", [0, CLIENT.SESSION_TRACK])
def test_they_are_seen_after_a_switch(switching, server, procedure: str, flags: int) -> None:
    connection = switching(client_flag=flags)
    end(server, connection)
    ask(connection, procedure)
    ask(connection, "SELECT 1")
    assert session_state(connection)["time_zone"].value == "+03:00"
    end(server, connection)
    assert ask_after_loss(connection, "SELECT @@time_zone, @@lock_wait_timeout") == (("+03:00", 77),)


def test_what_has_no_name_is_told(switching, server) -> None:
    """Of a user variable that a procedure sets the server says only that there is something."""
    connection = switching()
    create(server, "PROCEDURE", "remember", "() SET @x = 1")
    ask(connection, "CALL remember()")
    end(server, connection)
    with pytest.raises(FailoverSuccessError) as caught:
        ask(connection, "SELECT 1")
    assert caught.value.not_restored == ("session state",)


def test_writes_leave_nothing(switching, server) -> None:
    connection = switching()
    ask(connection, "CREATE TABLE IF NOT EXISTS written (i int)")
    ask(connection, "INSERT INTO written VALUES (1)")
    end(server, connection)
    ask(connection, "SELECT 1")


def test_nothing_more_is_sent_for_what_is_reported(connect, server) -> None:
    connection = connect()
    ask(connection, "SET time_zone = '+01:00'")
    before = questions(server, connection)
    for number in range(10):
        ask(connection, f"SET time_zone = '+0{number}:00'")
    assert questions(server, connection) == before + 11


def test_the_text_of_an_answer_is_what_it_was(connect) -> None:
    connection = connect()
    ask(connection, "CREATE TEMPORARY TABLE t (i int)")
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES (1), (2)")
        assert cursor._result.message == b"&Records: 2  Duplicates: 0  Warnings: 0"


# --- settings -----------------------------------------------------------------------------------------------------


def test_everything_is_carried_over_in_silence(switching, server, state) -> None:
    connection = switching()
    connection.autocommit(False)
    connection.select_db("other")
    connection.set_character_set("utf8mb3")
    ask(connection, "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    ask(connection, "SET time_zone = %s, @x = %s", "-05:00", "01\"é\\'")
    connection.rollback()
    before = ask(connection, state)
    connection.rollback()
    end(server, connection)
    assert ask(connection, state) == before
    assert before == ((0, "SERIALIZABLE", "-05:00", "utf8mb3", "other", "01\"é\\'"),)


def test_a_close_puts_all_of_it_back(connect, pair, state) -> None:
    connection = connect()
    pristine = ask(connection, state)
    connection.autocommit(False)
    connection.select_db("other")
    ask(connection, spelled(pair, "SET time_zone = '-05:00', @x = 5, SESSION tx_isolation = 'SERIALIZABLE'"))
    connection.rollback()
    assert reset_session(connection)
    assert ask(connection, state) == pristine
    assert (session_state(connection)["autocommit"].value, connection.get_autocommit()) == (True, True)


def test_a_whole_session_is_reset(connect, server, state) -> None:
    connection = connect(instrumented_wrapper={"reset_scope": "session"}, charset="latin1")
    pristine = ask(connection, state)
    ask(connection, "CREATE TEMPORARY TABLE scratch (i int)")
    assert ask(connection, "SELECT GET_LOCK('held', 0)") == ((1,),)
    ask(connection, "SET time_zone = '+01:00', @x = 2")
    assert reset_session(connection)
    assert ask(connection, state) == pristine  # the character set and autocommit, too
    assert server.sql("SELECT IS_USED_LOCK('held')") == [(None,)]
    with pytest.raises(pymysql.err.ProgrammingError):
        ask(connection, "SELECT * FROM scratch")
    ask(connection, "SET time_zone = '+04:00'")
    assert session_state(connection)["time_zone"].value == "+04:00"  # it still reports


# --- losses -------------------------------------------------------------------------------------------------------


def test_an_unbuffered_result_does_not_hang(switching, server, pair) -> None:
    connection = switching()
    cursor = connection.cursor(SSCursor)
    cursor.execute(f"SET @@{'cte_max_recursion_depth' if is_mysql(pair) else 'max_recursive_iterations'} = 200000")
    cursor.execute(f"{NUMBERS} SELECT n, REPEAT('x', 1000) FROM numbers")
    assert cursor.fetchone()[0] == 1
    end(server, connection)
    with pytest.raises(FailoverSuccessError) as caught:
        cursor.fetchall()
    assert (caught.value.transaction, caught.value.may_have_run) == ("none", True)
    assert ask(connection, "SELECT 1") == ((1,),)
    assert cursor.fetchone() is None  # nothing of the new session is read for it


@pytest.mark.parametrize("ending", ["CREATE TABLE IF NOT EXISTS other_table (i int)", "SET autocommit = 1"])
def test_what_commits_is_in_doubt(switching, server, ending: str) -> None:
    with Proxy(server.host, server.port) as proxy:
        connection = switching(host=proxy.host, port=proxy.port, autocommit=False)
        ask(connection, "CREATE TABLE IF NOT EXISTS doubted (i int)")
        ask(connection, "INSERT INTO doubted VALUES (1)")
        proxy.cut_when(ending.encode(), forward=True)
        with pytest.raises(TransactionResolutionUnknownError) as caught:
            ask(connection, ending)
        assert caught.value.transaction == "unknown"


# --- in place -----------------------------------------------------------------------------------------------------


def test_the_class_is_what_it_was(switching, server) -> None:
    class Own(Connection):
        pass

    connection = switching(kind=Own)
    cursor = connection.cursor()
    end(server, connection)
    cursor.execute("SELECT 1")
    assert (type(connection), cursor.connection) == (Own, connection)


def test_ping_reconnects_with_the_session(switching, server) -> None:
    connection = switching()
    ask(connection, "SET time_zone = '+01:00'")
    end(server, connection)
    connection.ping(reconnect=False)
    assert ask(connection, "SELECT @@time_zone") == (("+01:00",),)


def test_connecting_may_be_deferred(switching, server) -> None:
    connection = switching(defer_connect=True)
    connection.connect()
    ask(connection, "SET time_zone = '+01:00'")
    end(server, connection)
    assert ask(connection, "SELECT @@time_zone") == (("+01:00",),)


def test_the_app_may_begin_a_new_session(connect) -> None:
    connection = connect()
    ask(connection, "SET time_zone = '+01:00'")
    connection.close()
    connection.connect()
    assert session_state(connection) == {}
    ask(connection, "SET time_zone = '+02:00'")
    assert session_state(connection)["time_zone"].pristine_value == "SYSTEM"


def test_uninstrumented_connections_go_on(server) -> None:
    """In a process of its own: the drivers of this one stay patched."""
    text = f"""
import instrumented_wrapper, pymysql
from pymysql.connections import Connection
original = Connection.query
instrumented_wrapper.instrument(failover="on")
where = dict(host={server.host!r}, port={server.port}, user="app", password="app-secret")
connection = pymysql.connect(**where, autocommit=True)
with connection.cursor() as cursor:
    cursor.execute("SELECT CONNECTION_ID()")
    try:
        cursor.execute("KILL CONNECTION_ID()")
    except pymysql.err.OperationalError:
        pass
    cursor.execute("SELECT 1")
instrumented_wrapper.uninstrument()
assert Connection.query is original
with connection.cursor() as cursor:
    cursor.execute("SELECT 2")
    print(cursor.fetchall())
connection.close()
"""
    assert complete(text) == "((2,),)"


def test_a_function_in_a_later_statement_of_a_text_is_seen(connect, server) -> None:
    """Each answer but the last has another one behind it, which may be the one with the report."""
    connection = connect(client_flag=CLIENT.MULTI_STATEMENTS)
    create(
        server, "FUNCTION", "sets_a_limit", "(n int) RETURNS int NO SQL BEGIN SET sql_select_limit = n; RETURN n; END"
    )
    for number, text in enumerate(
        ["SET timestamp = 1, insert_id = 5; SELECT sets_a_limit(40)", "SET @x = 1; DO 0; SELECT sets_a_limit(41)"]
    ):
        with connection.cursor() as cursor:
            cursor.execute(text)
            while cursor.nextset():
                cursor.fetchall()
        ask(connection, "SELECT 1")
        assert session_state(connection)["sql_select_limit"].value == str(40 + number)
