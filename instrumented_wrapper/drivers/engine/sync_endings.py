"""``begin()``, ``commit()`` and ``rollback()``: the frequent path, of a transaction that has only run plain statements.

An app outside autocommit ends a transaction after nearly every statement. All that is rare is done in `flow`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter
from instrumented_wrapper.drivers.engine.flow import RERAISE
from instrumented_wrapper.drivers.engine.loss_facts import OF_REQUEST
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.request import Request, SentCall, TransactionStatus
from instrumented_wrapper.drivers.engine.sync_calls import FRESH, MethodWrappers, ended
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.statement import Effects

Method = Callable[..., Any]
_IDLE: Final = TransactionStatus.IDLE  # to look into an enum costs as much as a call
_INTRANS: Final = TransactionStatus.INTRANS
ENDINGS: Final = {"begin": Request.STATEMENT, "commit": Request.COMMIT, "rollback": Request.ROLLBACK}  # by method
TEXTS: Final = {Request.STATEMENT: "BEGIN", Request.COMMIT: "COMMIT", Request.ROLLBACK: "ROLLBACK"}


class EndWrappers:
    """Makes the closures for one driver."""

    def __init__(self, adapter: DriverAdapter, calls: MethodWrappers, spans: QuerySpans) -> None:
        self._adapter, self._calls, self._spans = adapter, calls, spans

    def slow(self, original: Method, call: Request) -> Method:
        """Make the closure that looks at everything."""
        done, begin = self._done(call), functools.partial(self._spans.command, TEXTS[call])

        def effects(record: Record) -> Effects | None:
            return record.settings_client.with_functions(done) if record.chains else done

        return self._calls.call(original, call, begin, effects)

    def _done(self, call: Request) -> Effects:
        return self._calls.effects_of(TEXTS[call]) or OF_REQUEST[call]

    def ending(self, original: Method, call: Request, slowly: Method | None = None) -> Method:
        """Return the closure of ``commit`` or ``rollback``; of ``begin``, where the call is a statement.

        `slowly` is called if anything has to be examined.
        """
        begin, done = functools.partial(self._spans.command, TEXTS[call]), self._done(call)
        slowly = slowly or self.slow(original, call)
        clears, adapter, nobody, failed = bool(done.clears), self._adapter, self._spans.nobody, self._failed
        status_of, reentrant, answered = adapter.transaction_status, adapter.reentrant, self._calls.answered
        begins = call is Request.STATEMENT
        ends = adapter.room.CAPABILITIES.aborts_transactions and not begins

        @functools.wraps(original)
        def end(self: Any) -> Any:
            record: Record | None = self.__dict__.get(KEY)
            if record is None or record.active_caller:
                return slowly(self)
            with record.use_lock:
                if (
                    (record.end_unclear and record.needs_look_at_end(clears))
                    or (ends and status_of(self, record) is not _INTRANS)
                    or (record.switchable and monotonic() - record.last_response_at > FRESH and record.poll(0))
                ):
                    return slowly(self)
                operation = begin(record) if record.operations_wanted and not nobody() else None
                generation, record.active_caller = record.generation, reentrant
                try:
                    result = original(self)
                except BaseException as error:
                    record.transaction_status = _INTRANS if ends else status_of(self, record)
                    record.active_caller = False
                    run = functools.partial(original, self)
                    sent = SentCall(record.connection() or self, record, call, done, run, generation)
                    if (instead := failed(operation, sent, error)) is RERAISE:
                        raise
                    return instead
                by_text = record.begun
                record.active_caller, record.begun, record.used, record.is_prepared = False, begins, begins, False
                record.transaction_status = _IDLE if ends and not by_text else status_of(self, record)
                if record.switchable:
                    record.last_response_at = monotonic()
                if record.needs_resync or record.reports_deferred:
                    record.in_flight.append(done)
                    answered(record.connection() or self, record)
            if operation is not None:
                operation.end()
            return result

        return end

    def _failed(self, operation: Any, sent: SentCall, error: BaseException) -> Any:
        sent.record.in_flight.append(sent.effects)
        return ended(operation, self._calls.failed, sent, error, error=error)
