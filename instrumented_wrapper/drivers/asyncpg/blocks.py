"""``transaction()`` of asyncpg at a loss: its exit raises the most informative error, and the block is over."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from asyncpg.transaction import Transaction

from instrumented_wrapper.drivers.asyncpg.adapter import ADAPTER
from instrumented_wrapper.drivers.engine.adapted_record import record_of
from instrumented_wrapper.errors import FailoverError, again
from instrumented_wrapper.patching import Patches

Method = Callable[..., Any]
COMMIT, ROLLBACK = "_Transaction__commit", "_Transaction__rollback"


def blocks(patches: Patches) -> None:
    """Patch what begins and ends a block."""
    patches.close_over(Transaction, "start", _starting)
    patches.close_over(Transaction, COMMIT, _committing)
    patches.close_over(Transaction, ROLLBACK, _rolling_back)
    patches.close_over(Transaction, "__aexit__", _leaving)


def _starting(original: Method) -> Method:
    """The begin: asyncpg takes the block for open as soon as it is sent, which it is not where it met a loss."""

    @functools.wraps(original)
    def start(self: Any) -> Any:
        return _started(self, original(self))  # which refuses at once what a pool has back

    return start


async def _started(block: Any, begun: Awaitable[None]) -> None:
    try:
        await begun
    except FailoverError:
        if block._connection._top_xact is block:
            block._connection._top_xact = None
            await _over(block)
        raise


def _committing(original: Method) -> Method:
    """Wrap the commit: if it raises the loss again, the block is over and no rollback follows."""

    @functools.wraps(original)
    async def commit(self: Any) -> None:
        try:
            await original(self)
        except FailoverError:
            await _over(self)
            raise

    return commit


async def _over(block: Any) -> None:
    """Roll back what a switch refuses until then: the app has no block any more whose exit would do so."""
    connection = block._connection
    if not block._nested and not connection.is_closed() and connection.is_in_transaction():
        with suppress(*ADAPTER.raises):  # it is lost again: the next statement finds that
            await connection.execute("ROLLBACK;")


def _rolling_back(original: Method) -> Method:
    """Wrap the rollback of an inner block that an error leaves: the error passes; the outer block meets the loss."""

    @functools.wraps(original)
    async def rollback(self: Any) -> None:
        try:
            await original(self)
        except FailoverError:
            if not (self._nested and self._managed):
                raise

    return rollback


def _leaving(original: Method) -> Method:
    """``__aexit__`` where a switch has failed, so that the connection is closed for good: the app gets that error."""

    @functools.wraps(original)
    async def __aexit__(self: Any, extype: Any, ex: Any, tb: Any) -> Any:
        record = record_of(self._connection) if self._connection.is_closed() else None
        if record is not None and record.failed is not None:
            if ex is None:
                raise again(record.failed)
            return None
        return await original(self, extype, ex, tb)

    return __aexit__
