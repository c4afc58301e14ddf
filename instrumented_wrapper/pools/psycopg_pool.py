"""psycopg_pool: when a pool hands a connection out, takes it back, and checks it.

What the pool does before it first hands a connection out is the baseline. A return resets in the calling thread, after
a rollback, before the pool's own ``reset`` callback; nothing that a pool does while it takes one back is a switch.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from psycopg import pq

from instrumented_wrapper.drivers import Driver, Flow, Flows
from instrumented_wrapper.drivers.psycopg.records import KEY, Record
from instrumented_wrapper.drivers.psycopg.seams import resets_on_close
from instrumented_wrapper.drivers.psycopg.steps import pool_deadline
from instrumented_wrapper.failover import RESET_TIMEOUT
from instrumented_wrapper.handlers import SessionStateTransferHandlers as Handlers
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.security import DISCARDED
from instrumented_wrapper.self_test import missing

__all__ = ["install", "missing_parts"]

Method = Callable[..., Any]
logger = logging.getLogger("psycopg.pool")  # the pool's own: users look for its warnings there
_IDLE: Final = int(pq.TransactionStatus.IDLE)
_OPEN: Final = (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)
_PARTS: Final = "getconn putconn _reset_connection _connect ._check ._reset ._pool".split()


def missing_parts() -> list[str]:
    """Return what this version of psycopg_pool lacks of the parts that are used; empty where all is well."""
    import psycopg_pool as pools

    return missing(dict.fromkeys((pools.ConnectionPool, pools.AsyncConnectionPool), _PARTS))


def install(patches: Patches, driver: Driver, flows: Flows) -> None:
    """Patch the four pools of psycopg_pool."""
    import psycopg_pool as pools

    patches.close_over(pools.ConnectionPool, "getconn", _handing_out)
    patches.close_over(pools.AsyncConnectionPool, "getconn", _handing_out_async)
    patches.close_over(pools.ConnectionPool, "putconn", functools.partial(_taking_back, driver, flows))
    patches.close_over(pools.AsyncConnectionPool, "putconn", functools.partial(_taking_back_async, driver, flows))
    patches.close_over(pools.ConnectionPool, "_reset_connection", _cleaning)
    patches.close_over(pools.AsyncConnectionPool, "_reset_connection", _cleaning_async)


def _handing_out(original: Method) -> Method:
    @functools.wraps(original)
    def getconn(self: Any, timeout: float | None = None) -> Any:
        if self._check is None:
            connection = original(self, timeout)
        else:
            with _within(self.timeout if timeout is None else timeout):
                connection = original(self, timeout)
        record: Record | None = connection.__dict__.get(KEY)
        if record is not None and not record.handed_out:
            record.handed_out = True
            record.keep_reported()
        return connection

    return getconn


def _handing_out_async(original: Method) -> Method:
    @functools.wraps(original)
    async def getconn(self: Any, timeout: float | None = None) -> Any:
        if self._check is None:
            connection = await original(self, timeout)
        else:
            with _within(self.timeout if timeout is None else timeout):
                connection = await original(self, timeout)
        record: Record | None = connection.__dict__.get(KEY)
        if record is not None and not record.handed_out:
            record.handed_out = True
            record.keep_reported()
        return connection

    return getconn


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """A switch that a health check starts lasts no longer than the pool's client waits."""
    token = pool_deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        pool_deadline.reset(token)


def _taking_back(driver: Driver, flows: Flows, original: Method) -> Method:
    @functools.wraps(original)
    def putconn(self: Any, conn: Any) -> None:
        record: Record | None = conn.__dict__.get(KEY)
        if record is not None and record.refusal.error is not None:
            _discard(self, conn, record)
        if record is None or not (record.notice() or Handlers._reset) or not _is_ours(self, conn, record):
            return original(self, conn)  # type: ignore[no-any-return]
        try:
            with _on_return(record, conn) as reset:
                if conn.pgconn.transaction_status in _OPEN:
                    logger.warning("rolling back returned connection: %s", conn)
                    conn.rollback()
                if conn.pgconn.transaction_status == _IDLE:
                    reset(flows.run(_reset(driver, flows, conn, record)))
        finally:
            original(self, conn)
            record.returned = False
        return None

    return putconn


