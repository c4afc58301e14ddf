"""aiosqlite: what the contract suite asks of it. Its coroutines run on a loop of their own; handlers are plain ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import aiosqlite

import instrumented_wrapper

from ..driver import Callback
from ..loop import OwnLoop
from .sqlite3 import DRIVER as IN_THREAD
from .sqlite3 import SQLite3

LOOP = OwnLoop()


class AioSQLite(SQLite3):
    """aiosqlite.connect; telemetry calls it sqlite3, whose connections it has."""

    is_async = True
    lacks = SQLite3.lacks | {"awaited handlers"}

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        return LOOP.call(function, *arguments, **keywords)

    def given(self, connection: Any) -> Any:
        return connection._connection

    def connect(self, dsn: str, **keywords: Any) -> Any:
        if "autocommit" in keywords:
            self.needs("autocommit")
        return self.call(aiosqlite.connect, dsn, **keywords)

    def close(self, connection: Any) -> None:
        with suppress(ValueError):  # up to 0.19 a second close is an error of aiosqlite's own
            self.call(connection.close)

    def is_closed(self, connection: Any) -> bool:
        return connection._connection is None

    def cursor(self, connection: Any) -> Any:
        return self.call(connection.cursor)

    def execute(self, connection: Any, sql: str) -> list[tuple[Any, ...]]:
        return list(self.call(connection.execute_fetchall, sql))

    def execute_on(self, cursor: Any, sql: str) -> list[tuple[Any, ...]]:
        return self.execute_with(cursor, sql, ())

    def execute_with(self, cursor: Any, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
        self.call(cursor.execute, sql.replace("%s", "?"), parameters)
        return list(self.call(cursor.fetchall))

    def execute_many(self, cursor: Any, sql: str, sets: Any) -> None:
        self.call(cursor.executemany, sql.replace("%s", "?"), sets)

    def commit(self, connection: Any) -> None:
        self.call(connection.commit)

    def rollback(self, connection: Any) -> None:
        self.call(connection.rollback)

    @contextmanager
    def block(self, connection: Any) -> Iterator[None]:
        try:
            yield
            self.commit(connection)
        except BaseException:
            self.rollback(connection)
            raise

    def set(self, connection: Any, setting: str, value: Any) -> None:
        self.call(connection._execute, IN_THREAD.set, connection._connection, setting, value)

    def get(self, connection: Any, setting: str) -> Any:
        return self.call(connection._execute, IN_THREAD.get, connection._connection, setting)

    def callback(self, what: Callback) -> Callable[..., Any]:
        return IN_THREAD.callback(what)

    def verb(self, name: str, *, wrong: bool = False) -> Callable[..., Any]:
        if name == "switch" and not wrong:
            self.needs("server")
        verb = getattr(instrumented_wrapper, name if wrong else f"{name}_async")
        return lambda *arguments, **keywords: self.call(verb, *arguments, **keywords)


DRIVER = AioSQLite()
