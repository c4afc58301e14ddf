"""Streams and COPY: operations that last while the app continues, with its own context."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from instrumented_wrapper.drivers.psycopg.records import record_of
from instrumented_wrapper.operations import Operation

Begin = Callable[[], Operation | None]
_END: Final = object()


class _Lasting:
    """Record an operation that lasts while the app does other things. Its connection is locked meanwhile."""

    def __init__(self, operation: Operation | None, cursor: Any) -> None:
        self._operation = operation
        self._record: Any = record_of(cursor._conn)

    def __enter__(self) -> _Lasting:
        return self

    def goes_on(self) -> None:
        """Leave the span, now that the operation has begun: only a failover is below it from here on."""
        if self._operation is not None:
            self._operation.pause()
            self._record.operation = self._operation

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._operation is not None:
            if self._record.operation is self._operation:  # it may not have had the connection yet
                self._record.operation = None
            self._operation.end(None if isinstance(error, GeneratorExit) else error)


def stream(begin: Begin, cursor: Any, rows: Any) -> Iterator[Any]:
    """Yield `rows`; it begins with the first and ends with the last, or where the app gives it up."""
    with _Lasting(begin(), cursor) as lasting:
        try:
            first = next(rows, _END)
            lasting.goes_on()
            if first is not _END:
                yield first
                yield from rows
        finally:
            rows.close()


async def stream_async(begin: Begin, cursor: Any, rows: Any) -> AsyncIterator[Any]:
    """Do as `stream` does, awaited."""
    with _Lasting(begin(), cursor) as lasting:
        try:
            first = await anext(rows, _END)
            lasting.goes_on()
            if first is not _END:
                yield first
                async for row in rows:
                    yield row
        finally:
            await rows.aclose()


@contextmanager
def copy(begin: Begin, cursor: Any, block: Any) -> Iterator[Any]:
    """Enter psycopg's own context manager; it lasts as long as the block."""
    with _Lasting(begin(), cursor) as lasting, block as copying:
        lasting.goes_on()
        yield copying


@asynccontextmanager
async def copy_async(begin: Begin, cursor: Any, block: Any) -> AsyncIterator[Any]:
    """Do as `copy` does, awaited."""
    with _Lasting(begin(), cursor) as lasting:
        async with block as copying:
            lasting.goes_on()
            yield copying
