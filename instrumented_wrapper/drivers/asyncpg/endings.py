"""The ways in which a connection of asyncpg ends: by the app, by a pool, or by a loss, which the wrapper hides at
first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from asyncpg.connection import Connection

from instrumented_wrapper.drivers import Driver, Flows
from instrumented_wrapper.drivers.asyncpg.adapter import ADAPTER, leaving_record
from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.async_closing import closing_after_reset, closing_at_once
from instrumented_wrapper.patching import Patches

Method = Callable[..., Any]


def ends(patches: Patches, driver: Driver, flows: Flows) -> None:
    """Patch the methods that end a connection, and those that return whether it has ended."""
    terminate = Connection.terminate
    patches.close_over(Connection, "is_closed", _asking)
    patches.close_over(Connection, "_cleanup", _cleaning)
    patches.close_over(Connection, "_abort", _aborting)
    patches.close_over(Connection, "terminate", closing_at_once(driver, flows))
    patches.close_over(Connection, "close", closing_after_reset(ADAPTER, driver, flows, terminate))


def _is_only_lost(connection: Any, record: Record | None) -> bool:
    """Return True if the next statement replaces the physical connection, which has ended."""
    if record is None or connection._aborted or not record.switchable:
        return False
    return connection._protocol is not None


def _asking(original: Method) -> Method:
    """``Connection.is_closed``: a connection that the next statement replaces is not closed, for pools neither."""

    @functools.wraps(original)
    def is_closed(self: Any) -> Any:
        return original(self) and not _is_only_lost(self, record_of(self))

    return is_closed


def _cleaning(original: Method) -> Method:
    """Wrap ``Connection._cleanup``, which notifies listeners, statements and the pool: skipped if a statement will
    repair it.
    """

    @functools.wraps(original)
    def _cleanup(self: Any) -> None:
        record = record_of(self)
        if record is None or not _is_only_lost(self, record):
            original(self)
            return
        record.last_response_at, record.poll = float("-inf"), _has_ended  # the next statement looks

    return _cleanup


def _aborting(original: Method) -> Method:
    """``Connection._abort``, which drops the protocol."""

    @functools.wraps(original)
    def _abort(self: Any) -> None:
        leaving_record(self)
        original(self)

    return _abort


def _has_ended(timeout: int) -> bool:
    return True
