"""Connections of psycopg2 that are closed when the test ends, and what they are asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg2
import pytest

from ..watch import Watch


@pytest.fixture
def connect(watch: Watch) -> Iterator[Callable[..., Any]]:
    """Connect to both servers, unless another connection string is given."""
    with ExitStack() as stack:

        def connect(dsn: str | None = None, **keywords: Any) -> Any:
            connection = psycopg2.connect(dsn or watch.dsn(), **keywords)
            stack.callback(connection.close)
            return connection

        yield connect


@pytest.fixture
def moved(connect: Callable[..., Any], watch: Watch) -> Callable[..., Any]:
    """Connect in autocommit, lose the session while idle, and go on with another one."""

    def moved(**keywords: Any) -> Any:
        connection = connect(**keywords)
        connection.autocommit = True
        lose(connection, watch)
        return connection

    return moved


def lose(connection: Any, watch: Watch) -> None:
    """End the session; the next statement finds another one."""
    before = connection.info.backend_pid
    watch.end_sessions()
    connection.cursor().execute("SELECT 1")
    assert connection.info.backend_pid != before


def rows(connection: Any, text: str, *parameters: Any) -> list[Any]:
    """Return the rows of a statement."""
    cursor = connection.cursor()
    cursor.execute(text, *parameters)
    return list(cursor.fetchall()) if cursor.description else []
