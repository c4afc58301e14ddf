"""The encoding of texts: psycopg2 reads it when it connects, and must be told when we set it by libpq."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg2 import pool

from instrumented_wrapper import reset_session, session_state

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
