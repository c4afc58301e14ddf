"""Named cursors, which read from the server: pages have spans, rows have none."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from psycopg2 import extensions

from instrumented_wrapper import pages
from instrumented_wrapper.drivers.blocking.records import Record, record_of
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.operations import Operation

__all__ = ["iterating", "sizes", "told"]

Method = Callable[..., Any]
Size = Callable[..., int | None]  # how many rows are asked for; None: all
_K: Final[Any] = extensions.cursor
_place, _rows, _next = _K.rownumber.__get__, _K.rowcount.__get__, _K.__next__


def iterating(original: Method, page: Method) -> Method:
    """``__next__``: a row of the page that was fetched last, or `page`, which fetches the next one."""

    @functools.wraps(original)
    def __next__(self: Any) -> Any:
        return _next(self) if _place(self) < _rows(self) else page(self)

    return __next__


def told(spans: QuerySpans, size: Size, fetch: Method) -> Method:
    """Return `fetch`, recorded as a page unless it asks for a single row."""
    nobody = spans.nobody

    @functools.wraps(fetch)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if nobody() or (record := record_of(self.connection)) is None or not _is_told(spans, record):
            return fetch(self, *args, **kwargs)
        number = size(self, *args, **kwargs)
        if number == 1:
            return fetch(self, *args, **kwargs)
        fetched = pages.of(self)
        operation = fetched.begin(functools.partial(spans.page, record))
        rows = _to_its_end(operation, fetched, functools.partial(fetch, self, *args, **kwargs))
        if number is None or (_rows(self) < number):
            fetched.finish()
        return rows

    return method


def _is_told(spans: QuerySpans, record: Record) -> bool:
    within = record.busy and record.is_within()
    return record.operations_wanted and not within and spans.listens()


def _to_its_end(operation: Operation | None, fetched: pages.Pages, fetch: Callable[[], Any]) -> Any:
    try:
        rows = fetch()
    except BaseException as error:
        empty = isinstance(error, StopIteration)
        if operation is not None:
            operation.end(None if empty else error)
        if empty:
            fetched.finish()
        raise
    if operation is not None:
        operation.end()
    return rows


def _many(cursor: Any, size: int | None = None) -> int | None:
    return cursor.arraysize if size is None else size


sizes: Final[dict[str, Size]] = {
    "fetchmany": _many,
    "fetchall": lambda cursor: None,
    "__next__": lambda cursor: cursor.itersize,
}
