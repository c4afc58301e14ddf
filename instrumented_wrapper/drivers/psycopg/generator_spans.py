"""Run psycopg's generators as operations: what psycopg sends on its own account, and what a failover belongs to."""

from __future__ import annotations

from typing import Any, Final

import psycopg

from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.psycopg.records import Record
from instrumented_wrapper.operations import Operation, Words

_BEGIN: Final = Words("BEGIN", operation="BEGIN")
FLUSH: Final = Words("FLUSH", operation="FLUSH")
SYNC: Final = Words("SYNC", operation="SYNC")


def implicit_begin(spans: QuerySpans, record: Record, command: object) -> Any:
    """Return psycopg's own BEGIN before a statement, with a span within that of the statement; it is not measured."""
    wanted = record.spans_wanted and record.options.transaction_spans != "off"
    return _as_part(spans, record, command) if wanted and spans.listens() and spans.within_recorded() else command


def _as_part(spans: QuerySpans, record: Record, command: Any) -> Any:
    if (operation := spans.part(_BEGIN, record, metrics=False)) is None:
        return (yield from command)
    operation.pause()
    try:
        result = yield from command
    except BaseException as error:
        operation.end(error)
        raise
    operation.end()
    return result


def with_failover(operation: Operation | None, record: Record, steps: object) -> Any:
    """Run a generator as an operation that may include a failover, before, in or after its steps.

    The caller holds the connection's lock; an error ends the operation in the choke point.
    """
    if operation is None:
        return steps
    operation.pause()
    record.finish()
    record.operation = record.unfinished = operation
    return _to_its_end(record, steps)


def _to_its_end(record: Record, steps: Any) -> Any:
    try:
        result = yield from steps
    except psycopg.Error:
        raise  # perhaps a loss: the choke point knows
    except BaseException as error:
        record.finish(error)
        raise
    record.finish()
    return result
