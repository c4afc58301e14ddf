"""Record the patched methods that are operations of the app: their duration and outcome.

Each function makes one replacement, the sync and the async one side by side. Without a listener they do nothing.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

import psycopg
from psycopg import pq

from instrumented_wrapper.batches import first_taken
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans, named_parameters, unless_it_fails
from instrumented_wrapper.drivers.psycopg.generator_spans import FLUSH, SYNC, with_failover
from instrumented_wrapper.drivers.psycopg.loss_facts import is_pending, is_quiet
from instrumented_wrapper.drivers.psycopg.private_api import AsyncConnection, Connection
from instrumented_wrapper.drivers.psycopg.records import Record, record_of
from instrumented_wrapper.drivers.psycopg.server_cursors import anew, fetching
from instrumented_wrapper.drivers.psycopg.streaming import copy, copy_async, stream, stream_async
from instrumented_wrapper.operations import Operation
from instrumented_wrapper.pages import leaving
from instrumented_wrapper.patching import Patches

Method = Callable[..., Any]
Begin = Callable[..., Operation | None]  # with the spans, the record and the arguments of the method
_BAD: Final = int(pq.ConnStatus.BAD)
_INERROR: Final = int(pq.TransactionStatus.INERROR)


def install(patches: Patches, spans: QuerySpans) -> None:
    """Patch what the app calls, as far as this version of psycopg has it."""

    def over(owner: object, name: str, make: Callable[[Method], Method]) -> None:
        if hasattr(owner, name):
            patches.close_over(owner, name, make)

    for cursor, server_cursor, executing, timing, streamed, copied in _CURSORS:
        over(cursor, "execute", functools.partial(executing, spans))
        over(server_cursor, "execute", functools.partial(anew, spans, timing(spans, _states)))
        over(cursor, "executemany", functools.partial(_batching, spans, timing(spans, _batches)))
        over(cursor, "stream", functools.partial(_streaming, spans, streamed))
        over(cursor, "copy", functools.partial(_streaming, spans, copied))
        over(server_cursor, "_fetch_gen", functools.partial(fetching, spans))
        over(server_cursor, "close", functools.partial(leaving, spans.nobody))
    for connection, transaction, pipeline, timing, mark in _CONNECTIONS:
        for name, command in _COMMANDS.items():
            over(connection, name, timing(spans, command))
        over(transaction, f"__{mark}enter__", timing(spans, _enters))
        over(transaction, f"__{mark}exit__", timing(spans, _leaves))
        over(pipeline, "_fetch_gen", functools.partial(_flushing, spans))
        over(pipeline, "sync", timing(spans, _synchronises))
        over(pipeline, f"__{mark}exit__", timing(spans, _synchronises))


# --- statements --------------------------------------------------------------------------------------------------


def _executing(spans: QuerySpans, original: Method) -> Method:
    """``execute``: the frequent one, without an argument more than psycopg has."""
    nobody, begin = spans.nobody, spans.statement

    @functools.wraps(original)
    def execute(
        self: Any, query: object, params: object = None, *, prepare: object = None, binary: object = None
    ) -> Any:
        record: Record | None
        try:
            record = self._conn._instrumented_wrapper  # `KEY`, spelled out: Python looks that up faster
        except AttributeError:  # not watched
            record = None
        if (
            record is None
            or not record.operations_wanted
            or nobody()
            or (operation := begin(record, self, query, params)) is None
        ):
            if prepare is None and binary is None:
                return original(self, query, params)  # keywords cost more than all the rest here
            return original(self, query, params, prepare=prepare, binary=binary)
        try:
            result = original(self, query, params, prepare=prepare, binary=binary)
        except BaseException as error:
            operation.end(error)
            raise
        operation.end()
        return result

    return execute


def _executing_async(spans: QuerySpans, original: Method) -> Method:
    nobody, begin = spans.nobody, spans.statement

    @functools.wraps(original)
    async def execute(
        self: Any, query: object, params: object = None, *, prepare: object = None, binary: object = None
    ) -> Any:
        record: Record | None
        try:
            record = self._conn._instrumented_wrapper  # `KEY`, spelled out: Python looks that up faster
        except AttributeError:  # not watched
            record = None
        if (
            record is None
            or not record.operations_wanted
            or nobody()
            or (operation := begin(record, self, query, params)) is None
        ):
            if prepare is None and binary is None:
                return await original(self, query, params)  # keywords cost more than all the rest here
            return await original(self, query, params, prepare=prepare, binary=binary)
        try:
            result = await original(self, query, params, prepare=prepare, binary=binary)
        except BaseException as error:
            operation.end(error)
            raise
        operation.end()
        return result

    return execute


def _begun(begin: Begin, spans: QuerySpans, owner: object, *args: object, **kwargs: object) -> Operation | None:
    """Begin an operation of a connection, or of a cursor, block or pipeline of one."""
    record = record_of(getattr(owner, "_conn", owner))
    if record is None or not record.operations_wanted:
        return None
    return unless_it_fails(begin, spans, record, owner, *args, **kwargs)


def _timing(spans: QuerySpans, begin: Begin) -> Callable[[Method], Method]:
    """Any other method that is an operation from its call to its return."""
    nobody = spans.nobody

    def make(original: Method) -> Method:
        @functools.wraps(original)
        def method(self: Any, *args: object, **kwargs: object) -> Any:
            if nobody() or (operation := _begun(begin, spans, self, *args, **kwargs)) is None:
                return original(self, *args, **kwargs) if args or kwargs else original(self)
            try:
                result = original(self, *args, **kwargs)
            except BaseException as error:
                operation.end(error)
                raise
            operation.end()
            return result

        return method

    return make


def _timing_async(spans: QuerySpans, begin: Begin) -> Callable[[Method], Method]:
    nobody = spans.nobody

    def make(original: Method) -> Method:
        @functools.wraps(original)
        async def method(self: Any, *args: object, **kwargs: object) -> Any:
            if nobody() or (operation := _begun(begin, spans, self, *args, **kwargs)) is None:
                return await (original(self, *args, **kwargs) if args or kwargs else original(self))
            try:
                result = await original(self, *args, **kwargs)
            except BaseException as error:
                operation.end(error)
                raise
            operation.end()
            return result

        return method

    return make


def _states(spans: QuerySpans, record: Record, self: Any, *args: object, **kwargs: object) -> Operation | None:
    """``execute`` of a server-side cursor."""
    return spans.statement(record, self, *_query(args, kwargs))


def _batches(spans: QuerySpans, record: Record, self: Any, *args: object, **kwargs: object) -> Operation | None:
    """``executemany``."""
    return spans.batch(record, self, *_query(args, kwargs))


def _batching(spans: QuerySpans, timed: Callable[[Method], Method], original: Method) -> Method:
    return first_taken(spans.nobody, timed(original))


def _query(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the query and its parameters, however they were given."""
    query = args[0] if args else kwargs.get("query", kwargs.get("statement"))
    return query, args[1] if len(args) > 1 else named_parameters(kwargs)


