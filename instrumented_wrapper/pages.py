"""The pages that a cursor fetches from its server: the first ones have their own spans, the others are counted.

Pure: starts operations with what the caller passes, and knows neither a driver nor OpenTelemetry. The span of the last
page with a span stays open for the pages that follow. It ends with the result: when all rows are read, or the cursor is
closed or used for another statement. The reference to a cursor is weak. If the app drops a cursor its span ends with
the next operation, not in the finaliser, which may run within a lock of the SDK.
"""

from __future__ import annotations

import atexit
import functools
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from inspect import iscoroutinefunction
from time import perf_counter, time_ns
from typing import Any, Final
from weakref import ref

from instrumented_wrapper.operations import Operation

MOST: Final = 10  # of one result that have spans of their own
Method = Callable[..., Any]
Begin = Callable[[bool], Operation | None]  # with a span, or only measured

_known: dict[int, Pages] = {}
abandoned: deque[Pages] = deque()


class Pages:
    """The pages of one result."""

    def __init__(self, cursor: Any) -> None:
        self._count = self._rest = self._ended = 0
        self._seconds = 0.0
        self._last: Operation | None = None
        self._cursor = ref(cursor, functools.partial(self._given_up, id(cursor)))

    def belong_to(self, cursor: object) -> bool:
        """Return True if they are pages of `cursor`."""
        return self._cursor() is cursor

    def begin(self, begin: Begin) -> Operation | None:
        """Begin to fetch another page."""
        self._count += 1
        operation = begin(self._count <= MOST)
        if self._count == MOST and operation is not None:
            return _Page(self, operation)
        return operation if self._last is None else _Page(self, operation, self._last)

    def hold(self, operation: Operation) -> None:
        """Leave the span of the last page that has one open, now that this page was fetched."""
        self._ended = time_ns()
        if operation.hold():
            self._last = operation
            _end_at_exit()

    def add(self, seconds: float, error: BaseException | None) -> None:
        """Count a page that has no span of its own, and that was fetched or raised `error`."""
        self._rest, self._seconds, self._ended = self._rest + 1, self._seconds + seconds, time_ns()
        if error is not None:
            self.finish(error)

    def finish(self, error: BaseException | None = None) -> None:
        """End the open span: no pages follow."""
        last, self._last = self._last, None
        if last is not None:
            last.complete(self._rest, self._seconds, self._ended, error)

    def forget(self) -> None:
        """Leave the span to the process that has begun it."""
        self._last = None

    def _given_up(self, key: int, cursor: object) -> None:
        _known.pop(key, None)
        if self._last is not None:
            abandoned.append(self)


class _Page:
    """A page that is the last one with a span, or belongs to that span."""

    def __init__(self, pages: Pages, operation: Operation | None, last: Operation | None = None) -> None:
        self._pages, self._operation, self._last = pages, operation, last
        self._started = perf_counter()
        self._inside: AbstractContextManager[None] | None = None
        if last is not None:
            self._inside = last.resumed()
            self._inside.__enter__()

    def end(self, error: BaseException | None = None) -> None:
        """End the page: it was fetched, or raised `error`."""
        seconds, operation = perf_counter() - self._started, self._operation
        self._leave()
        if self._last is None and operation is not None and error is None:
            self._pages.hold(operation)
            return
        if operation is not None:
            operation.end(error)
        if self._last is not None:
            self._pages.add(seconds, error)

    def pause(self) -> None:
        """Until it is resumed or ends, what happens is not part of it."""
        self._leave()
        if self._operation is not None:
            self._operation.pause()

    def resumed(self) -> AbstractContextManager[None]:
        """While inside, what happens belongs to it."""
        above = self._last or self._operation
        assert above is not None
        return above.resumed()

    def hold(self) -> bool:
        """Its span is the last one's already."""
        return False

    def complete(self, pages: int, seconds: float, ended: int, error: BaseException | None = None) -> None:
        """Its span is the last one's."""

    def _leave(self) -> None:
        inside, self._inside = self._inside, None
        if inside is not None:
            inside.__exit__(None, None, None)


def of(cursor: object) -> Pages:
    """Return the pages of what `cursor` reads now."""
    pages = _known.get(id(cursor))
    if pages is None or not pages.belong_to(cursor):
        pages = _known[id(cursor)] = Pages(cursor)
    return pages


def over(cursor: object) -> None:
    """End the pages of a cursor that is closed, or executes another statement."""
    if (pages := _known.pop(id(cursor), None)) is not None:
        pages.finish()


def fetched(cursor: object, asked: int | None, count: int) -> None:
    """End the pages of a cursor after its last page: all rows were requested (None), or more than there were."""
    if asked is None or 0 <= count < asked:
        of(cursor).finish()


def leaving(nobody: Callable[[], bool], original: Method) -> Method:
    """Return a method of cursors after which what was read up to then is over, like ``close`` and ``execute``."""

    @functools.wraps(original)
    def method(self: Any, *args: object, **kwargs: object) -> Any:
        if not nobody():
            over(self)
        return original(self, *args, **kwargs)

    @functools.wraps(original)
    async def method_async(self: Any, *args: object, **kwargs: object) -> Any:
        return await method(self, *args, **kwargs)

    return method_async if iscoroutinefunction(original) else method


def end_abandoned() -> None:
    """End the spans of cursors that the app dropped without closing them."""
    while abandoned:
        try:
            pages = abandoned.popleft()
        except IndexError:  # another thread was faster
            return
        pages.finish()


def forget_all() -> None:
    """In a forked child: what is open is the parent's."""
    for pages in (*_known.values(), *abandoned):
        pages.forget()
    _known.clear()
    abandoned.clear()


@functools.cache
def _end_at_exit() -> None:
    """Have what is open end with the process: before the SDK, which was there first."""
    atexit.register(_end_all)


def _end_all() -> None:
    end_abandoned()
    for pages in list(_known.values()):
        pages.finish()
