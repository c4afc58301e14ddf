"""The app of the failover benchmark: connections that wait for an answer, are lost, and write again.

The same code for both sides. Bare, it is the reconnect loop that libpq's list of hosts makes possible; instrumented,
the connection comes back by itself and the loop is never entered twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
import psycopg2

__all__ = ["LOSSES", "MOST", "TABLE", "WAITING", "losses"]

MOST: Final = 50
TABLE: Final = "CREATE TABLE IF NOT EXISTS written (number int)"
WAITING: Final = "SELECT pg_sleep(60)"
_WRITING: Final = "INSERT INTO written VALUES (1)"
_RETRY: Final = 0.02  # seconds
_GIVE_UP: Final = 30.0
_PRIMARY: Final = "target_session_attrs=read-write"


@contextmanager
def losses(dsn: str) -> Iterator[Callable[[int], float]]:
    """Yield a function that loses so many connections and returns the moment at which the last one wrote again."""
    yield from _in_threads(lambda: psycopg.connect(f"{dsn} {_PRIMARY}", autocommit=True))


@contextmanager
def _losses_of_psycopg2(dsn: str) -> Iterator[Callable[[int], float]]:
    def connect() -> Any:
        connection = psycopg2.connect(f"{dsn} {_PRIMARY}")
        connection.autocommit = True
        return connection

    yield from _in_threads(connect)


@contextmanager
def _losses_async(dsn: str) -> Iterator[Callable[[int], float]]:
    async def all_of(number: int) -> float:
        return max(await asyncio.gather(*(_live_through_async(f"{dsn} {_PRIMARY}") for _ in range(number))))

    with asyncio.Runner() as runner:
        yield lambda number: runner.run(all_of(number))


LOSSES: Final = {"losses": losses, "losses, psycopg2": _losses_of_psycopg2, "losses, async": _losses_async}


def _in_threads(connect: Callable[[], Any]) -> Iterator[Callable[[int], float]]:
    with ThreadPoolExecutor(MOST) as threads:

        def run(number: int) -> float:
            connections = [connect() for _ in range(number)]
            return max(threads.map(lambda connection: _live_through(connection, connect), connections))

        yield run


def _live_through(connection: Any, connect: Callable[[], Any]) -> float:
    """Wait until the connection is lost, then write as soon as that is possible; return when it was."""
    end = time.monotonic() + _GIVE_UP
    with suppress(psycopg.OperationalError, psycopg2.OperationalError):
        connection.cursor().execute(WAITING)
    while time.monotonic() < end:
        try:
            connection = connect() if connection.closed else connection
            connection.cursor().execute(_WRITING)
        except (psycopg.OperationalError, psycopg2.OperationalError):
            time.sleep(_RETRY)
        else:
            written = time.monotonic()
            connection.close()
            return written
    raise TimeoutError(f"no write for {_GIVE_UP:.0f} s after the loss")


async def _live_through_async(dsn: str) -> float:
    """Do the same, awaited."""
    end = time.monotonic() + _GIVE_UP
    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    with suppress(psycopg.OperationalError):
        await connection.execute(WAITING)
    while time.monotonic() < end:
        try:
            if connection.closed:
                connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
            await connection.execute(_WRITING)
        except psycopg.OperationalError:
            await asyncio.sleep(_RETRY)
        else:
            written = time.monotonic()
            await connection.close()
            return written
    raise TimeoutError(f"no write for {_GIVE_UP:.0f} s after the loss")
