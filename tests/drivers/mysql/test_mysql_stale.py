"""A user variable of the app that code on the server has set once more: no statement runs with the old value.

Each test asks the server for the value that a statement would use.
"""

from __future__ import annotations

import functools
from contextlib import closing
from importlib import import_module
from typing import Any

import pytest

from instrumented_wrapper import FailoverError, FailoverSuccessError, reset_session
from servers import Proxy

from .server_session import ask, end, session
from .spelling import create
from .test_mysql_routines import INT, QUIET, ask_all, lose, set_up

SIGNAL = "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused by the routine'"
NESTED = (
    ("PROCEDURE", "sets_by_another", "() CALL sets_tenant()"),
    ("PROCEDURE", "sets_by_a_function", "() SELECT of_tenant()"),
    ("PROCEDURE", "sets_by_prepare", "() BEGIN PREPARE p FROM 'SET @tenant = 7'; EXECUTE p; DEALLOCATE PREPARE p; END"),
    ("PROCEDURE", "sets_all", "() BEGIN SET @tenant = 7, @other = 1, time_zone = '+01:00'; END"),
    ("PROCEDURE", "fails", f"() BEGIN SET @tenant = 7; {SIGNAL}; END"),
    ("FUNCTION", "of_failing", f"() {INT} SET @tenant = 7; {SIGNAL}; RETURN 1; END"),
    ("FUNCTION", "of_given", f"(given int) {INT} SET @tenant = 7; RETURN given; END"),
    ("FUNCTION", "of_another", "() RETURNS int DETERMINISTIC MODIFIES SQL DATA RETURN of_tenant()"),
)
SETTING = [
    *("CALL sets_tenant()", "CALL sets_and_shows()", "CALL sets_both()", "CALL gives_and_sets(@given)"),
    *("CALL sets_by_another()", "CALL sets_by_a_function()", "CALL sets_by_prepare()", "CALL sets_all()"),
    *("SELECT of_tenant()", "SELECT of_both()", "SELECT of_another()", "DO of_tenant()"),
    *("INSERT INTO written VALUES (of_tenant())", "SELECT @other := of_tenant()", "SET @other = of_tenant()"),
    *("SELECT of_tenant() INTO @other", "DELETE FROM written WHERE i = of_tenant() + 1", "EXECUTE prepared"),
]

FEW = ["CALL sets_both()", "CALL gives_and_sets(@given)", "SELECT of_tenant()", "SET @other = of_tenant()"]


@functools.cache
def set_up_nested(server: Any) -> None:
    set_up(server)
    for kind, name, rest in NESTED:
        create(server, kind, name, rest)


@pytest.fixture
def cluster(pair: Any) -> Any:
    set_up_nested(pair.primary)
    pair.wait_streaming()
    return pair


def with_tenant(connect: Any, *hosts: Any, **keywords: Any) -> Any:
    connection = connect(*hosts, **keywords)
    ask(connection, "SET @tenant = 3, @text = 'SELECT of_tenant()'")
    ask(connection, "PREPARE prepared FROM @text")
    return connection


def is_never_stale(connection: Any) -> None:
    """The value is the one that the code has set, or nothing runs until the app has set it again."""
    for _ in range(2):
        try:
            rows = ask(connection, "SELECT @tenant")
        except FailoverSuccessError as error:
            missing = error.not_restored
        else:
            assert rows == [(7,)]
            return
    if "session state" in missing:
        reset_session(connection)
    for name in {"@tenant", *(name for name in missing if name.startswith("@"))}:
        ask(connection, f"SET {name} = 4")
    assert ask(connection, "SELECT @tenant") == [(4,)]


@pytest.mark.parametrize("text", SETTING)
def test_lost_at_once(connect, cluster, text: str) -> None:
    connection = with_tenant(connect)
    number = session(connection)
    ask_all(connection, text)
    end(cluster.primary, number)
    is_never_stale(connection)


@pytest.mark.parametrize("text", FEW)
def test_lost_after_a_statement(connect, cluster, text: str) -> None:
    connection = with_tenant(connect)
    number = session(connection)
    ask_all(connection, text)
    ask(connection, "SELECT 1")
    end(cluster.primary, number)
    is_never_stale(connection)


