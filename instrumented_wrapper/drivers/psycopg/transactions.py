"""``transaction()`` blocks that are open while the physical connection is replaced.

psycopg's block keeps the physical connection that it began on; without us it would end in silence, and what came
after the switch would be committed statement by statement. Here a stale block rolls the new session back and says so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from psycopg import Rollback

from instrumented_wrapper.drivers.psycopg.records import Record, record_of
from instrumented_wrapper.drivers.psycopg.steps import rollback_alone
from instrumented_wrapper.errors import FailoverError, again

__all__ = ["entering", "entering_async", "leaving", "leaving_async"]

Method = Callable[..., Any]


def entering(original: Method) -> Method:
    """``Transaction.__enter__``."""

    @functools.wraps(original)
    def __enter__(self: Any) -> Any:
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
        if not _is_stale(self):
            try:
                return _heard(self, record, error, original(self, kind, error, traceback))
            except FailoverError:
                _unwind(self)
                raise
        lost = record.lost
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
        if not _is_stale(self):
            try:
                return _heard(self, record, error, await original(self, kind, error, traceback))
            except FailoverError:
                _unwind(self)
                raise
        lost = record.lost
        if lost is not None and self._outer_transaction:
            async with connection.lock:
                await connection.wait(rollback_alone(connection))
        return _stale_end(self, lost, error)

    return __aexit__


def _is_stale(block: Any) -> bool:
    return block.pgconn is not block._conn.pgconn


def _follow(block: Any) -> None:
    """A block that was made before a switch and not entered yet belongs to the new physical connection."""
    if record_of(block._conn) is not None:
        block.pgconn = block._conn.pgconn


def _unwind(block: Any) -> None:
    """Take the block off psycopg's stack: its own code could not."""
    if block._stack_index >= 0:
        block._conn._num_transactions = block._stack_index
    if hasattr(block, "Status"):  # since 3.3
        block.status = block.Status.FAILED


def _heard(block: Any, record: Record, error: Any, result: Any) -> Any:
    """The connection is shut for good since a switch failed: a block that ends well must not end in silence."""
    if record.failed is not None and error is None and not block.force_rollback and block._conn.closed:
        raise again(record.failed)
    return result


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
