"""A clean return to SQLAlchemy's pool: a connection that has run a plain statement, outside a transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import repeat
from typing import Any, Final

from sqlalchemy import create_engine

__all__ = ["CASES", "DRIVERS"]

DRIVERS: Final = ("psycopg", "psycopg2")


def _case(driver: str) -> Callable[[str], Any]:
    @contextmanager
    def case(dsn: str) -> Iterator[Callable[[int], float]]:
        def connect() -> Any:
            connection = import_module(driver).connect(dsn)
            connection.autocommit = True  # the pool's own rollback sends nothing
            return connection

        engine = create_engine(f"postgresql+{driver}://", creator=connect)

        def run(number: int) -> float:
            spent = 0.0
            for _ in repeat(None, number):
                held = engine.raw_connection()
                held.cursor().execute("SELECT 1")
                started = time.process_time()
                held.close()
                spent += time.process_time() - started
            return spent / number

        yield run
        engine.dispose()

    return case


CASES: Final[dict[str, Any]] = {f"{driver} return": _case(driver) for driver in DRIVERS}