@pytest.mark.parametrize("text", [*FEW, "EXECUTE prepared"])
def test_lost_under_way(connect, cluster, text: str) -> None:
    with Proxy(cluster.primary.host, cluster.primary.port) as proxy:
        connection = with_tenant(connect, proxy, cluster.primary)
        proxy.cut_when(text.encode(), forward=True)
        with pytest.raises(FailoverError):
            ask_all(connection, text)
        is_never_stale(connection)


def a_text_of_two(connection: Any) -> None:
    ask_all(connection, "SELECT 1; SELECT of_tenant()")


def a_method(connection: Any) -> None:
    connection.cursor().callproc("sets_tenant")


def a_prepared_cursor(connection: Any) -> None:
    with closing(connection.cursor(prepared=True)) as cursor:
        cursor.execute("SELECT of_given(%s)", (1,))
        cursor.fetchall()


def one_that_fails(connection: Any) -> None:
    with pytest.raises(Exception, match="refused by the routine"):
        ask(connection, "SELECT of_failing()")


def a_procedure_that_fails(connection: Any) -> None:
    with pytest.raises(Exception, match="refused by the routine"):
        ask_all(connection, "CALL fails()")


def in_a_transaction(connection: Any) -> None:
    ask(connection, "BEGIN")
    ask(connection, "SELECT of_tenant()")
    connection.rollback()


def rows_from_the_server(connection: Any) -> None:
    with closing(unbuffered(connection)) as cursor:
        cursor.execute("SELECT of_tenant()")
        cursor.fetchone()


def unbuffered(connection: Any) -> Any:
    module = type(connection).__module__
    if module.startswith("mysql.connector"):
        return connection.cursor(buffered=False)
    return connection.cursor(import_module(f"{module.partition('.')[0]}.cursors").SSCursor)


WAYS = (
    *(a_text_of_two, a_method, a_prepared_cursor, one_that_fails, a_procedure_that_fails, in_a_transaction),
    rows_from_the_server,
)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("also", [[], ["SELECT 1"]], ids=["at once", "after a statement"])
def test_other_ways(connect, cluster, kind, way: Any, also: list[str]) -> None:
    if way is a_prepared_cursor and not kind.startswith("mysql.connector"):
        pytest.skip("only mysql-connector has prepared cursors")
    flags = {"client_flag": 1 << 16} if kind == "pymysql" else {}  # several statements in one text
    connection = with_tenant(connect, **flags)
    number = session(connection)
    way(connection)
    for text in also:
        ask(connection, text)
    end(cluster.primary, number)
    is_never_stale(connection)


@pytest.mark.parametrize("text", QUIET)
def test_code_that_sets_nothing_refuses_nothing(connect, cluster, text: str) -> None:
    """The wrapper has asked: the value is the same, and is carried."""
    connection = connect()
    ask(connection, "SET @tenant = 3")
    ask_all(connection, text)
    lose(cluster, connection)
    assert ask(connection, "SELECT @tenant") == [(3,)]


@pytest.mark.parametrize("text", QUIET)
def test_what_the_server_would_have_reported(connect, kind, cluster, text: str) -> None:
    if kind != "pymysql" or "SELECT" in text:
        pytest.skip("what was set is asked for later")
    connection = connect()
    ask(connection, "SET @tenant = 3")
    ask_all(connection, text)
    end(cluster.primary, connection.thread_id())
    assert ask(connection, "SELECT @tenant") == [(3,)]


@pytest.mark.parametrize("text", ["CALL sets_nothing()", "SELECT of_nothing()"])
@pytest.mark.parametrize("begin", [[], ["BEGIN"]], ids=["autocommit", "transaction"])
def test_code_under_way_refuses_nothing(connect, cluster, text: str, begin: list[str]) -> None:
    """The app has set nothing that code could have set once more."""
    with Proxy(cluster.primary.host, cluster.primary.port) as proxy:
        connection = connect(proxy, cluster.primary)
        for first in begin:
            ask(connection, first)
        proxy.cut_when(text.encode(), forward=True)
        with pytest.raises(FailoverError):
            ask_all(connection, text)
        connection.rollback()
        assert ask(connection, "SELECT 1") == [(1,)]
