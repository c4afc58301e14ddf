"""How a psycopg connection queries and sets the settings of the server: generators, as psycopg's are.

The texts are in ``server_session/postgresql.py``, the order of steps the lifecycle's. Nothing of it
passes a cursor, so that the app's adapters, row factories and prepared statements have no part in it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Sequence
from contextlib import nullcontext
from typing import Any, Final

import psycopg
from psycopg import pq

from instrumented_wrapper.drivers import Flow
from instrumented_wrapper.drivers.psycopg.private_api import AsyncConnection, PrepareManager, execute
from instrumented_wrapper.drivers.psycopg.records import encoding_of, record_of
from instrumented_wrapper.drivers.server_session import Rows
from instrumented_wrapper.drivers.server_session.pooler import detect_pooler
from instrumented_wrapper.drivers.server_session.postgresql import (
    assign_settings,
    query_settings,
    resync_settings,
    show_settings,
    verify_settings,
)
from instrumented_wrapper.plans import Assignment

_IDLE: Final = pq.TransactionStatus.IDLE
_IN_USE: Final = "the connection is in use"
_FAILED: Final = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED)


class SettingsQueries:
    """The part of the driver that talks with the server about settings."""

    def waiting(self, connection: Any, gen: Any) -> Any:
        """Run a generator, alone on its connection. May wait, for the lock too, until the deadline of what is ours.

        Raises:
            OperationalError: the time is up.
        """
        seconds = _seconds_left(connection)
        if isinstance(connection, AsyncConnection):
            return _alone_async(connection, gen, seconds)
        if not connection.lock.acquire(timeout=-1 if seconds is None else seconds):
            raise psycopg.OperationalError(_IN_USE)
        try:
            return connection.wait(gen)
        finally:
            connection.lock.release()

    def detect_pooler(self, connection: object, like: object, deadline: float) -> Flow[bool]:
        driver: Any = self
        return detect_pooler(driver, connection, like, deadline)

    def reported(self, connection: object, names: Sequence[str]) -> dict[str, str]:
        known = record_of(connection)
        return {} if known is None else known.settings_client.reported(names)

    def apply_reports(self, connection: object, will_resync: bool = False) -> None:
        """Update settings that no statement named from what the server has reported: a trigger or a view set them."""
        if (known := record_of(connection)) is not None:
            known.take_reported()

    def query_settings(self, connection: Any, names: Sequence[str]) -> Any:
        """Query the values of settings."""
        if connection.pgconn.transaction_status == _IDLE:
            return self.waiting(connection, query_settings(_Channel(connection), names))
        return self.waiting(connection, show_settings(_Channel(connection), names))

    def assign(
        self, connection: object, assignments: Sequence[Assignment], clears: Sequence[str] = (), back: bool = False
    ) -> Any:
        return self.waiting(connection, assign_settings(_Channel(connection), assignments, clears, back))

    def resync(self, connection: object) -> Any:
        return self.waiting(connection, resync_settings(_Channel(connection)))

    def verify(self, connection: object) -> Any:
        return self.waiting(connection, verify_settings(_Channel(connection)))

    def query(self, connection: object, text: str) -> Any:
        return self.waiting(connection, _Channel(connection).send(text))


async def _alone_async(connection: Any, gen: Any, seconds: float | None) -> Any:
    try:
        async with asyncio.timeout(seconds) if connection.lock.locked() else nullcontext():
            await connection.lock.acquire()
    except TimeoutError:
        raise psycopg.OperationalError(_IN_USE) from None
    try:
        return await connection.wait(gen)
    finally:
        connection.lock.release()


def _seconds_left(connection: object) -> float | None:
    """Return how long what is ours may still take; None where it has no deadline."""
    record = record_of(connection)
    limit = None if record is None else record.deadline
    return None if limit is None else max(0.0, limit - time.monotonic())


class _Channel:
    """A connection of psycopg, talked with by its own generators."""

    error: type[Exception] = psycopg.Error

    def __init__(self, connection: Any) -> None:
        self._connection, self.record = connection, record_of(connection)

    def send(self, text: str) -> Generator[Any, Any, Rows]:
        """Send a text by the simple protocol and return the rows of its answers, one after the other."""
        encoding = encoding_of(self._connection)
        self._connection.pgconn.send_query(text.encode(encoding))
        results = yield from execute(self._connection.pgconn)
        for result in results:
            if result.status in _FAILED:
                raise _without_values(result)
        return [row for result in results for row in _rows(result, encoding)]

    def is_idle(self) -> bool:
        """Return True if no transaction is open."""
        return bool(self._connection.pgconn.transaction_status == _IDLE)

    def has_failed(self) -> bool:
        """Return True if the transaction that is open has failed."""
        return bool(self._connection.pgconn.transaction_status == pq.TransactionStatus.INERROR)

    def is_healthy(self) -> bool:
        """Return True unless libpq knows that the session has ended."""
        return bool(self._connection.pgconn.status == pq.ConnStatus.OK)

    def forget_prepared(self) -> None:
        """The server has no prepared statements any more."""
        self._connection._prepared = fresh_prepared(self._connection._prepared)

    def process(self) -> int:
        """Return the process that the server has reported to libpq."""
        return int(self._connection.pgconn.backend_pid)


def _without_values(result: Any) -> psycopg.Error:
    """Return the server's error without its text, which may quote what the app has set."""
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    error = type(psycopg.errors.error_from_result(result))(f"the server refused what keeps the session ({state})")
    error.sqlstate = state
    return error


def _rows(result: Any, encoding: str) -> Rows:
    cells = ([result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples))
    return [[None if cell is None else cell.decode(encoding, "surrogateescape") for cell in row] for row in cells]


def fresh_prepared(old: PrepareManager) -> PrepareManager:
    """No statement is prepared in a new session; how many may be stays."""
    new = PrepareManager()
    new.prepare_threshold, new.prepared_max = old.prepare_threshold, old.prepared_max
    return new