def _streaming(spans: QuerySpans, lasting: Method, original: Method) -> Method:
    """Wrap ``stream`` and ``copy``; without a listener psycopg's own run."""

    @functools.wraps(original)
    def method(self: Any, *args: object, **kwargs: object) -> Any:
        going_on = original(self, *args, **kwargs)
        if not spans.wanted(record_of(self._conn)):
            return going_on
        return lasting(lambda: _begun(_states, spans, self, *args, **kwargs), self, going_on)

    return method


# --- what psycopg sends on its own account -------------------------------------------------------------------------


def _flushing(spans: QuerySpans, original: Method) -> Method:
    """``Pipeline._fetch_gen``: a ``fetch...()`` in a pipeline block waits here for what was queued before it."""

    @functools.wraps(original)
    def _fetch_gen(self: Any, **kwargs: Any) -> Any:
        steps, record = original(self, **kwargs), record_of(self._conn)
        if record is None or sys._getframe(1).f_code.co_name != "_fetch_pipeline":
            return steps
        return with_failover(spans.part(FLUSH, record) if record.operations_wanted else None, record, steps)

    return _fetch_gen


def _ends(name: str) -> Begin:
    """``commit`` and ``rollback``: often there is nothing to end, and nothing is sent."""

    def begin(spans: QuerySpans, record: Record, self: Any) -> Operation | None:
        if is_quiet(self):
            return None
        is_aborted = self.pgconn.transaction_status == _INERROR  # its COMMIT is a ROLLBACK, for the server
        return spans.command("ROLLBACK" if is_aborted else name, record)

    return begin


def _finishes_prepared(name: str) -> Callable[..., Operation | None]:
    def begin(spans: QuerySpans, record: Record, self: Any, *_: Any, **__: object) -> Operation | None:
        prepared = self._tpc is None or self._tpc[1]
        return spans.command(f"{name} PREPARED" if prepared else name, record)

    return begin


_COMMANDS: Final[dict[str, Begin]] = {
    "commit": _ends("COMMIT"),
    "rollback": _ends("ROLLBACK"),
    "tpc_begin": lambda spans, record, *_, **__: spans.command("BEGIN", record),
    "tpc_prepare": lambda spans, record, *_, **__: spans.command("PREPARE TRANSACTION", record),
    "tpc_commit": _finishes_prepared("COMMIT"),
    "tpc_rollback": _finishes_prepared("ROLLBACK"),
}


def _enters(spans: QuerySpans, record: Record, self: Any, *_: Any) -> Operation | None:
    """``Transaction.__enter__``."""
    return spans.command("BEGIN" if is_quiet(self._conn) else "SAVEPOINT", record)


def _leaves(spans: QuerySpans, record: Record, self: Any, *error: Any) -> Operation | None:
    """``Transaction.__exit__``."""
    if self._conn.pgconn.status == _BAD and self._conn.closed:
        return None  # nothing is sent
    if any(error) or self.force_rollback:
        return spans.command("ROLLBACK" if self._outer_transaction else "ROLLBACK TO SAVEPOINT", record)
    return spans.command("COMMIT" if self._outer_transaction else "RELEASE SAVEPOINT", record)


def _synchronises(spans: QuerySpans, record: Record, self: Any, *_: Any) -> Operation | None:
    """``Pipeline.sync`` and the end of a pipeline: here the app waits for what it has queued."""
    of_the_app = getattr(self, "_lock", self._conn.lock) is self._conn.lock  # not the one that executemany() makes
    return spans.part(SYNC, record) if of_the_app and is_pending(self._conn) else None


_CURSORS: Final[Any] = (
    (psycopg.Cursor, psycopg.ServerCursor, _executing, _timing, stream, copy),
    (psycopg.AsyncCursor, psycopg.AsyncServerCursor, _executing_async, _timing_async, stream_async, copy_async),
)
_CONNECTIONS: Final[Any] = (
    (Connection, psycopg.Transaction, psycopg.Pipeline, _timing, ""),
    (AsyncConnection, psycopg.AsyncTransaction, psycopg.AsyncPipeline, _timing_async, "a"),
)
