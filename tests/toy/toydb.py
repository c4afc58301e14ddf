"""A small DB-API driver over sqlite3. Knows nothing of instrumented_wrapper."""

from __future__ import annotations

import sqlite3
from typing import Any

__version__ = "2.1"
Error, OperationalError, ProgrammingError = sqlite3.Error, sqlite3.OperationalError, sqlite3.ProgrammingError


class Cursor:
    def __init__(self, connection: Connection) -> None:
        self.connection, self._cursor = connection, connection.session.cursor()

    def execute(self, sql: str, parameters: Any = ()) -> Cursor:
        self._cursor.execute(sql, parameters)
        return self

    def fetchall(self) -> list[Any]:
        return self._cursor.fetchall()


class Connection:
    """A connection. Its `session` outlives it, as a server's log would: a test can look at what is left."""

    def __init__(self, database: str) -> None:
        self.session = sqlite3.connect(database)
        self.closed, self._timeout = False, 5

    @property
    def timeout(self) -> int:
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: int) -> None:
        self._timeout = seconds

    def cursor(self) -> Cursor:
        return Cursor(self)

    def commit(self) -> None:
        self.session.commit()

    def rollback(self) -> None:
        self.session.rollback()

    def close(self) -> None:
        self.closed = True


def connect(database: str, **options: Any) -> Connection:
    return Connection(database, **options)
