"""The settings that psycopg2 keeps itself, over a switch."""

from __future__ import annotations

from typing import Any

from psycopg2 import extensions

from instrumented_wrapper import session_state

from ..watch import Watch
from .conftest import lose, rows


def in_effect(connection: Any) -> tuple[Any, ...]:
    text = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
    return rows(connection, text)[0]  # type: ignore[no-any-return]


def test_set_session_in_autocommit(connect, watch: Watch) -> None:
    connection = connect()
    connection.set_session("SERIALIZABLE", readonly=True, autocommit=True)
    assert set(session_state(connection)) == {"autocommit", "isolation_level", "read_only"}
    assert session_state(connection)["readonly"].value is True
    for _ in range(2):
        assert in_effect(connection) == ("serializable", "on")
        lose(connection, watch)
    connection.autocommit = False
    assert in_effect(connection) == ("serializable", "on")
    connection.rollback()
    assert rows(connection, "SHOW default_transaction_read_only") == [("off",)]


def test_a_setter_in_autocommit_is_a_statement(connect, watch: Watch) -> None:
    connection = connect()
    connection.autocommit = True
    watch.end_sessions()
    connection.readonly = True
    assert in_effect(connection) == ("read committed", "on")


def test_a_setter_outside_autocommit_starts_no_switch(connect, watch: Watch, spans) -> None:
    connection = connect()
    watch.end_sessions()
    connection.readonly = True
    connection.set_session(isolation_level="SERIALIZABLE")
    assert watch.sessions() == []
    assert in_effect(connection) == ("serializable", "on")


def test_set_isolation_level(connect, watch: Watch) -> None:
    connection = connect()
    rows(connection, watch.insert("rolled back"))
    connection.set_isolation_level(extensions.ISOLATION_LEVEL_AUTOCOMMIT)
    assert (session_state(connection)["autocommit"].value, watch.words()) == (True, [])
    lose(connection, watch)
    assert connection.autocommit is True
    rows(connection, watch.insert("kept"))
    connection.set_isolation_level(extensions.ISOLATION_LEVEL_SERIALIZABLE)
    assert connection.autocommit is False
    assert session_state(connection)["isolation_level"].value == extensions.ISOLATION_LEVEL_SERIALIZABLE
    rows(connection, watch.insert("lost"))
    watch.end_sessions()
    connection.set_isolation_level(extensions.ISOLATION_LEVEL_REPEATABLE_READ)  # it rolls back first
    assert in_effect(connection) == ("repeatable read", "off")
    assert watch.words() == ["kept"]


def test_psycopg2s_own_reset_leaves_each_setting_pristine(connect, watch: Watch) -> None:
    connection = connect()
    connection.readonly = True
    connection.autocommit = True
    rows(connection, "SET statement_timeout = '7s'")
    connection.reset()
    assert {name: state.is_pristine for name, state in session_state(connection).items()} == dict.fromkeys(
        ("autocommit", "isolation_level", "read_only", "deferrable", "statement_timeout"), True
    )
    rows(connection, watch.insert("rolled back"))
    watch.end_sessions()
    connection.reset()
    assert rows(connection, "SHOW statement_timeout") == [("0",)]
    assert watch.words() == []
