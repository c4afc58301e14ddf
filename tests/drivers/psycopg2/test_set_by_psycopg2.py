"""What psycopg2 reads or sets only when it connects, and we must keep to: the encoding of texts, the style of dates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg2 import pool

from instrumented_wrapper import mark_pristine, reset_session, session_state, switch

from ..watch import Watch
from .conftest import lose, rows


def works_in(connection: Any, encoding: str) -> bool:
    """Tell whether psycopg2 and the server agree."""
    known = (connection.encoding, connection.get_parameter_status("client_encoding"))
    return known == (encoding, encoding) and rows(connection, "SELECT 'é', length(%s)", ("é",)) == [("é", 1)]


def test_over_a_switch(connect, watch: Watch) -> None:
    connection = connect()
    connection.set_client_encoding("LATIN1")
    connection.autocommit = True
    assert session_state(connection)["client_encoding"].value == "LATIN1"
    for _ in range(2):
        assert works_in(connection, "LATIN1")
        lose(connection, watch)
    connection.set_client_encoding("UTF8")
    assert works_in(connection, "UTF8")


@pytest.mark.parametrize("extra", [{}, {"client_encoding": "LATIN9"}])
def test_a_reset(connect, watch: Watch, extra: dict[str, str]) -> None:
    connection = connect(watch.dsn(**extra))
    before = connection.encoding
    connection.set_client_encoding("LATIN1")
    reset_session(connection)
    assert works_in(connection, before)
    connection.rollback()
    lose(connection, watch)
    assert works_in(connection, before)


def test_a_pool(watch: Watch) -> None:
    connections = pool.SimpleConnectionPool(1, 1, watch.dsn())
    connection = connections.getconn()
    connection.set_client_encoding("LATIN1")
    assert works_in(connection, "LATIN1")
    connections.putconn(connection)
    assert connections.getconn() is connection
    assert works_in(connection, "UTF8")
    connections.closeall()


@pytest.fixture
def german(watch: Watch) -> Iterator[None]:
    """The default of the database is one that psycopg2 could not read: it sets another one."""
    watch.sql("ALTER DATABASE app SET datestyle = 'German'")
    yield
    watch.sql("ALTER DATABASE app RESET datestyle")


@pytest.mark.usefixtures("german")
@pytest.mark.parametrize("move", [None, lose, lambda connection, watch: switch(connection)])
@pytest.mark.parametrize("left", ["", "SELECT set_config('app.' || 'x', '1', false)", "LISTEN news"])
@pytest.mark.parametrize("scope", ["settings", "session"])
def test_dates_are_readable_after_a_reset(connect, watch: Watch, move: Any, left: str, scope: str) -> None:
    connection = connect(instrumented_wrapper={"reset_scope": scope})
    connection.autocommit = True
    rows(connection, "SET datestyle = 'SQL'")
    if move is not None:
        move(connection, watch)
        assert rows(connection, "SHOW datestyle") == [("SQL, DMY",)]
    if left:
        rows(connection, left)
    reset_session(connection)
    assert rows(connection, "SHOW datestyle") == [("ISO, DMY",)]


@pytest.mark.usefixtures("german")
def test_another_baseline_of_the_apps(connect, watch: Watch) -> None:
    connection = connect()
    connection.autocommit = True
    rows(connection, "SET datestyle = 'SQL, MDY'")
    mark_pristine(connection)
    for style in ("ISO", "Postgres"):
        rows(connection, f"SET datestyle = '{style}'")
        reset_session(connection)
        assert rows(connection, "SHOW datestyle") == [("SQL, MDY",)]
