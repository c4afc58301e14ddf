"""What an app does when its server dies: connections that wait for an answer, are lost, and write again.

The same code for both sides. Without us it is the reconnect loop that libpq's list of hosts makes possible; under us
the connection comes back by itself and the loop is never entered twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg

__all__ = ["MOST", "TABLE", "WAITING", "losses"]

MOST: Final = 50
TABLE: Final = "CREATE TABLE IF NOT EXISTS written (number int)"
WAITING: Final = "SELECT pg_sleep(60)"
_RETRY: Final = 0.02  # seconds
_GIVE_UP: Final = 30.0


@contextmanager
def losses(dsn: str) -> Iterator[Callable[[int], float]]:
    """Yield a function that loses so many connections and returns the moment at which the last one wrote again."""
    with ThreadPoolExecutor(MOST) as threads:

        def run(number: int) -> float:
            connections = [_connect(dsn) for _ in range(number)]
            return max(threads.map(lambda connection: _live_through(connection, dsn), connections))

        yield run


def _connect(dsn: str) -> Any:
    return psycopg.connect(dsn, autocommit=True, target_session_attrs="read-write")


def _live_through(connection: Any, dsn: str) -> float:
    """Wait until the connection is lost, then write as soon as that is possible; return when it was."""
    end = time.monotonic() + _GIVE_UP
    with suppress(psycopg.OperationalError):
        connection.execute(WAITING)
    while time.monotonic() < end:
        try:
            connection = _connect(dsn) if connection.closed else connection
            connection.execute("INSERT INTO written VALUES (1)")
        except psycopg.OperationalError:
            time.sleep(_RETRY)
        else:
            written = time.monotonic()
            connection.close()
            return written
    raise TimeoutError(f"no write for {_GIVE_UP:.0f} s after the loss")
