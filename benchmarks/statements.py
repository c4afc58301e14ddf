"""The frequent operations on each driver: a table of arguments, and a short function for each operation.

Drivers differ in the tables only. Async connections have the same operations, awaited.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from inspect import isawaitable
from itertools import repeat
from typing import Any, Final

__all__ = ["CASES", "DRIVERS", "OPERATIONS", "Access"]

Run = Callable[[int], float]
_ROWS: Final = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT i FROM n"
_ITERATED, _FETCHED = 1000, 100  # rows; where each fetchone() is a round trip a few are enough
_SET_IN_MYSQL: Final = "SET sort_buffer_size = 262144"
_SET_IN_POSTGRESQL: Final = "SET work_mem = '5MB'"


@dataclass(frozen=True, slots=True)
class Access:
    """The arguments that a driver needs.

    Attributes:
        module: what is imported.
        setting: a SET.
        keywords: what is asked of connect() besides.
        on_server: the arguments of cursor() for a cursor whose rows are fetched from the server as they are read.
        cursors: the class of such a cursor, where it is an argument.
        executes: connections have an ``execute()``.
        connection: what has the ``connect()`` that is awaited, by its name in the module; empty: it has it itself.
        awaits: calls are awaited.
    """

    module: str
    setting: str
    keywords: Mapping[str, Any] = field(default_factory=dict)
    on_server: tuple[str, ...] = ()
    cursors: str = ""
    executes: bool = False
    connection: str = ""
    awaits: bool = False


DRIVERS: Final[Mapping[str, Access]] = {
    "sqlite3": Access("sqlite3", "PRAGMA cache_size = 1000", executes=True),
    "aiosqlite": Access("aiosqlite", "PRAGMA cache_size = 1000", awaits=True),
    "psycopg": Access("psycopg", _SET_IN_POSTGRESQL, on_server=("rows",), executes=True),
    "psycopg, async": Access(
        "psycopg", _SET_IN_POSTGRESQL, {}, ("rows",), executes=True, connection="AsyncConnection", awaits=True
    ),
    "psycopg2": Access("psycopg2", _SET_IN_POSTGRESQL, on_server=("rows",)),
    "asyncpg": Access(
        "benchmarks.asyncpg_calls", _SET_IN_POSTGRESQL, {}, ("rows",), connection="Connection", awaits=True
    ),
    "pg8000": Access("pg8000", _SET_IN_POSTGRESQL),
    "pymysql": Access("pymysql", _SET_IN_MYSQL, cursors="pymysql.cursors"),
    "mysql.connector, pure": Access("mysql.connector", _SET_IN_MYSQL, {"use_pure": True}),
    "mysql.connector, in C": Access("mysql.connector", _SET_IN_MYSQL, {"use_pure": False}),
    "MySQLdb": Access("MySQLdb", _SET_IN_MYSQL, cursors="MySQLdb.cursors"),
    "aiomysql": Access("aiomysql", _SET_IN_MYSQL, cursors="aiomysql.cursors", awaits=True),
    "asyncmy": Access("asyncmy", _SET_IN_MYSQL, cursors="asyncmy.cursors", awaits=True),
}


def _connected(access: Access, where: str, autocommit: bool) -> Any:
    module = import_module(access.module)
    if access.module == "sqlite3":
        return module.connect(where, isolation_level=None if autocommit else "")
    if where.startswith("{") and access.module != "pg8000":
        return module.connect(**json.loads(where), **access.keywords, autocommit=autocommit)
    connection = module.connect(**json.loads(where)) if where.startswith("{") else module.connect(where)
    connection.autocommit = autocommit
    return connection


async def _connected_async(access: Access, where: str, autocommit: bool) -> Any:
    module = import_module(access.module)
    if access.module == "aiosqlite":
        return await module.connect(where, isolation_level=None if autocommit else "")
    if where.startswith("{"):
        return await module.connect(**json.loads(where), **access.keywords, autocommit=autocommit)
    return await getattr(module, access.connection).connect(where, autocommit=autocommit)


async def _closed(connection: Any) -> None:
    await getattr(connection, "ensure_closed", connection.close)()


async def _awaited(made: Any) -> Any:
    """Return a cursor; some drivers have one awaited."""
    return await made if isawaitable(made) else made


# --- what is done ------------------------------------------------------------------------------------------------


def _statement(access: Access, connection: Any, cursor: Any) -> None:
    cursor.execute("SELECT 1")
    cursor.fetchone()


def _transaction(access: Access, connection: Any, cursor: Any) -> None:
    cursor.execute("SELECT 1")
    cursor.fetchone()
    connection.commit()


def _set(access: Access, connection: Any, cursor: Any) -> None:
    cursor.execute(access.setting)


def _execute(access: Access, connection: Any, cursor: Any) -> None:
    connection.execute("SELECT 1").fetchone()


async def _statement_async(access: Access, connection: Any, cursor: Any) -> None:
    await cursor.execute("SELECT 1")
    await cursor.fetchone()


async def _transaction_async(access: Access, connection: Any, cursor: Any) -> None:
    await cursor.execute("SELECT 1")
    await cursor.fetchone()
    await connection.commit()


async def _set_async(access: Access, connection: Any, cursor: Any) -> None:
    await cursor.execute(access.setting)


async def _execute_async(access: Access, connection: Any, cursor: Any) -> None:
    await (await connection.execute("SELECT 1")).fetchone()


def _on_server(access: Access, connection: Any) -> Any:
    given = [import_module(access.cursors).SSCursor] if access.cursors else access.on_server
    return connection.cursor(*given)


def _iterated(cursor: Any) -> None:
    for _ in cursor:
        pass


def _fetched(cursor: Any) -> None:
    while cursor.fetchone():
        pass


async def _iterated_async(cursor: Any) -> None:
    async for _ in cursor:
        pass


async def _fetched_async(cursor: Any) -> None:
    while await cursor.fetchone():
        pass


# --- and how it is measured --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Each:
    """An operation on a connection and a cursor that are there, blocking and awaited."""

    name: str
    autocommit: bool
    call: Callable[..., None]
    awaited: Callable[..., Any]

    def run(self, access: Access, connection: Any) -> Run:
        """Return what runs a round."""
        cursor, call = connection.cursor(), self.call

        def run(number: int) -> float:
            started = time.process_time()
            for _ in repeat(None, number):
                call(access, connection, cursor)
            return (time.process_time() - started) / number

        return run

    async def run_async(self, access: Access, connection: Any, number: int) -> float:
        """Run a round."""
        cursor, call = await _awaited(connection.cursor()), self.awaited
        started = time.process_time()
        for _ in repeat(None, number):
            await call(access, connection, cursor)
        return (time.process_time() - started) / number


@dataclass(frozen=True, slots=True)
class Reading:
    """The rows of a cursor on the server, read one by one; the statement and the end of it are not measured."""

    name: str
    rows: int
    call: Callable[[Any], None]
    awaited: Callable[[Any], Any]
    autocommit: bool = False

    def run(self, access: Access, connection: Any) -> Run:
        """Return what runs a round."""

        def run(number: int) -> float:
            cursor = _on_server(access, connection)
            cursor.execute(_ROWS.format(self.rows))
            started = time.process_time()
            self.call(cursor)
            measured = time.process_time() - started
            cursor.close()
            connection.rollback()
            return measured / self.rows

        return run

    async def run_async(self, access: Access, connection: Any, number: int) -> float:
        """Run a round."""
        cursor = await _awaited(_on_server(access, connection))
        await cursor.execute(_ROWS.format(self.rows))
        started = time.process_time()
        await self.awaited(cursor)
        measured = time.process_time() - started
        await cursor.close()
        await connection.rollback()
        return measured / self.rows


OPERATIONS: Final[Mapping[str, Each | Reading]] = {
    "statement": Each("SELECT 1 and fetch", True, _statement, _statement_async),
    "transaction": Each("BEGIN, SELECT 1, COMMIT", False, _transaction, _transaction_async),
    "set": Each("SET, not for the first time", True, _set, _set_async),
    "execute": Each("connection.execute(SELECT 1)", True, _execute, _execute_async),
    "iteration": Reading("a row of a server-side cursor, iterated", _ITERATED, _iterated, _iterated_async),
    "fetchone": Reading("fetchone() of a server-side cursor", _FETCHED, _fetched, _fetched_async),
}


def _case(access: Access, operation: Each | Reading) -> Callable[[str], Any]:
    @contextmanager
    def case(where: str) -> Iterator[Run]:
        connection = _connected(access, where, operation.autocommit)
        yield operation.run(access, connection)
        connection.close()

    return case


def _case_async(access: Access, operation: Each | Reading) -> Callable[[str], Any]:
    @contextmanager
    def case(where: str) -> Iterator[Run]:
        with asyncio.Runner() as runner:
            connection = runner.run(_connected_async(access, where, operation.autocommit))
            yield lambda number: float(runner.run(operation.run_async(access, connection, number)))
            runner.run(_closed(connection))

    return case


@contextmanager
def _reported(where: str) -> Iterator[Run]:
    """A write and its answer, with which the server reports what has changed; wall time, for that is its work, too."""
    connection = _connected(DRIVERS["pymysql"], where, autocommit=True)
    cursor = connection.cursor()
    cursor.execute("CREATE TEMPORARY TABLE app.written (i int) ENGINE=MEMORY")

    def run(number: int) -> float:
        started = time.perf_counter()
        for _ in repeat(None, number):
            cursor.execute("UPDATE app.written SET i = 1")
        return (time.perf_counter() - started) / number

    yield run
    connection.close()


CASES: Final[dict[str, Any]] = {
    f"{driver} {name}": (_case_async if access.awaits else _case)(access, operation)
    for driver, access in DRIVERS.items()
    for name, operation in OPERATIONS.items()
}
CASES["pymysql reported"] = _reported
