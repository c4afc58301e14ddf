"""Closures around each call of the app: the frequent path, a plain statement on a healthy connection, and nothing else.

There is one closure per method of the driver. It looks up the effects of the text and unsolicited messages of the
server; everything rare is a flow, in `flow`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter
from instrumented_wrapper.drivers.engine.call_effects import CallEffects
from instrumented_wrapper.drivers.engine.flow import RERAISE, StatementFlow
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans, named_parameters
from instrumented_wrapper.drivers.engine.request import Request, SentCall, effects_of_call, itself
from instrumented_wrapper.drivers.engine.statement_cache import UNSEEN
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.operations import Operation
from instrumented_wrapper.statement import Effects

Method = Callable[..., Any]
FRESH: Final = 0.0001  # seconds; a server that just answered is taken to be alive: a look costs as much as the rest
_NOT_GIVEN: Final = object()


class MethodWrappers(CallEffects):
    """Makes the closures for one driver."""

    def __init__(self, adapter: DriverAdapter, flow: StatementFlow, spans: QuerySpans) -> None:
        super().__init__(adapter)
        self._flow, self._spans, self._run = flow, spans, flow.run

    def answered(self, connection: Any, record: Record) -> None:
        """Record the effects of the statement, and query the server where only it can tell."""
        if self._flow.answered(connection, record):
            self._run(self._flow.resync(connection, record))

    def failed(self, sent: SentCall, error: BaseException) -> Any:
        """Return what the app gets instead of an error, or `RERAISE`."""
        return self._run(self._flow.failed(sent, error))

    def _carried_out(self, *given: Any) -> Any:
        return self._run(self._flow.carry_out(*given))

    def statement(
        self,
        original: Method,
        connection_of: Callable[[Any], Any],
        named: str,
        begin: Method | None = None,
        direct: Method | None = None,
    ) -> Method:
        """Return the closure of a cursor method whose first argument, called `named`, is a statement.

        `direct` equals `original`, for a cursor whose connection was checked just now.
        """
        known, nobody, begin = self.effects.known.get, self._spans.nobody, begin or self._spans.statement
        slow, failed, reentrant, at_once = self._slowly, self._failed, self._adapter.reentrant, direct or original
        answered = self.answered

        @functools.wraps(original)
        def execute(this: Any, query: Any = _NOT_GIVEN, /, *args: Any, **kwargs: Any) -> Any:
            try:
                connection = connection_of(this)
                record: Record | None = None if connection is None else connection.__dict__.get(KEY)
            except ReferenceError:  # a weak one, which is gone: the driver says so
                record = None
            if query is _NOT_GIVEN:
                return execute(this, kwargs.pop(named), **kwargs) if named in kwargs else original(this, **kwargs)
            if record is None or (record.active_caller and (record.active_caller is True or record.is_within())):
                return original(this, query, *args, **kwargs)
            effects: Any = known(query, UNSEEN) if type(query) is str else UNSEEN
            operation = (
                begin(record, this, query, args[0] if args else kwargs and named_parameters(kwargs))
                if record.operations_wanted and not nobody()
                else None
            )
            with record.use_lock:  # not by acquire(): Ctrl-C may come between a call and the block after it
                if (
                    effects is not None
                    or record.needs_slow_path
                    or (record.switchable and monotonic() - record.last_response_at > FRESH and record.poll(0))
                    or (record.live is not None and record.live() is not connection)  # moved while this thread waited
                ):
                    return slow(operation, original, this, connection, record, (query, *args), kwargs, effects)
                generation = record.generation
                record.active_caller = reentrant
                try:
                    result = at_once(this, query, *args, **kwargs) if args or kwargs else at_once(this, query)
                except BaseException as error:
                    run = functools.partial(original, this, query, *args, **kwargs)
                    sent = SentCall(connection, record, Request.STATEMENT, None, run, generation)
                    if (instead := failed(operation, sent, error)) is RERAISE:
                        raise
                    return instead
                record.active_caller = False
                record.used = True
                if record.switchable:
                    record.last_response_at = monotonic()
                if record.needs_resync:
                    answered(record.connection() or connection, record)
            if operation is not None:
                operation.end()
            return result

        return execute

    def script(self, original: Method, named: str) -> Method:
        """Make the closure of a connection's method that sends a text, where it is no part of another call."""
        return self.statement(original, itself, named, self._spans.script)

    def within(self, original: Method, named: str) -> Method:
        """Make the closure of a connection's method that sends a text: mostly within another call, at no cost there."""
        direct = self.script(original, named)

        @functools.wraps(original)
        def method(this: Any, text: Any = _NOT_GIVEN, /, *args: Any, **kwargs: Any) -> Any:
            record: Record | None = this.__dict__.get(KEY)
            way = original if record is None or record.active_caller is True else direct
            if args or kwargs or text is _NOT_GIVEN:
                return way(this, *(() if text is _NOT_GIVEN else (text, *args)), **kwargs)
            return way(this, text)  # nothing is packed: that costs as much as all the rest

        return method

    def plain(
        self, original: Method, connection_of: Callable[[Any], Any], mark: str, first: Callable[[Any], None]
    ) -> Method:
        """Make the closure of a cursor's method that changes nothing in the session and that telemetry ignores.

        `first` is called with a cursor that has `mark` in its ``__dict__``.
        """
        slowly, failed = self.call(original, Request.STATEMENT, None, None, connection_of), self._failed
        reentrant, answered = self._adapter.reentrant, self.answered

        @functools.wraps(original)
        def method(this: Any, *args: Any, **kwargs: Any) -> Any:
            if mark in this.__dict__:
                first(this)
            connection = connection_of(this)
            record: Record | None = connection.__dict__.get(KEY)
            if record is None or record.active_caller:
                return slowly(this, *args, **kwargs)
            with record.use_lock:
                if (
                    record.needs_slow_path
                    or (record.switchable and monotonic() - record.last_response_at > FRESH and record.poll(0))
                    or (record.live is not None and record.live() is not connection)
                ):
                    return slowly(this, *args, **kwargs)
                generation, record.active_caller = record.generation, reentrant
                try:
                    result = original(this, *args, **kwargs)
                except BaseException as error:
                    run = functools.partial(original, this, *args, **kwargs)
                    sent = SentCall(connection, record, Request.STATEMENT, None, run, generation)
                    if (instead := failed(None, sent, error)) is RERAISE:
                        raise
                    return instead
                record.active_caller, record.used = False, True
                if record.switchable:
                    record.last_response_at = monotonic()
                if record.needs_resync:
                    answered(record.connection() or connection, record)
                return result

        return method

    def _failed(self, operation: Operation | None, sent: SentCall, error: BaseException) -> Any:
        """A plain statement raised."""
        record = sent.record
        if (connection := record.connection()) is not None:
            sent = sent._replace(connection=connection)
        record.active_caller = False
        record.transaction_status = self._adapter.transaction_status(sent.connection, record)
        return ended(operation, self.failed, sent, error, error=error)

    def _slowly(
        self,
        operation: Operation | None,
        original: Method,
        cursor: Any,
        connection: Any,
        record: Record,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        effects: Any,
    ) -> Any:
        """Run the call step by step, as an operation if there is a listener."""
        connection = record.connection() or connection
        return ended(operation, self._carry_out, original, cursor, connection, record, args, kwargs, effects)

    def _carry_out(
        self,
        original: Method,
        cursor: Any,
        connection: Any,
        record: Record,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        effects: Any,
    ) -> Any:
        if record.off:
            return original(cursor, *args, **kwargs)
        if effects is UNSEEN or effects is not None:
            effects = self.exact_effects(cursor, record, args, kwargs)
        run = functools.partial(original, cursor, *args, **kwargs)
        looks = record.resync_next or (effects is not None and effects.sets)  # only then it matters
        reads = looks and self.reads_last(args, kwargs)
        return self._run(self._flow.carry_out(connection, record, Request.STATEMENT, effects, run, reads))

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

        `begin` begins an operation, and `effects` returns the effects of the call: both get the record and the
        arguments of the method. `reads_last`: it reads diagnostics of the last statement.
        """
        nobody, carry_out = self._spans.nobody, self._carried_out

        @functools.wraps(original)
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                connection = self if connection_of is None else connection_of(self)
                record: Record | None = None if connection is None else connection.__dict__.get(KEY)
            except ReferenceError:
                record = None
            if record is None or record.off or (record.active_caller and record.is_within()):
                return original(self, *args, **kwargs)
            connection = record.connection() or connection
            does = None if effects is None else effects_of_call(effects, record, args, kwargs)
            run = functools.partial(original, self, *args, **kwargs)
            operation = (
                None if begin is None or nobody() or not record.operations_wanted else begin(record, *args, **kwargs)
            )
            with record.use_lock:
                return ended(operation, carry_out, connection, record, call, does, run, reads_last)

        return method


def ended(operation: Operation | None, function: Method, *arguments: Any, error: BaseException | None = None) -> Any:
    """Call `function` and end its operation, if there is one, with `error` if that is raised."""
    if operation is None:
        return function(*arguments)
    try:
        result = function(*arguments)
    except BaseException as raised:
        operation.end(raised)
        raise
    operation.end(error if result is RERAISE else None)
    return result