def _taking_back_async(driver: Driver, flows: Flows, original: Method) -> Method:
    @functools.wraps(original)
    async def putconn(self: Any, conn: Any) -> None:
        record: Record | None = conn.__dict__.get(KEY)
        if record is not None and record.refusal.error is not None:
            _discard(self, conn, record)
        if record is None or not (record.notice() or Handlers._reset) or not _is_ours(self, conn, record):
            return await original(self, conn)  # type: ignore[no-any-return]
        try:
            with _on_return(record, conn) as reset:
                if conn.pgconn.transaction_status in _OPEN:
                    logger.warning("rolling back returned connection: %s", conn)
                    await conn.rollback()
                if conn.pgconn.transaction_status == _IDLE:
                    reset(await flows.run_async(_reset(driver, flows, conn, record)))
        finally:
            await original(self, conn)
            record.returned = False
        return None

    return putconn


def _discard(pool: Any, connection: Any, record: Record) -> None:
    """Without its role or tenant no other borrower may get it: what is closed the pool replaces."""
    if getattr(connection, "_pool", None) is pool:
        logger.warning(DISCARDED, ", ".join(record.on_server.missing))
        connection.pgconn.finish()


def _is_ours(pool: Any, connection: Any, record: Record) -> bool:
    """Tell whether the pool will take it (otherwise it raises) and a reset is wanted."""
    return getattr(connection, "_pool", None) is pool and resets_on_close(record)


def _reset(driver: Driver, flows: Flows, connection: Any, record: Record) -> Flow[bool]:
    record.returned = True
    return flows.reset(driver, connection, record, "pool_return")


@contextmanager
def _on_return(record: Record, connection: Any) -> Iterator[Callable[[bool], None]]:
    """Bound the steps of a return; a connection that could not be reset is closed, so that the pool discards it."""

    def reset(succeeded: bool) -> None:
        if not succeeded:
            connection.pgconn.finish()

    record.deadline = time.monotonic() + RESET_TIMEOUT
    try:
        with _returning(record):
            yield reset
    except BaseException as error:  # as the pool does: what cannot be rolled back or reset is discarded
        logger.warning("return of a connection failed: %s: discarding it", type(error).__name__)
        connection.pgconn.finish()
        if not isinstance(error, Exception):
            raise  # a cancellation, Ctrl-C; the pool gets the connection back all the same
    finally:
        record.deadline = None
        record.refresh()


def _cleaning(original: Method) -> Method:
    """``_reset_connection``: what the pool does here (a rollback, its ``reset`` callback) never starts a switch."""

    @functools.wraps(original)
    def _reset_connection(self: Any, conn: Any) -> None:
        record: Record | None = conn.__dict__.get(KEY)
        if record is None or (conn.pgconn.transaction_status == _IDLE and self._reset is None):
            return original(self, conn)  # type: ignore[no-any-return]
        with _returning(record):
            return original(self, conn)  # type: ignore[no-any-return]

    return _reset_connection


def _cleaning_async(original: Method) -> Method:
    @functools.wraps(original)
    async def _reset_connection(self: Any, conn: Any) -> None:
        record: Record | None = conn.__dict__.get(KEY)
        if record is None or (conn.pgconn.transaction_status == _IDLE and self._reset is None):
            return await original(self, conn)  # type: ignore[no-any-return]
        with _returning(record):
            return await original(self, conn)  # type: ignore[no-any-return]

    return _reset_connection


@contextmanager
def _returning(record: Record) -> Iterator[None]:
    record.returning = True
    record.refresh()
    try:
        yield
    finally:
        record.returning = False
        record.refresh()
