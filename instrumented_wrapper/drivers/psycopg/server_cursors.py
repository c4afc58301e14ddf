"""Server-side cursors: the pages that they fetch, the end of their results, and the session that declared them.

psycopg keeps the physical connection in each cursor. The wrapper renews it where a cursor is described, so it
identifies the session that has the cursor: another session may have a cursor of the same name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import pq

from instrumented_wrapper import pages
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.psycopg.generator_spans import with_failover
from instrumented_wrapper.drivers.psycopg.records import record_of
from instrumented_wrapper.errors import again

Method = Callable[..., Any]


def fetching(spans: QuerySpans, original: Method) -> Method:
    """``ServerCursor._fetch_gen``: telemetry records a page of rows, not a single row."""
    nobody = spans.nobody

    @functools.wraps(original)
    def _fetch_gen(self: Any, num: int | None) -> Any:
        steps, record = original(self, num), record_of(self._conn)
        if num == 1 or nobody() or record is None or not spans.wanted(record):
            return steps
        return _rows(self, num, with_failover(spans.page(record, self), record, steps))

    return _fetch_gen


def _rows(cursor: object, number: int | None, steps: Any) -> Any:
    rows = yield from steps
    pages.fetched(cursor, number, len(rows))
    return rows


def anew(spans: QuerySpans, executing: Method, original: Method) -> Any:
    """``ServerCursor.execute``."""
    return pages.leaving(spans.nobody, executing(original))


# --- the session that declared it ---------------------------------------------------------------------------------


def describing(original: Method) -> Method:
    """``ServerCursor._describe_gen``, with which a cursor begins to read: it belongs to the present session."""

    @functools.wraps(original)
    def _describe_gen(self: Any) -> Any:
        self._pgconn = self._conn.pgconn  # psycopg's own attribute, which `seams.following` hides
        return (yield from original(self))

    return _describe_gen


def closing(declared_on: Callable[[Any], Any]) -> Callable[[Method], Method]:
    """Wrap ``ServerCursor._close_gen``: a cursor that ended with its session closes without a message.

    Args:
        declared_on: returns the physical connection that psycopg keeps in a cursor.
    """

    def make(original: Method) -> Method:
        @functools.wraps(original)
        def _close_gen(self: Any) -> Any:
            if _is_left_behind(self, declared_on):
                return
            idle = self._conn.pgconn.transaction_status == pq.TransactionStatus.IDLE
            try:
                yield from original(self)
            except psycopg.OperationalError:
                if not (idle and self._conn.pgconn.status == pq.ConnStatus.BAD and record_of(self._conn)):
                    raise
                # Held outside a transaction: it has ended with its session. The next statement finds that loss.

        return _close_gen

    return make


def reading(declared_on: Callable[[Any], Any]) -> Callable[[Method], Method]:
    """``ServerCursor._fetch_gen`` and ``_scroll_gen``: rows of another cursor of the same name are not its rows.

    Raises:
        FailoverError: the loss with which the cursor has ended.
    """

    def make(original: Method) -> Method:
        @functools.wraps(original)
        def read(self: Any, *args: object) -> Any:
            record = record_of(self._conn)
            if record is not None and record.last_error is not None and _is_left_behind(self, declared_on):
                raise again(record.last_error)
            return (yield from original(self, *args))

        read.__name__ = original.__name__
        return read

    return make


def _is_left_behind(cursor: Any, declared_on: Callable[[Any], Any]) -> bool:
    """Return True if a cursor was declared in a session that a switch has replaced."""
    return bool(cursor._described) and declared_on(cursor) is not cursor._conn.pgconn
