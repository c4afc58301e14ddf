"""Around each awaited call of the app: the frequent path, a plain statement on a healthy connection, and nothing else.

The twins of the closures in `sync_calls`; all that is rare is the same flow, in `flow`. A connection is used by one
task at a time: that is the rule of the drivers themselves.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from instrumented_wrapper.drivers.engine import decisions
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter
from instrumented_wrapper.drivers.engine.async_record import AsyncRecord
from instrumented_wrapper.drivers.engine.call_effects import CallEffects
from instrumented_wrapper.drivers.engine.flow import RERAISE, StatementFlow
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans, named_parameters
from instrumented_wrapper.drivers.engine.request import Request, SentCall, effects_of_call, itself
from instrumented_wrapper.drivers.engine.statement_cache import UNSEEN
from instrumented_wrapper.drivers.engine.sync_calls import FRESH
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.errors import again
from instrumented_wrapper.operations import Operation
from instrumented_wrapper.statement import Effects

Method = Callable[..., Any]
_NOT_GIVEN: Final = object()


class AsyncMethodWrappers(CallEffects):
    """Makes the closures for one driver."""

    def __init__(self, adapter: DriverAdapter, flow: StatementFlow, spans: QuerySpans) -> None:
        super().__init__(adapter)
        self._flow, self._spans, self._run = flow, spans, flow.run

    async def answered(self, connection: Any, record: AsyncRecord) -> None:
        """Record the effects of the statement, and query the server where only it can tell."""
        if self._flow.answered(connection, record):
            async with record.exclusive():
                await self._run(self._flow.resync(connection, record))

    async def failed(self, sent: SentCall, error: BaseException) -> Any:
        """Return what the app gets instead of an error, or `RERAISE`."""
        record, flow = sent.record, self._flow.failed(sent, error)
        if not isinstance(error, Exception):  # cancelled: nothing is waited for
            return await self._run(flow)
        async with record.exclusive():
            if record.generation == sent.generation:
                return await self._run(flow)
        if record.last_error is not None:  # another task has lost it too, and has replaced it
            raise again(record.last_error) from error
        return RERAISE

    def statement(
        self,
        original: Method,
        connection_of: Callable[[Any], Any],
        named: str,
        begin: Method | None = None,
        parameters_of: Callable[[tuple[Any, ...], dict[str, Any]], Any] | None = None,
    ) -> Method:
        """Make the closure of a method whose first argument, called `named`, is a statement.

        `parameters_of` returns its parameters from the other arguments; by default they are one argument.
        """
        parameters_of = parameters_of or _parameters
        known, nobody, begin = self.effects.known.get, self._spans.nobody, begin or self._spans.statement
        slowly, failed, answered = self._slowly, self.failed_plainly, self.answered

        @functools.wraps(original)
        async def execute(this: Any, query: Any = _NOT_GIVEN, /, *args: Any, **kwargs: Any) -> Any:
            if query is _NOT_GIVEN:
                return await (
                    execute(this, kwargs.pop(named), **kwargs) if named in kwargs else original(this, **kwargs)
                )
            connection = connection_of(this)
            record: AsyncRecord | None = None if connection is None else getattr(connection, KEY, None)
            if record is None or (record.active_caller and (record.active_caller is True or record.goes_to_driver())):
                return await original(this, query, *args, **kwargs)
            effects: Any = known(query, UNSEEN) if type(query) is str else UNSEEN
            operation = (
                begin(record, this, query, parameters_of(args, kwargs))
                if record.operations_wanted and not nobody()
                else None
            )
            if (
                effects is not None
                or record.needs_slow_path
                or record.active_caller
                or (record.switchable and monotonic() - record.last_response_at > FRESH and record.poll(0))
            ):
                return await slowly(operation, original, this, connection, record, (query, *args), kwargs, effects)
            generation, record.active_caller = record.generation, True
            try:
                result = await (original(this, query, *args, **kwargs) if args or kwargs else original(this, query))
            except BaseException as error:
                run = functools.partial(original, this, query, *args, **kwargs)
                sent = SentCall(connection, record, Request.STATEMENT, None, run, generation)
                if (instead := await failed(operation, sent, error)) is RERAISE:
                    raise
                return instead
            record.active_caller, record.used = False, True
            if record.switchable:
                record.last_response_at = monotonic()
            if record.needs_resync:
                await answered(connection, record)
            if operation is not None:
                operation.end()
            return result

        return execute

    def script(self, original: Method, named: str) -> Method:
        """Make the closure of a connection's method that sends a text, where it is no part of another call."""
        return self.statement(original, itself, named, self._spans.script)

    async def failed_plainly(self, operation: Operation | None, sent: SentCall, error: BaseException) -> Any:
        """Return what the app gets where a statement of the frequent path raised, or `RERAISE`."""
        record = sent.record
        record.active_caller = False
        record.transaction_status = self._adapter.transaction_status(sent.connection, record)
        if sent.effects is not None:
            decisions.note(record, decisions.attributed(record, sent.effects))
        return await ended_async(operation, self.failed, sent, error, error=error)

    async def _slowly(
        self,
        operation: Operation | None,
        original: Method,
        cursor: Any,
        connection: Any,
        record: AsyncRecord,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        effects: Any,
    ) -> Any:
        """Run the call step by step, as an operation if there is a listener."""
        async with record.exclusive():
            given = (original, cursor, connection, record, args, kwargs, effects)
            return await ended_async(operation, self._carry_out, *given)

    async def _carry_out(
        self,
        original: Method,
        cursor: Any,
        connection: Any,
        record: AsyncRecord,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        effects: Any,
    ) -> Any:
        if record.off:
            return await original(cursor, *args, **kwargs)
        if effects is UNSEEN or effects is not None:
            effects = self.exact_effects(cursor, record, args, kwargs)
        run = functools.partial(original, cursor, *args, **kwargs)
        reads = self.reads_last(args, kwargs)
        return await self._run(self._flow.carry_out(connection, record, Request.STATEMENT, effects, run, reads))

    def fetch(self, original: Method, connection_of: Callable[[Any], Any]) -> Method:
        """Make the closure of a method that reads rows from the server: they belong to a statement that was sent."""
        failed = self._not_read

        @functools.wraps(original)
        async def fetch(this: Any, *args: Any, **kwargs: Any) -> Any:
            connection = connection_of(this)
            record: AsyncRecord | None = None if connection is None else getattr(connection, KEY, None)
            if record is None or record.off or (record.active_caller and record.goes_to_driver()):
                return await original(this, *args, **kwargs)
            generation, record.active_caller = record.generation, True
            try:
                result = await original(this, *args, **kwargs)
            except BaseException as error:
                record.active_caller = False
                run = functools.partial(original, this, *args, **kwargs)
                sent = SentCall(connection, record, Request.READ, None, run, generation)
                if (instead := await failed(this, sent, error)) is RERAISE:
                    raise
                return instead
            record.active_caller = False
            return result

        return fetch

    def read(self, original: Method, connection_of: Callable[[Any], Any]) -> Method:
        """Make the closure of a method that reads one row: only a failure matters, and nothing is called within."""
        failed = self._not_read

        @functools.wraps(original)
        async def read(this: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return await original(this, *args, **kwargs)
            except BaseException as error:
                connection = connection_of(this)
                record: AsyncRecord | None = None if connection is None else connection.__dict__.get(KEY)
                if record is None or record.off or record.active_caller:
                    raise
                run = functools.partial(original, this, *args, **kwargs)
                sent = SentCall(connection, record, Request.READ, None, run, record.generation)
                if (instead := await failed(this, sent, error)) is RERAISE:
                    raise
                return instead

        return read

    async def _not_read(self, cursor: Any, sent: SentCall, error: BaseException) -> Any:
        """Rows could not be read."""
        text = self._adapter.executed(cursor)
        return await self.failed(sent if text is None else sent._replace(effects=self.effects_of(text)), error)

    def call(
        self,
        original: Method,
        call: Request,
        begin: Method | None = None,
        effects: Callable[..., Effects | None] | None = None,
        connection_of: Callable[[Any], Any] | None = None,
        reads_last: bool = False,
    ) -> Method:
        """Return the closure of another method, of connections unless `connection_of` returns the connection of its
        object.

        The arguments are those of `sync_calls.MethodWrappers.call`.
        """
        nobody = self._spans.nobody

        @functools.wraps(original)
        async def method(self_: Any, *args: Any, **kwargs: Any) -> Any:
            connection = self_ if connection_of is None else connection_of(self_)
            record: AsyncRecord | None = None if connection is None else getattr(connection, KEY, None)
            if record is None or record.off or (record.active_caller and record.goes_to_driver()):
                return await original(self_, *args, **kwargs)
            does = None if effects is None else effects_of_call(effects, record, args, kwargs)
            run = functools.partial(original, self_, *args, **kwargs)
            operation = (
                None if begin is None or nobody() or not record.operations_wanted else begin(record, *args, **kwargs)
            )
            async with record.exclusive():
                return await ended_async(operation, self._carried_out, connection, record, call, does, run, reads_last)

        return method

    async def _carried_out(self, *given: Any) -> Any:
        return await self._run(self._flow.carry_out(*given))


def _parameters(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs and named_parameters(kwargs)


def coroutine_function(function: Method) -> Method:
    """Mark a function that returns a coroutine of the driver as what it is to its callers: a coroutine function."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return function


async def ended_async(
    operation: Operation | None, function: Method, *arguments: Any, error: BaseException | None = None
) -> Any:
    """Await `function` and end its operation, if there is one, with `error` if that is raised."""
    if operation is None:
        return await function(*arguments)
    try:
        result = await function(*arguments)
    except BaseException as raised:
        operation.end(raised)
        raise
    operation.end(error if result is RERAISE else None)
    return result
