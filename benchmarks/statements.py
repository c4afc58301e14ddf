"""A plain statement on each driver but psycopg, which has cases of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from itertools import repeat
from typing import Any, Final

__all__ = ["CASES", "DRIVERS", "module_of"]

# Name in the table -> what is asked of connect() besides.
DRIVERS: Final[Mapping[str, dict[str, Any]]] = {
    "sqlite3": {},
    "psycopg2": {},
    "pymysql": {},
    "mysql.connector, pure": {"use_pure": True},
    "mysql.connector, in C": {"use_pure": False},
    "MySQLdb": {},
}


def module_of(driver: str) -> str:
    """Return what is imported."""
    return driver.partition(",")[0]


def _connected(driver: str, where: str) -> Any:
    """Connect, in autocommit."""
    module = import_module(module_of(driver))
    if driver == "sqlite3":
        return module.connect(where, isolation_level=None)
    if driver == "psycopg2":
        connection = module.connect(where)
        connection.autocommit = True
        return connection
    return module.connect(**json.loads(where), **DRIVERS[driver], autocommit=True)


def _statement(driver: str) -> Callable[[str], Any]:
    @contextmanager
    def statement(where: str) -> Iterator[Callable[[int], float]]:
        connection = _connected(driver, where)
        cursor = connection.cursor()

        def run(number: int) -> float:
            started = time.process_time()
            for _ in repeat(None, number):
                cursor.execute("SELECT 1")
                cursor.fetchone()
            return (time.process_time() - started) / number

        yield run
        connection.close()

    return statement


@contextmanager
def _reported(where: str) -> Iterator[Callable[[int], float]]:
    """A write and its answer, with which the server reports what has changed; wall time, for that is its work, too."""
    connection = _connected("pymysql", where)
    cursor = connection.cursor()
    cursor.execute("CREATE TEMPORARY TABLE app.written (i int) ENGINE=MEMORY")

    def run(number: int) -> float:
        started = time.perf_counter()
        for _ in repeat(None, number):
            cursor.execute("UPDATE app.written SET i = 1")
        return (time.perf_counter() - started) / number

    yield run
    connection.close()


CASES: Final[dict[str, Any]] = {f"{driver} statement": _statement(driver) for driver in DRIVERS}
CASES["pymysql reported"] = _reported
