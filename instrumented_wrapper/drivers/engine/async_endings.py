"""``begin()``, ``commit()`` and ``rollback()`` of async drivers: the twin of the closure in `sync_endings`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from instrumented_wrapper.drivers.engine.adapter import DriverAdapter
from instrumented_wrapper.drivers.engine.async_calls import AsyncMethodWrappers, ended_async
from instrumented_wrapper.drivers.engine.async_record import AsyncRecord
from instrumented_wrapper.drivers.engine.flow import RERAISE
from instrumented_wrapper.drivers.engine.loss_facts import OF_REQUEST
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.request import Request, SentCall, TransactionStatus
from instrumented_wrapper.drivers.engine.sync_calls import FRESH
from instrumented_wrapper.drivers.engine.sync_endings import TEXTS
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.statement import Effects

Method = Callable[..., Any]
_IDLE: Final = TransactionStatus.IDLE
_INTRANS: Final = TransactionStatus.INTRANS  # to look into an enum costs as much as a call


class AsyncEndWrappers:
    """Makes the closures for one driver."""

    def __init__(self, adapter: DriverAdapter, calls: AsyncMethodWrappers, spans: QuerySpans) -> None:
        self._adapter, self._calls, self._spans = adapter, calls, spans

    def ending(self, original: Method, call: Request) -> Method:
        """Make the closure of ``commit`` or ``rollback``; of ``begin``, where the call is a statement."""
        begin = functools.partial(self._spans.command, TEXTS[call])
        done = self._calls.effects_of(TEXTS[call]) or OF_REQUEST[call]

        def effects(record: AsyncRecord) -> Effects | None:
            return record.settings_client.with_functions(done) if record.chains else done

        slowly = self._calls.call(original, call, begin, effects)
        clears, adapter, nobody, failed = bool(done.clears), self._adapter, self._spans.nobody, self._failed
        status_of, answered = adapter.transaction_status, self._calls.answered
        begins = call is Request.STATEMENT
        ends = adapter.room.CAPABILITIES.aborts_transactions and not begins

        @functools.wraps(original)
        async def end(self: Any) -> Any:
            record: AsyncRecord | None = self.__dict__.get(KEY)
            if (
                record is None
                or record.active_caller
                or (record.end_unclear and record.needs_look_at_end(clears))
                or (ends and status_of(self, record) is not _INTRANS)
                or (record.switchable and monotonic() - record.last_response_at > FRESH and record.poll(0))
            ):
                return await slowly(self)
            operation = begin(record) if record.operations_wanted and not nobody() else None
            generation, record.active_caller = record.generation, True
            try:
                result = await original(self)
            except BaseException as error:
                record.transaction_status = _INTRANS if ends else status_of(self, record)
                record.active_caller = False
                run = functools.partial(original, self)
                sent = SentCall(self, record, call, done, run, generation)
                if (instead := await failed(operation, sent, error)) is RERAISE:
                    raise
                return instead
            by_text = record.begun
            record.active_caller, record.begun, record.used, record.is_prepared = False, begins, begins, False
            record.transaction_status = _IDLE if ends and not by_text else status_of(self, record)
            if record.switchable:
                record.last_response_at = monotonic()
            if record.needs_resync or record.reports_deferred:
                record.in_flight.append(done)
                await answered(self, record)
            if operation is not None:
                operation.end()
            return result

        return end

    async def _failed(self, operation: Any, sent: SentCall, error: BaseException) -> Any:
        sent.record.in_flight.append(sent.effects)
        return await ended_async(operation, self._calls.failed, sent, error, error=error)
