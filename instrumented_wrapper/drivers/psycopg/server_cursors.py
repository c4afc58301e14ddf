"""Server-side cursors: the pages that they fetch, and when what they read is over."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from instrumented_wrapper import pages
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.psycopg.generator_spans import with_failover
from instrumented_wrapper.drivers.psycopg.records import record_of

__all__ = ["anew", "fetching"]

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


def _rows(cursor: Any, number: int | None, steps: Any) -> Any:
    rows = yield from steps
    pages.fetched(cursor, number, len(rows))
    return rows


def anew(spans: QuerySpans, executing: Method, original: Method) -> Any:
    """``ServerCursor.execute``."""
    return pages.leaving(spans.nobody, executing(original))
