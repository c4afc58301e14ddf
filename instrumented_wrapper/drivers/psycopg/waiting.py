"""The choke point: ``Connection.wait`` and ``AsyncConnection.wait``, through which all of psycopg's traffic goes.

The frequent path is a plain statement on a healthy connection: one closure, one look at the socket, no object made.
Everything else is decided in `steps` and `loss_rules` and done by the lifecycle's flows. All of it happens under
``connection.lock``, so that no other thread or task can use the connection meanwhile.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import psycopg
from psycopg import pq

from instrumented_wrapper.drivers import Driver, Flow, Flows
from instrumented_wrapper.drivers.psycopg import steps
from instrumented_wrapper.drivers.psycopg.records import KEY, Record
from instrumented_wrapper.drivers.psycopg.refusing import before, note_phase
from instrumented_wrapper.drivers.psycopg.steps import done_plainly
from instrumented_wrapper.errors import FailoverError
from instrumented_wrapper.failover import Loss

__all__ = ["wait", "wait_async"]

Method = Callable[..., Any]
_ACTIVE: Final = int(pq.TransactionStatus.ACTIVE)
_UNKNOWN: Final = int(pq.TransactionStatus.UNKNOWN)
_FRESH: Final = (
    0.0001  # seconds; a server that just answered is taken to be alive: a look costs as much as all the rest
)
_IDLE: Final = int(pq.TransactionStatus.IDLE)


def wait(original: Method, driver: Driver, flows: Flows) -> Method:
    """Make the sync choke point."""

    def repair(connection: Any, record: Record, loss: Loss) -> None:
        with record.resumed():
            news = flows.run(_flow(driver, flows, connection, record, loss))
        steps.repaired(connection, record, loss, news)
        if news is not None:
            try:
                raise news from loss.cause
            finally:
                del news  # or this frame would keep it, and it this frame

    call, pause = _callable(original)
    ask = _asking(call, driver, flows)
    finish = _finishing(repair, ask)

    @functools.wraps(original)
    def wait(self: Any, gen: Any, interval: Any = pause, timeout: Any = None) -> Any:
        record: Record | None = self.__dict__.get(KEY)
        if record is None or record.off:
            return call(self, gen, interval, timeout)
        phase = self.pgconn.transaction_status
        step = getattr(gen, "__name__", "")
        if step == "_commit_gen" and phase == _IDLE and not record.needs_slow_path:
            return call(self, gen, interval, timeout)  # nothing is open, nothing will be sent
        if phase != _ACTIVE and (
            record.needs_slow_path
            or record.in_flight
            or phase == _UNKNOWN
            or (monotonic() - record.last_response_at > _FRESH and record.poll(0))
        ):
            with record.failing():
                if loss := before(self, record, gen, step, phase):
                    repair(self, record, loss)
                gen = steps.adapted(driver, flows, self, record, gen, switched=loss is not None)
        elif phase != record.transaction_status:
            note_phase(self, record, gen, step, phase)
        try:
            result = call(self, gen, interval, timeout)
        except psycopg.Error as error:
            with record.failing():
                try:
                    if (loss := steps.after(driver, flows, self, record, step, error)) is None:
                        ask(self, record, interval)
                        raise
                    repair(self, record, loss)
                finally:
                    loss = None  # its cause is the error, which keeps this frame
            rest = steps.once_more(step, error)
            return None if rest is None else call(self, rest, interval, timeout)
        except BaseException as error:  # the app was interrupted
            record.finish(error)
            raise
        if step == "_execute_gen" or phase != _IDLE:  # other steps may have sent nothing, and heard nothing
            record.last_response_at = monotonic()
        if (record.in_flight or record.needs_slow_path) and not (done_plainly(self, record) and not record.unsure):
            finish(self, record, step, interval)
        return result

    return wait


def wait_async(original: Method, driver: Driver, flows: Flows) -> Method:
    """Make the async choke point: the same steps."""

    async def repair(connection: Any, record: Record, loss: Loss) -> None:
        with record.resumed():
            news = await flows.run_async(_flow(driver, flows, connection, record, loss))
        steps.repaired(connection, record, loss, news)
        if news is not None:
            try:
                raise news from loss.cause
            finally:
                del news  # or this frame would keep it, and it this frame

    call, pause = _callable(original)
    ask = _asking_async(call, driver, flows)
    finish = _finishing_async(repair, ask)

    @functools.wraps(original)
    async def wait(self: Any, gen: Any, interval: Any = pause, timeout: Any = None) -> Any:
        record: Record | None = self.__dict__.get(KEY)
        if record is None or record.off:
            return await call(self, gen, interval, timeout)
        phase = self.pgconn.transaction_status
        step = getattr(gen, "__name__", "")
        if step == "_commit_gen" and phase == _IDLE and not record.needs_slow_path:
            return await call(self, gen, interval, timeout)  # nothing is open, nothing will be sent
        if phase != _ACTIVE and (
            record.needs_slow_path
            or record.in_flight
            or phase == _UNKNOWN
            or (monotonic() - record.last_response_at > _FRESH and record.poll(0))
        ):
            with record.failing():
                if loss := before(self, record, gen, step, phase):
                    await repair(self, record, loss)
                gen = steps.adapted(driver, flows, self, record, gen, switched=loss is not None)
        elif phase != record.transaction_status:
            note_phase(self, record, gen, step, phase)
        try:
            result = await call(self, gen, interval, timeout)
        except psycopg.Error as error:
            with record.failing():
                try:
                    if (loss := steps.after(driver, flows, self, record, step, error)) is None:
                        await ask(self, record, interval)
                        raise
                    await repair(self, record, loss)
                finally:
                    loss = None  # its cause is the error, which keeps this frame
            rest = steps.once_more(step, error)
            return None if rest is None else await call(self, rest, interval, timeout)
        except BaseException as error:  # the app was interrupted
            record.finish(error)
            raise
        if step == "_execute_gen" or phase != _IDLE:  # other steps may have sent nothing, and heard nothing
            record.last_response_at = monotonic()
        if (record.in_flight or record.needs_slow_path) and not (done_plainly(self, record) and not record.unsure):
            await finish(self, record, step, interval)
        return result

    return wait


def _asking(call: Method, driver: Driver, flows: Flows) -> Method:
    """Ask now what only the server can tell, where that disturbs nothing."""

    def ask(connection: Any, record: Record, interval: Any) -> None:
        if question := steps.question_for(driver, flows, connection, record):
            call(connection, question, interval, None)

    return ask


def _asking_async(call: Method, driver: Driver, flows: Flows) -> Method:
    """Do as `_asking` does, awaited."""

    async def ask(connection: Any, record: Record, interval: Any) -> None:
        if question := steps.question_for(driver, flows, connection, record):
            await call(connection, question, interval, None)

    return ask


def _finishing(repair: Method, ask: Method) -> Method:
    """What comes after an answer: keep what the step did, repair what it hid."""

    def finish(connection: Any, record: Record, step: str, interval: Any) -> None:
        if loss := steps.answered(connection, record, step):
            repair(connection, record, loss)
        elif record.unsure or record.asks:
            ask(connection, record, interval)

    return finish


def _finishing_async(repair: Method, ask: Method) -> Method:
    """Do as `_finishing` does, awaited."""

    async def finish(connection: Any, record: Record, step: str, interval: Any) -> None:
        if loss := steps.answered(connection, record, step):
            await repair(connection, record, loss)
        elif record.unsure or record.asks:
            await ask(connection, record, interval)

    return finish


def _callable(original: Method) -> tuple[Method, Any]:
    """Return a function with psycopg's present parameters, and the default of its ``interval``.

    Fixed parameters are half a microsecond cheaper than ``*args, **kwargs``; ``timeout`` came with 3.3.
    """
    known = inspect.signature(original).parameters
    if "interval" not in known:  # another psycopg than those that are known: it is only observed
        return lambda self, gen, interval, timeout: original(self, gen), None
    call = original if "timeout" in known else lambda self, gen, interval, timeout: original(self, gen, interval)
    return call, known["interval"].default


def _flow(driver: Driver, flows: Flows, connection: Any, record: Record, loss: Loss) -> Flow[FailoverError | None]:
    return flows.replace_lost(driver, connection, record, loss, steps.seconds_left())
