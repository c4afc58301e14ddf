"""``transaction()`` blocks that are open while the physical connection is replaced.

psycopg's block keeps the physical connection on which it began. Without the wrapper it would end silently, and what
follows the switch would be committed statement by statement. Here a stale block rolls the new session back and raises.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

from psycopg import Rollback, pq

from instrumented_wrapper.drivers import Flow
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.psycopg.limits import rollback_alone
from instrumented_wrapper.drivers.psycopg.records import Record, record_of
from instrumented_wrapper.errors import FailoverError, again
from instrumented_wrapper.runners import as_flow

Method = Callable[..., Any]
_BAD = int(pq.ConnStatus.BAD)


def entering(original: Method) -> Method:
    """``Transaction.__enter__``."""

    @functools.wraps(original)
    def __enter__(self: Any) -> Any:
        if self.pgconn is not self._conn.pgconn:
            _follow(self)
        try:
            return original(self)
        except FailoverError:
            _unwind(self)
            raise

    return __enter__


def entering_async(original: Method) -> Method:
    """``AsyncTransaction.__aenter__``."""

    @functools.wraps(original)
    async def __aenter__(self: Any) -> Any:
        if self.pgconn is not self._conn.pgconn:
            _follow(self)
        try:
            return await original(self)
        except FailoverError:
            _unwind(self)
            raise

    return __aenter__


def leaving(original: Method) -> Method:
    """``Transaction.__exit__``."""

    @functools.wraps(original)
    def __exit__(self: Any, kind: Any, error: Any, traceback: Any) -> Any:
        connection = self._conn
        if (record := record_of(connection)) is None:
            return original(self, kind, error, traceback)
        lost = None if record.refusal.error is None else _refused(self, record, error)
        if lost is None and self.pgconn is connection.pgconn:
            try:
                result = original(self, kind, error, traceback)
                if connection.pgconn.status == _BAD:
                    _lost_before(self, record, error)
                return result
            except FailoverError:
                _unwind(self)
                raise
        lost = lost or record.lost
        if lost is not None and self._outer_transaction:
            with connection.lock:
                connection.wait(rollback_alone(connection))
        return _stale_end(self, lost, error)

    return __exit__


def leaving_async(original: Method) -> Method:
    """``AsyncTransaction.__aexit__``."""

    @functools.wraps(original)
    async def __aexit__(self: Any, kind: Any, error: Any, traceback: Any) -> Any:
        connection = self._conn
        if (record := record_of(connection)) is None:
            return await original(self, kind, error, traceback)
        lost = None if record.refusal.error is None else _refused(self, record, error)
        if lost is None and self.pgconn is connection.pgconn:
            try:
                result = await original(self, kind, error, traceback)
                if connection.pgconn.status == _BAD:
                    _lost_before(self, record, error)
                return result
            except FailoverError:
                _unwind(self)
                raise
        lost = lost or record.lost
        if lost is not None and self._outer_transaction:
            async with connection.lock:
                await connection.wait(rollback_alone(connection))
        return _stale_end(self, lost, error)

    return __aexit__


@as_flow
def leaving_connection(original: Method, connection: Any, kind: object, error: object, traceback: object) -> Flow[Any]:
    """``Connection.__exit__``: psycopg reports nothing where the connection was closed within the block."""
    try:
        if error is None and connection.pgconn.status == _BAD and _lost_unseen(connection):
            yield connection.commit  # psycopg would leave in silence: this says what became of the transaction
        return (yield partial(original, connection, kind, error, traceback))
    except FailoverError:
        if not getattr(connection, "_pool", None):
            yield connection.close  # it is alive, and the block was to close it
        raise


def _lost_unseen(connection: Any) -> bool:
    """Return True if a transaction was open when the connection was lost, and the app got no error yet.

    Raises:
        FailoverFailedError: it went down with a failed switch; the block is not left as if it had been committed.
    """
    if (record := record_of(connection)) is None:
        return False
    if record.failed is not None and record.failed.transaction != "none":
        raise again(record.failed)
    return record.transaction_status != TransactionStatus.IDLE and record.switchable and not connection._closed


def _follow(block: Any) -> None:
    """A block that was made before a switch and not entered yet belongs to the new physical connection."""
    if record_of(block._conn) is not None:
        block.pgconn = block._conn.pgconn


def _refused(block: Any, record: Record, error: Any) -> FailoverError | None:
    """Return the error that the app gets at the end of its block: the statements in it were refused."""
    commits = error is None and block._outer_transaction and not block.force_rollback
    return record.refusal.error if commits and record.refusal.refuses_commit() else None


def _unwind(block: Any) -> None:
    """Take the block off psycopg's stack: its own code could not."""
    if block._stack_index >= 0:
        block._conn._num_transactions = block._stack_index
    if hasattr(block, "Status"):  # since 3.3
        block.status = block.Status.FAILED


def _lost_before(block: Any, record: Record, error: Any) -> None:
    """End a block whose connection was lost before: not in silence, and not so that all is refused for ever.

    Raises:
        FailoverFailedError: the block would end as if all were well.
    """
    _unwind(block)  # psycopg leaves it on its stack, which nobody sees on a connection that stays closed
    if record.failed is not None and error is None and not block.force_rollback:
        raise again(record.failed)
    if error is not None and block._outer_transaction and not record.under_way("outcome_unknown_if_lost"):
        record.given_up()


def _stale_end(block: Any, lost: FailoverError | None, error: Any) -> bool:
    """End a block whose transaction was lost.

    Raises:
        FailoverSuccessError: the block ends as if all were well.
    """
    _unwind(block)
    if isinstance(error, Rollback):
        return error.transaction is None or error.transaction is block
    if lost is not None and error is None and not block.force_rollback:
        raise again(lost)
    return False
