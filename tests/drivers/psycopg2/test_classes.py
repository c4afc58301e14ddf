"""Connections and cursors are what the app asks for, before and after a switch."""

from __future__ import annotations

import logging
from typing import Any

import psycopg2
import pytest
from psycopg2 import extensions, extras

from instrumented_wrapper import FailoverSuccessError, SessionStateTransferHandlers, session_state

from ..side import dsn
from ..watch import Watch
from .conftest import lose, rows


class AppConnection(extensions.connection):
    """A class of the app's that overrides what it can."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: list[str] = []

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append("cursor")
        return super().cursor(*args, **kwargs)

    def commit(self) -> None:
        self.calls.append("commit")
        super().commit()

    def rollback(self) -> None:
        self.calls.append("rollback")
        super().rollback()


class AppCursor(extensions.cursor):
    def execute(self, query: Any, vars: Any = None) -> Any:
        self.executed = query
        return super().execute(query, vars)


def of_class(thing: Any, kind: type[Any]) -> bool:
    """Ask as an app may do it."""
    return type(thing) == kind  # noqa: E721


def test_plain_classes(connect, watch: Watch) -> None:
    connection = connect()
    cursor = connection.cursor()
    assert isinstance(connection, psycopg2.extensions.connection)
    assert of_class(connection, extensions.connection)
    assert of_class(cursor, extensions.cursor)
    assert not of_class(connection, AppConnection)
    assert type(connection).__name__ == "connection"
    assert cursor.connection is connection
    lose(connection, watch)
    assert of_class(connection, extensions.connection)
    assert cursor.connection is connection
    assert connection.cursor().connection is connection


def test_a_class_of_the_app(connect, watch: Watch) -> None:
    connection = connect(connection_factory=AppConnection)
    assert of_class(connection, AppConnection)
    for _ in range(2):
        connection.calls.clear()
        with connection:
            assert rows(connection, "SELECT 1") == [(1,)]
        with pytest.raises(ZeroDivisionError), connection:
            raise ZeroDivisionError
        assert connection.calls == ["cursor", "commit", "rollback"]
        lose(connection, watch)
        connection.rollback()


@pytest.mark.parametrize("factory", [None, AppConnection])
def test_connections_that_can_be_moved_and_others_are_of_the_same_class(connect, watch: Watch, factory: Any) -> None:
    one, two = connect(connection_factory=factory), connect(dsn(watch.cluster.primary), connection_factory=factory)
    assert of_class(one, type(two))
    assert of_class(one.cursor(), type(two.cursor()))
    assert len({type(one), type(two), factory or extensions.connection}) == 1
    assert not of_class(one, type(one.cursor()))


def test_what_handlers_are_given(connect, watch: Watch) -> None:
    seen = []

    def handler(state: Any, connection: Any) -> bool:
        seen.append((of_class(connection, extensions.connection), rows(connection, "SELECT 1")))
        connection.commit()
        return False

    SessionStateTransferHandlers.set_transfer_session_state_on_switch_func(handler)
    SessionStateTransferHandlers.set_reset_session_state_on_close_func(handler)
    try:
        connection = connect()
        lose(connection, watch)
        connection.rollback()
        connection.close()
    finally:
        SessionStateTransferHandlers.reset_transfer_session_state_on_switch_func()
        SessionStateTransferHandlers.clear_reset_session_state_on_close_func()
    assert seen == [(True, [(1,)])] * 2


class Meta(type):
    pass


class OwnNames(extensions.connection, metaclass=Meta):
    """Documented."""

    _cursors = _made = _live = None
    cursor_factory = AppCursor  # psycopg2 does not look at it


def test_a_class_with_a_metaclass_and_names_of_its_own(connect, watch: Watch) -> None:
    connection = connect(connection_factory=OwnNames)
    for _ in range(2):
        assert of_class(connection, OwnNames)
        assert isinstance(type(connection), Meta)
        assert type(connection).__doc__ == "Documented."
        assert of_class(connection.cursor(), extensions.cursor)
        assert rows(connection, "SELECT 1") == [(1,)]
        connection.rollback()
        lose(connection, watch)


def test_a_function_as_factory(connect, watch: Watch) -> None:
    connection = connect(connection_factory=lambda dsn, **_: AppConnection(dsn))
    connection.readonly = True
    assert session_state(connection)["read_only"].value is True
    lose(connection, watch)
    assert (type(connection), connection.readonly) == (AppConnection, True)


def test_a_function_that_makes_plain_ones_is_left_alone(connect) -> None:
    connection = connect(connection_factory=lambda dsn, **_: extensions.connection(dsn))
    connection.readonly = True
    assert dict(session_state(connection)) == {}
    assert rows(connection, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("by", ["connect", "attribute", "cursor", "function"])
def test_cursor_factories(connect, watch: Watch, by: str) -> None:
    connection = connect(**({"cursor_factory": AppCursor} if by == "connect" else {}))
    connection.autocommit = True
    if by == "attribute":
        connection.cursor_factory = AppCursor
    given: dict[str, Any] = {"cursor": {"cursor_factory": AppCursor}}.get(by, {})
    if by == "function":
        given = {"cursor_factory": lambda connection, name: AppCursor(connection, name)}
    before = connection.cursor(**given)
    lose(connection, watch)
    for cursor in (before, connection.cursor(**given)):
        cursor.execute("SELECT 2")
        assert cursor.fetchall() == [(2,)]
        assert (type(cursor), cursor.executed) == (AppCursor, "SELECT 2")
        assert cursor.connection is connection


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        (extras.RealDictCursor, {"a": 1, "b": 2}),
        (extras.DictCursor, [1, 2]),
        (extras.NamedTupleCursor, (1, 2)),
    ],
)
def test_cursors_of_extras(connect, watch: Watch, kind: Any, row: Any) -> None:
    connection = connect()
    connection.autocommit = True
    before = connection.cursor(cursor_factory=kind)
    for _ in range(2):
        for cursor in (before, connection.cursor(cursor_factory=kind), connection.cursor(None, kind)):
            cursor.execute("SELECT %s AS a, %s AS b", (1, 2))
            assert cursor.fetchone() == row
        lose(connection, watch)


def test_connections_of_extras(connect, watch: Watch, caplog) -> None:
    dicts = connect(connection_factory=extras.RealDictConnection)
    tuples = connect(connection_factory=extras.NamedTupleConnection)
    logs = connect(connection_factory=extras.LoggingConnection)
    logs.initialize(logging.getLogger("of the app"))
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "of the app"):
            assert rows(dicts, "SELECT 1 AS a") == [{"a": 1}]
            assert rows(tuples, "SELECT 1 AS a")[0].a == 1
            assert rows(logs, "SELECT 'logged'") == [("logged",)]
        assert [record.getMessage() for record in caplog.records if record.name == "of the app"]
        for connection in (dicts, tuples, logs):
            connection.rollback()
        watch.end_sessions()


def test_wrong_arguments_of_cursor(connect) -> None:
    connection = connect()
    with pytest.raises(TypeError):
        connection.cursor("name", None, False, None, "one too many")
    with pytest.raises(TypeError):
        connection.cursor("name", name="again")
    with pytest.raises(TypeError):
        connection.cursor(cursor_factory=int)
    assert of_class(connection.cursor(name=None, cursor_factory=None), extensions.cursor)


def test_the_keywords_of_a_statement(connect) -> None:
    cursor = connect().cursor()
    cursor.execute(query="SELECT %s", vars=(1,))
    assert cursor.fetchall() == [(1,)]
    cursor.executemany(query="SELECT %s", vars_list=[(1,), (2,)])
    with pytest.raises(TypeError):
        cursor.execute()
    with pytest.raises(TypeError):
        cursor.execute(text="SELECT 1")


def test_what_is_set_on_a_cursor_stays(moved, connect, watch: Watch) -> None:
    connection = connect()
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.arraysize, cursor.itersize, cursor.row_factory = 7, 70, None
    reads_all = extensions.new_type((23,), "seven", lambda value, cursor: 7)
    extensions.register_type(reads_all, cursor)
    lose(connection, watch)
    cursor.execute("SELECT 1")
    assert cursor.fetchone() == (7,)
    assert (cursor.arraysize, cursor.itersize) == (7, 70)


def test_rows_that_a_cursor_has_outlive_a_silent_switch(connect, watch: Watch) -> None:
    connection = connect()
    connection.autocommit = True
    cursor, other = connection.cursor(), connection.cursor()
    for _ in range(3):
        cursor.execute("SELECT generate_series(1, 3)")
        assert cursor.fetchone() == (1,)
        watch.end_sessions()
        other.execute("SELECT 1")
        assert cursor.fetchall() == [(2,), (3,)]


def test_rows_that_a_cursor_has_are_given_up_by_psycopg2_where_a_statement_runs_into_a_loss(connect) -> None:
    connection = connect()
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("SELECT generate_series(1, 3)")
    with pytest.raises(FailoverSuccessError):
        rows(connection, "SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(psycopg2.InterfaceError):
        cursor.fetchall()
    cursor.execute("SELECT 4")
    assert cursor.fetchall() == [(4,)]


def test_closed_is_that_of_the_present_connection(connect, watch: Watch) -> None:
    connection = connect()
    assert connection.closed == 0
    connection.autocommit = True
    with pytest.raises(FailoverSuccessError):
        rows(connection, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert connection.closed == 0
    connection.close()
    assert connection.closed == 1
    connection.close()
    for call in (connection.cursor, connection.commit, connection.rollback, lambda: rows(connection, "SELECT 1")):
        with pytest.raises(psycopg2.InterfaceError):
            call()


def test_closed_where_a_loss_is_a_loss(connect, watch: Watch) -> None:
    connection = connect(instrumented_wrapper={"failover": "off"})
    with pytest.raises(psycopg2.OperationalError):
        rows(connection, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert connection.closed == 2
    with pytest.raises(psycopg2.InterfaceError):
        rows(connection, "SELECT 1")


def test_asynchronous_connections_are_left_alone(connect, watch: Watch) -> None:
    connection = connect(watch.dsn(), async_=1)
    extras.wait_select(connection)
    assert type(connection) is extensions.connection
    cursor = connection.cursor()
    cursor.execute("SELECT 1")
    extras.wait_select(connection)
    assert cursor.fetchall() == [(1,)]
    watch.end_sessions()
    with pytest.raises(psycopg2.OperationalError) as caught:
        cursor.execute("SELECT 1")
        extras.wait_select(connection)
    assert not isinstance(caught.value, FailoverSuccessError)


def test_replication_connections_are_left_alone(watch: Watch) -> None:
    with pytest.raises(psycopg2.OperationalError):  # the app's role may not: that it comes so far is enough
        psycopg2.connect(watch.dsn(), connection_factory=extras.LogicalReplicationConnection)
