"""Lose all connections of a pool together: clients that wait for answers are cut off and ask again.

A bare pool has three workers that connect anew; with the wrapper each connection comes back in the thread
of the client that has it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
from psycopg_pool import ConnectionPool

from benchmarks.losses import WAITING

__all__ = ["HERD", "herd"]

HERD: Final = 100  # connections
_PATIENCE: Final = 60.0  # seconds


@contextmanager
def herd(dsn: str) -> Iterator[Callable[[int], float]]:
    """Yield a function that uses so many connections at once, and returns the moment at which the last one was back."""
    given = {"autocommit": True, "target_session_attrs": "read-write"}
    with ThreadPoolExecutor(HERD) as threads:

        def run(number: int) -> float:
            with ConnectionPool(dsn, kwargs=given, min_size=number, timeout=_PATIENCE) as pool:
                pool.wait(_PATIENCE)
                all_are_back = threading.Barrier(number)
                return max(threads.map(lambda _: _live_through(pool, all_are_back), range(number)))

        yield run


def _live_through(pool: Any, all_are_back: threading.Barrier) -> float:
    """Wait until a connection is lost, then for an answer on one that works; return when it came."""
    with suppress(psycopg.OperationalError), pool.connection() as connection:
        connection.execute(WAITING)
    while True:
        with suppress(psycopg.OperationalError), pool.connection() as connection:
            connection.execute("SELECT 1")
            answered = time.monotonic()
            all_are_back.wait(_PATIENCE)  # each of them has a connection of its own
            return answered
