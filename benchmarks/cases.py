"""The cases: each sets something up and yields a function that runs one round.

A round of `number` operations returns the seconds that one of them took: of CPU where our cost is CPU, because other
work on the machine does not count there. Whether psycopg is instrumented is the worker's affair.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import cycle, repeat
from typing import Any, Final

import psycopg
from psycopg_pool import ConnectionPool

import instrumented_wrapper
from benchmarks.losses import losses

__all__ = ["CARRIED", "CASES", "ROWS"]

Run = Callable[[int], float]
Case = Callable[[str], AbstractContextManager[Run]]
ROWS: Final = 10_000


def _timed(operation: Callable[[], object], clock: Callable[[], float] = time.process_time) -> Run:
    def run(number: int) -> float:
        started = clock()
        for _ in repeat(None, number):
            operation()
        return (clock() - started) / number

    return run


# --- statements -------------------------------------------------------------------------------------------------


def _statement_by(clock: Callable[[], float]) -> Case:
    @contextmanager
    def statement(dsn: str) -> Iterator[Run]:
        with psycopg.connect(dsn, autocommit=True) as connection, connection.cursor() as cursor:
            yield _timed(lambda: cursor.execute("SELECT 1").fetchone(), clock)

    return statement


@contextmanager
def _connection_execute(dsn: str) -> Iterator[Run]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield _timed(lambda: connection.execute("SELECT 1").fetchone())


@contextmanager
def _rows(dsn: str) -> Iterator[Run]:
    with psycopg.connect(dsn, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT generate_series(1, %s)", (ROWS,))

        def fetch_each() -> None:
            cursor.scroll(0, "absolute")
            while cursor.fetchone():
                pass

        per_pass = _timed(fetch_each)
        yield lambda number: per_pass(number) / ROWS


@contextmanager
def _async_statement(dsn: str) -> Iterator[Run]:
    with asyncio.Runner() as runner:
        connection = runner.run(psycopg.AsyncConnection.connect(dsn, autocommit=True))
        cursor = connection.cursor()

        async def one() -> None:
            await cursor.execute("SELECT 1")
            await cursor.fetchone()

        yield lambda number: runner.run(_timed_async(one, number))
        runner.run(connection.close())


async def _timed_async(operation: Callable[[], Awaitable[None]], number: int) -> float:
    started = time.process_time()
    for _ in repeat(None, number):
        await operation()
    return (time.process_time() - started) / number


@contextmanager
def _transaction(dsn: str) -> Iterator[Run]:
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:

        def transact() -> None:
            cursor.execute("SELECT 1").fetchone()
            connection.commit()

        yield _timed(transact)


@contextmanager
def _block(dsn: str) -> Iterator[Run]:
    with psycopg.connect(dsn, autocommit=True) as connection, connection.cursor() as cursor:

        def transact() -> None:
            with connection.transaction():
                cursor.execute("SELECT 1").fetchone()

        yield _timed(transact)


@contextmanager
def _set(dsn: str) -> Iterator[Run]:
    with psycopg.connect(dsn, autocommit=True) as connection, connection.cursor() as cursor:
        yield _timed(lambda: cursor.execute("SET work_mem = '5MB'"))


# --- connections ------------------------------------------------------------------------------------------------


@contextmanager
def _connect(dsn: str) -> Iterator[Run]:
    def connect_once() -> float:
        started = time.process_time()
        connection = psycopg.connect(dsn)
        ended = time.process_time()
        connection.close()
        return ended - started

    yield lambda number: sum(connect_once() for _ in range(number)) / number


@contextmanager
def _close(dsn: str) -> Iterator[Run]:
    def close_once() -> float:
        connection = psycopg.connect(dsn)
        started = time.process_time()
        connection.close()
        return time.process_time() - started

    yield lambda number: sum(close_once() for _ in range(number)) / number


@contextmanager
def _setting(dsn: str) -> Iterator[Run]:
    values = cycle((True, False))
    with psycopg.connect(dsn) as connection:
        yield _timed(lambda: setattr(connection, "autocommit", next(values)))


# --- pools ------------------------------------------------------------------------------------------------------


@contextmanager
def _pool(dsn: str) -> Iterator[ConnectionPool[Any]]:
    with ConnectionPool(dsn, min_size=1, max_size=1, open=False) as pool:
        pool.wait()
        yield pool


@contextmanager
def _pool_block(dsn: str) -> Iterator[Run]:
    with _pool(dsn) as pool:

        def check_out() -> None:
            with pool.connection():
                pass

        yield _timed(check_out)


@contextmanager
def _pool_methods(dsn: str) -> Iterator[Run]:
    with _pool(dsn) as pool:
        yield _timed(lambda: pool.putconn(pool.getconn()))


@contextmanager
def _pool_changed(dsn: str) -> Iterator[Run]:
    with _pool(dsn) as pool:

        def check_out() -> None:
            with pool.connection() as connection:
                connection.autocommit = True
                connection.autocommit = False

        yield _timed(check_out)


@contextmanager
def _pool_reset(dsn: str) -> Iterator[Run]:
    with _pool(dsn) as pool:

        def check_out() -> None:
            with pool.connection() as connection:
                connection.autocommit = True

        yield _timed(check_out)


@contextmanager
def _pool_set(dsn: str) -> Iterator[Run]:
    with _pool(dsn) as pool:

        def check_out() -> None:
            with pool.connection() as connection:
                connection.execute("SET app.tenant = '7'")
                connection.execute("SET work_mem = '5MB'")

        yield _timed(check_out, time.perf_counter)


# --- a new session ----------------------------------------------------------------------------------------------


def _configured(count: int, dsn: str) -> psycopg.Connection[Any]:
    connection = psycopg.connect(dsn, autocommit=True)
    for number in range(count):
        connection.execute(f"SET app.number_{number} = '{number}'")
    return connection


def _one_by_one(count: int) -> Case:
    """Connect anew as an app does that configures its session with a statement for each setting."""

    @contextmanager
    def configure(dsn: str) -> Iterator[Run]:
        yield _timed(lambda: _configured(count, dsn).close(), time.perf_counter)

    return configure


def _switch(count: int) -> Case:
    """Move such a session by `switch()`."""

    @contextmanager
    def move(dsn: str) -> Iterator[Run]:
        with _configured(count, dsn) as connection:
            yield _timed(lambda: instrumented_wrapper.switch(connection), time.perf_counter)

    return move


CARRIED: Final = (1, 10, 50)
CASES: Final[dict[str, Case]] = {
    "statement": _statement_by(time.process_time),
    "statement, wall": _statement_by(time.perf_counter),
    "connection.execute": _connection_execute,
    "rows": _rows,
    "async statement": _async_statement,
    "transaction": _transaction,
    "block": _block,
    "connect": _connect,
    "close": _close,
    "setting": _setting,
    "pool block": _pool_block,
    "pool methods": _pool_methods,
    "pool changed": _pool_changed,
    "pool reset": _pool_reset,
    "set": _set,
    "pool set": _pool_set,
    **{f"one by one {count}": _one_by_one(count) for count in CARRIED},
    **{f"switch {count}": _switch(count) for count in CARRIED},
    "losses": losses,
}
