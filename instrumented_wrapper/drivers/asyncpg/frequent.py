"""The frequent path on asyncpg: a plain statement, and a BEGIN, COMMIT or ROLLBACK that ends nothing else.

Everything else goes to the closure of `calls`, which examines the call completely. Nothing within is patched, so the
calling task need not be looked up.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from instrumented_wrapper.drivers.asyncpg.calls import UNDER_WAY, AsyncPGCalls
from instrumented_wrapper.drivers.asyncpg.channel import FAILED
from instrumented_wrapper.drivers.engine.flow import RERAISE
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.request import Request, SentCall, itself
from instrumented_wrapper.drivers.engine.statement_cache import UNSEEN
from instrumented_wrapper.drivers.engine.sync_calls import FRESH
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.statement import Effects

Method = Callable[..., Any]
NOBODY: Final = -2  # stands for the task that calls: no task has this number
_LEVELS: Final = ("SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED")
_TEXTS: Final = ("BEGIN", "COMMIT", "ROLLBACK", *(f"BEGIN ISOLATION LEVEL {level}" for level in _LEVELS))
_NOT_GIVEN: Final = object()


def usual_ends(calls: AsyncPGCalls) -> dict[str, Effects | None]:
    """Return what the texts do that usually begin and end a transaction, as ``transaction()`` sends them, and bare."""
    return {text: calls.effects_of(text) for each in _TEXTS for text in (each, f"{each};")}


def statement(calls: AsyncPGCalls, spans: QuerySpans, begin: Method, original: Method) -> Method:
    """Make the closure of a method of connections whose first argument is a statement, the others its parameters."""
    slowly = calls.statement(original, itself, "query", begin, _parameters)
    known, ends, nobody, failed = calls.effects.known, usual_ends(calls), spans.nobody, calls.failed_plainly

    @functools.wraps(original)
    async def execute(self: Any, query: Any = _NOT_GIVEN, /, *args: Any, **kwargs: Any) -> Any:
        pr = self._protocol
        record = None if pr is None else pr.__dict__.get(KEY)
        effects: Any = known.get(query, UNSEEN) if type(query) is str else UNSEEN
        if (
            record is None
            or record.active_caller
            or record.needs_slow_path
            or record.needs_resync
            or effects is UNSEEN
            or (
                effects is not None
                and (query not in ends or (record.end_unclear and record.needs_look_at_end(clears=False)))
            )
            or (record.switchable and monotonic() - record.last_response_at > FRESH and record.poll(0))
        ):
            way = original if _is_refused(record) else slowly
            return await (way(self, **kwargs) if query is _NOT_GIVEN else way(self, query, *args, **kwargs))
        operation = begin(record, self, query, args) if record.operations_wanted and not nobody() else None
        generation, record.active_caller = record.generation, NOBODY
        try:
            result = await (original(self, query, *args, **kwargs) if args or kwargs else original(self, query))
        except BaseException as error:
            run = functools.partial(original, self, query, *args, **kwargs)
            sent = SentCall(self, record, Request.STATEMENT, effects, run, generation)
            if (instead := await failed(operation, sent, error)) is RERAISE:
                raise
            return instead
        record.active_caller, record.used = False, True
        if effects is not None:
            pr.__dict__[FAILED] = record.is_prepared = False
        if record.switchable:
            record.last_response_at = monotonic()
        if operation is not None:
            operation.end()
        return result

    return execute


def _is_refused(record: Any) -> bool:
    """Return True if a statement of another task is in flight: asyncpg refuses, and nobody waits."""
    return record is not None and bool(record.active_caller) and UNDER_WAY in record.driver_state


def _parameters(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args


def prepared(calls: AsyncPGCalls, spans: QuerySpans, slowly: Method, original: Method) -> Method:
    """Make the closure of a method of prepared statements, of which the session has not been replaced."""
    known, nobody, begin, failed = calls.effects.known, spans.nobody, spans.statement, calls.failed_plainly

    @functools.wraps(original)
    async def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        connection, query = self._connection, self._query
        pr = connection._protocol
        record = None if pr is None else pr.__dict__.get(KEY)
        if (
            record is None
            or record.active_caller
            or record.needs_slow_path
            or record.needs_resync
            or known.get(query, UNSEEN) is not None
            or record.generation > 1
            or self._con_release_ctr != connection._pool_release_ctr
            or (record.switchable and monotonic() - record.last_response_at > FRESH and record.poll(0))
        ):
            return await (original if _is_refused(record) else slowly)(self, *args, **kwargs)
        operation = begin(record, self, query, args) if record.operations_wanted and not nobody() else None
        record.active_caller = NOBODY
        try:
            result = await (original(self, *args, **kwargs) if kwargs else original(self, *args))
        except BaseException as error:
            run = functools.partial(slowly, self, *args, **kwargs)
            sent = SentCall(connection, record, Request.STATEMENT, None, run, 1)
            if (instead := await failed(operation, sent, error)) is RERAISE:
                raise
            return instead
        record.active_caller, record.used = False, True
        if record.switchable:
            record.last_response_at = monotonic()
        if operation is not None:
            operation.end()
        return result

    return execute
