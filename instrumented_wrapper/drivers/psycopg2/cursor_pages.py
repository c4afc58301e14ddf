"""Named cursors, which read from the server: their pages have spans, their rows do not.

A loop over a cursor gets the rows of a page from C alone. Anything else that moves the cursor meanwhile ends that page
for the loop, which then continues from the cursor's position.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final
from weakref import ref

from psycopg2 import extensions

from instrumented_wrapper import pages
from instrumented_wrapper.drivers.engine.adapted_record import record_of
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.operations import Operation

Method = Callable[..., Any]
Size = Callable[..., int | None]  # how many rows are asked for; None: all
_K: Final[Any] = extensions.cursor
_place, _rows, _next = _K.rownumber.__get__, _K.rowcount.__get__, _K.__next__
IN_LOOP: Final = "_instrumented_wrapper_loop"  # in a cursor's ``__dict__``: a weak reference to `_Ahead` of its loop


class _Ahead(list[Any]):
    """The cursor, once for each row that a loop may still take from C; emptied if something else moves the cursor."""

    __slots__ = ("__weakref__",)


def iterating(original: Method, page: Method) -> Method:
    """``__next__``: a row of the page that was fetched last, or `page`, which fetches the next one."""

    @functools.wraps(original)
    def __next__(self: Any) -> Any:
        if IN_LOOP in self.__dict__:
            stop_loop(self)
        return _next(self) if _place(self) < _rows(self) else page(self)

    return __next__


def looping(original: Method, step: Method, page: Method) -> Method:
    """``__iter__``: the rows in C, page by page; the cursor itself where a class of the app has another `step`."""

    @functools.wraps(original)
    def __iter__(self: Any) -> Any:
        return chain.from_iterable(_pages(self, page)) if type(self).__next__ is step else original(self)

    return __iter__


def _pages(cursor: object, page: Method) -> Iterator[Iterable[Any]]:
    while True:
        if (left := _rows(cursor) - _place(cursor)) > 0:
            if IN_LOOP in cursor.__dict__:  # a loop around this one goes on from where this one ends
                stop_loop(cursor)
            ahead = _Ahead([cursor] * left)
            cursor.__dict__[IN_LOOP] = ref(ahead)
            rows = map(_next, ahead)
            del ahead
            yield rows
            continue
        try:
            row = page(cursor)
        except StopIteration:
            return
        yield (row,)
        del row


def stop_loop(cursor: object) -> None:
    """Have a loop over the cursor go on from where the cursor is after it was moved."""
    if (ahead := cursor.__dict__.pop(IN_LOOP)()) is not None:
        ahead.clear()


def paging(spans: QuerySpans, size: Size, fetch: Method) -> Method:
    """Return `fetch`, recorded as a page unless it fetches a single row."""
    nobody = spans.nobody

    @functools.wraps(fetch)
    def method(self: Any, *args: object, **kwargs: object) -> Any:
        record = None if nobody() else record_of(self.connection)
        if record is None or (record.active_caller and record.is_within()) or not spans.wanted(record):
            return fetch(self, *args, **kwargs)
        number = size(self, *args, **kwargs)
        if number == 1:
            return fetch(self, *args, **kwargs)
        rows = _to_its_end(spans.page(record, self), self, functools.partial(fetch, self, *args, **kwargs))
        pages.fetched(self, number, _rows(self))
        return rows

    return method


def _to_its_end(operation: Operation | None, cursor: object, fetch: Callable[[], Any]) -> Any:
    try:
        rows = fetch()
    except BaseException as error:
        empty = isinstance(error, StopIteration)
        if operation is not None:
            operation.end(None if empty else error)
        if empty:
            pages.of(cursor).finish()
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
