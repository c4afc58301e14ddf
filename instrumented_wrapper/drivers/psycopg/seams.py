"""The patched methods of psycopg, except the choke point: how a connection is made, changed, used and closed.

Each function here makes one replacement. They keep the record up to date; the order of steps is the lifecycle's.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Generator
from functools import partial
from operator import attrgetter
from typing import Any, Final

from psycopg import pq

from instrumented_wrapper import events
from instrumented_wrapper.drivers import Driver, Flow, Flows
from instrumented_wrapper.drivers.engine.closing import closed_if_interrupted, last_reset
from instrumented_wrapper.drivers.psycopg import steps
from instrumented_wrapper.drivers.psycopg.baseline import is_the_apps_doing
from instrumented_wrapper.drivers.psycopg.records import Record, record_of
from instrumented_wrapper.runners import as_flow

Method = Callable[..., Any]
_OK: Final = int(pq.ConnStatus.OK)


# --- the physical connection -------------------------------------------------------------------------------------


def checking(original: Method) -> Method:
    """``BaseConnection._check_connection_ok``: a dead connection that can be replaced may go on to the choke point."""

    @functools.wraps(original)
    def _check_connection_ok(self: Any) -> None:
        if self.pgconn.status == _OK:
            return
        record = record_of(self)
        if not (record is not None and record.switchable and not record.off and not self._closed):
            original(self)

    return _check_connection_ok


def following(member: Any) -> property:
    """Make ``BaseCursor._pgconn`` the present physical connection of the cursor's connection.

    All of it runs in C. What psycopg assigns is stored in its place, for the time after `uninstrument`.
    """
    return property(attrgetter("_conn.pgconn"), member.__set__, member.__delete__)


# --- settings ---------------------------------------------------------------------------------------------------


def setting(name: str, driver: Driver, flows: Flows) -> Callable[[Method], Method]:
    """``BaseConnection._set_<name>_gen``: every way to set it passes here."""

    def make(original: Method) -> Method:
        @functools.wraps(original)
        def _set_gen(self: Any, *args: object, **kwargs: object) -> Generator[Any, Any, None]:
            record = record_of(self)
            if record is None or not is_the_apps_doing(self, record):
                yield from original(self, *args, **kwargs)
                if record is not None and record.held:
                    record.configured(name, driver.read(self, name))
                return
            flows.note_change(driver, self, record, name)
            yield from original(self, *args, **kwargs)
            record.changed_to(name, driver.read(self, name), events.origin())

        return _set_gen

    return make


# --- pipelines --------------------------------------------------------------------------------------------------


def leaving_pipeline(driver: Driver, flows: Flows) -> Callable[[Method], Method]:
    """Wrap ``Pipeline.__exit__``: query the uncertain state that a pipeline has left."""

    def make(original: Method) -> Method:
        @functools.wraps(original)
        def __exit__(self: Any, *error: Any) -> None:
            try:
                original(self, *error)
            finally:
                if question := _question_after(driver, flows, self):
                    with getattr(self, "_lock", self._conn.lock):
                        self._conn.wait(question)

        return __exit__

    return make


def leaving_pipeline_async(driver: Driver, flows: Flows) -> Callable[[Method], Method]:
    """``AsyncPipeline.__aexit__``."""

    def make(original: Method) -> Method:
        @functools.wraps(original)
        async def __aexit__(self: Any, *error: Any) -> None:
            try:
                await original(self, *error)
            finally:
                if question := _question_after(driver, flows, self):
                    async with getattr(self, "_lock", self._conn.lock):
                        await self._conn.wait(question)

        return __aexit__

    return make


def _question_after(driver: Driver, flows: Flows, pipeline: Any) -> Any:
    record = record_of(pipeline._conn)
    return (
        steps.resync_now(driver, flows, pipeline._conn, record) if record is not None and record.resync_next else None
    )


# --- the end ----------------------------------------------------------------------------------------------------


def closing(driver: Driver, flows: Flows) -> Callable[[Method], Method]:
    """``Connection.close`` and ``AsyncConnection.close``: a reset first, where there is something to reset."""

    def steps(original: Method, connection: Any) -> Flow[None]:
        known = None if _goes_to_pool(connection) else record_of(connection)
        if known is not None and (reset := _last_reset(driver, flows, connection, known)):
            with closed_if_interrupted(partial(driver.abandon, connection)):
                yield from reset
        yield partial(original, connection)

    return as_flow(steps)


def giving_up(original: Method) -> Method:
    """Wrap ``AsyncConnection._try_cancel``, for a cancelled task: the wrapper's own queries are not cancelled.

    A server that does not answer would block the wait for the cancellation's outcome. The connection is closed; the
    sync counterpart is in `limits.until`.

    Raises:
        CancelledError: the one that psycopg handles.
    """

    @functools.wraps(original)
    def _try_cancel(self: Any, *args: object, **kwargs: object) -> Any:
        record, interrupt = record_of(self), sys.exc_info()[1]
        if record is None or record.deadline is None or interrupt is None:
            return original(self, *args, **kwargs)
        self.pgconn.finish()
        raise interrupt

    return _try_cancel


def _goes_to_pool(connection: Any) -> bool:
    pool = getattr(connection, "_pool", None)
    return bool(pool and getattr(pool, "close_returns", False) and not connection.closed)


def _last_reset(driver: Driver, flows: Flows, connection: Any, record: Record) -> Flow[bool] | None:
    """``close()`` takes no lock: where a loop over notifications or a switch holds it, a reset would wait for it."""
    flow = last_reset(driver, flows, connection, record, in_use=connection.lock.locked())
    if record.foreign:
        driver.silence(connection)
    return flow
