"""The choke point: ``Connection.wait`` and ``AsyncConnection.wait``, through which all of psycopg's traffic goes.

The frequent path is a plain statement on a healthy connection: one closure, one look at the socket, no new object.
Everything else is in `flow`. All of it runs under ``connection.lock``, so no other thread or task can use the
connection meanwhile.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import psycopg
from psycopg import pq

from instrumented_wrapper.drivers import Driver, Flows
from instrumented_wrapper.drivers.engine.flow import RERAISE
from instrumented_wrapper.drivers.psycopg.flow import StepFlow
from instrumented_wrapper.drivers.psycopg.records import Record
from instrumented_wrapper.drivers.psycopg.steps import is_done_plainly
from instrumented_wrapper.drivers.registry import KEY

Method = Callable[..., Any]
_ACTIVE: Final = int(pq.TransactionStatus.ACTIVE)
_FRESH: Final = (
    0.0001  # seconds; a server that just answered is taken to be alive: a look costs as much as all the rest
)
_IDLE: Final = int(pq.TransactionStatus.IDLE)


def wait(original: Method, driver: Driver, flows: Flows) -> Method:
    """Make the sync choke point."""
    call, pause = _callable(original)
    flow, run = StepFlow(driver, flows, functools.partial(_waiting, call, pause)), flows.run
    prepared, failed, answered = flow.prepared, flow.failed, flow.answered

    @functools.wraps(original)
    def wait(self: Any, gen: Any, interval: Any = pause, timeout: Any = None) -> Any:
        record: Record | None
        try:
            record, step = self._instrumented_wrapper, gen.__name__  # `KEY`, spelled out: Python looks that up faster
        except AttributeError:  # not watched, or no generator
            record, step = getattr(self, KEY, None), ""
        if record is None:
            return call(self, gen, interval, timeout)
        status = self.pgconn.transaction_status
        if status == _IDLE and step == "_commit_gen" and not record.needs_slow_path:
            return call(self, gen, interval, timeout)  # nothing is open, nothing will be sent
        if record.needs_slow_path or (
            status != _ACTIVE
            and (
                record.in_flight
                or status != record.transaction_status
                or (record.switchable and monotonic() - record.last_response_at > _FRESH and record.poll(0))
            )
        ):
            if record.off:
                return call(self, gen, interval, timeout)
            gen = run(prepared(self, record, gen, step, status))
        try:
            result = call(self, gen, interval, timeout)
        except psycopg.Error as error:
            if (instead := run(failed(self, record, step, error))) is RERAISE:
                raise
            return instead
        except BaseException as error:  # the app was interrupted
            record.finish(error)
            raise
        if step == "_execute_gen" or status != _IDLE:  # other steps may have sent nothing, and heard nothing
            record.last_response_at = monotonic()
        if (record.in_flight or record.needs_slow_path) and not is_done_plainly(self, record):
            run(answered(self, record, step))
        return result

    return wait


def wait_async(original: Method, driver: Driver, flows: Flows) -> Method:
    """Make the async choke point: the same steps."""
    call, pause = _callable(original)
    flow, run = StepFlow(driver, flows, functools.partial(_waiting, call, pause)), flows.run_async
    prepared, failed, answered = flow.prepared, flow.failed, flow.answered

    @functools.wraps(original)
    async def wait(self: Any, gen: Any, interval: Any = pause, timeout: Any = None) -> Any:
        record: Record | None
        try:
            record, step = self._instrumented_wrapper, gen.__name__  # `KEY`, spelled out: Python looks that up faster
        except AttributeError:  # not watched, or no generator
            record, step = getattr(self, KEY, None), ""
        if record is None:
            return await call(self, gen, interval, timeout)
        status = self.pgconn.transaction_status
        if status == _IDLE and step == "_commit_gen" and not record.needs_slow_path:
            return await call(self, gen, interval, timeout)  # nothing is open, nothing will be sent
        if record.needs_slow_path or (
            status != _ACTIVE
            and (
                record.in_flight
                or status != record.transaction_status
                or (record.switchable and monotonic() - record.last_response_at > _FRESH and record.poll(0))
            )
        ):
            if record.off:
                return await call(self, gen, interval, timeout)
            gen = await run(prepared(self, record, gen, step, status))
        try:
            result = await call(self, gen, interval, timeout)
        except psycopg.Error as error:
            if (instead := await run(failed(self, record, step, error))) is RERAISE:
                raise
            return instead
        except BaseException as error:  # the app was interrupted
            record.finish(error)
            raise
        if step == "_execute_gen" or status != _IDLE:  # other steps may have sent nothing, and heard nothing
            record.last_response_at = monotonic()
        if (record.in_flight or record.needs_slow_path) and not is_done_plainly(self, record):
            await run(answered(self, record, step))
        return result

    return wait


def _waiting(call: Method, pause: Any, connection: Any, gen: Any) -> Any:
    return call(connection, gen, pause, None)


def _callable(original: Method) -> tuple[Method, Any]:
    """Return a function with psycopg's present parameters, and the default of its ``interval``.

    Fixed parameters are half a microsecond cheaper than ``*args, **kwargs``; ``timeout`` came with 3.3.
    """
    known = inspect.signature(original).parameters
    if "interval" not in known:  # another psycopg than those that are known: it is only observed
        return lambda self, gen, interval, timeout: original(self, gen), None
    call = original if "timeout" in known else lambda self, gen, interval, timeout: original(self, gen, interval)
    return call, known["interval"].default
