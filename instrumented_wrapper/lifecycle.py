"""The order of steps of a change and a reset, and the runners that carry flows out. A switch is in ``switching.py``.

Knows no driver, no SQL and no OpenTelemetry. A flow is a generator that yields calls, so that each is written once
for sync and async drivers. Laws kept here: mark after success, reset what is changed and different.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from inspect import isawaitable, iscoroutine
from typing import Any, TypeVar

from instrumented_wrapper import handlers
from instrumented_wrapper.drivers import Driver, Flow
from instrumented_wrapper.events import (
    Fetched,
    Observation,
    PristineFetch,
    Reset,
    SettingChange,
    SettingsEnd,
    Signals,
    error_type,
    observe,
)
from instrumented_wrapper.failover import RESET_TIMEOUT, STATEMENT_MARGIN
from instrumented_wrapper.session import Change, Session

__all__ = ["ask", "fetch", "keep_present", "note_change", "reset", "restore", "run", "run_async", "where"]

logger = logging.getLogger("instrumented_wrapper")

Result = TypeVar("Result")


def run(flow: Flow[Result]) -> Result:
    """Carry out the calls of `flow` on a sync connection."""
    step: Callable[[], Callable[[], Any]] = partial(next, flow)
    try:
        while True:
            call = step()
            try:
                step = partial(flow.send, _not_awaitable(call()))
            except BaseException as error:  # noqa: BLE001 - the flow decides, whatever it is
                step = partial(flow.throw, error)
    except StopIteration as end:
        result: Result = end.value
        return result


async def run_async(flow: Flow[Result]) -> Result:
    """Carry out the calls of `flow` on an async connection."""
    step: Callable[[], Callable[[], Any]] = partial(next, flow)
    try:
        while True:
            call = step()
            try:
                result = call()
                step = partial(flow.send, await result if isawaitable(result) else result)
            except BaseException as error:  # noqa: BLE001 - the flow decides, whatever it is
                step = partial(flow.throw, error)
    except StopIteration as end:
        value: Result = end.value
        return value


def _not_awaitable(result: Any) -> Any:
    if not isawaitable(result):
        return result
    if iscoroutine(result):
        result.close()
    raise TypeError("a handler returned an awaitable on a sync connection: use a plain function, or an async driver")


# --- a change ---------------------------------------------------------------------------------------------------


def note_change(driver: Driver, connection: Any, session: Session, setting: str) -> None:
    """Read the pristine value of `setting`, once, before the app changes it."""
    if not session.knows(setting):
        session.fetched(setting, fetch(driver, connection, session, setting))


def fetch(driver: Driver, connection: Any, session: Session, setting: str) -> Any:
    """Read the present value of `setting`, observed."""
    with observe(PristineFetch(**where(driver, connection, session), setting=setting, source="driver")) as observed:
        value = driver.read(connection, setting)
        observed.outcome = Fetched(value)
    return value


def where(driver: Driver, connection: Any, session: Session) -> dict[str, Any]:
    """Return what every event says of the connection on which it happens."""
    options = session.options
    signals = Signals(options.traces, options.metrics, options.capture_values)
    return {"driver": driver.name, "peer": driver.peer(connection), "signals": signals}


# --- a reset ----------------------------------------------------------------------------------------------------


def reset(driver: Driver, connection: Any, session: Session, trigger: str) -> Flow[bool]:
    """Bring what was changed back to pristine. False if it failed: a pooled connection must then be discarded."""
    read = partial(driver.read, connection)
    handler = handlers.reset_handler()
    plan = session.reset_plan(read)
    if session.resetting or (not plan and handler is None):  # the app's handler may close its connection
        keep_present(session, read)
        return True
    settings = tuple(change.setting for change in plan)
    with observe(Reset(**where(driver, connection, session), trigger=trigger, settings=settings)) as observed:
        try:
            handled = yield from ask(driver, handler, session, connection, time.monotonic() + RESET_TIMEOUT)
        except Exception as error:  # noqa: BLE001 - the close goes on, whatever the app's handler raised
            _reset_failed(observed, plan, error)
            return False
        done = () if handled else tuple(restore(driver, connection, c, "reset") for c in session.reset_plan(read))
        keep_present(session, read)
        observed.outcome = SettingsEnd(done, "custom" if handled else "default", round_trips=0)
    return True


def _reset_failed(observed: Observation, plan: tuple[Change, ...], error: Exception) -> None:
    logger.error("session reset failed: the reset handler raised %s", type(error).__name__)
    failed = tuple(SettingChange(c.setting, c.before, c.after, "failed") for c in plan)
    observed.outcome = SettingsEnd(failed, "default", round_trips=0, error=error_type(error))


def restore(driver: Driver, connection: Any, change: Change, outcome: str) -> SettingChange:
    """Carry out one step of a plan."""
    driver.write(connection, change.setting, change.after)
    return SettingChange(change.setting, change.before, change.after, outcome)


def keep_present(session: Session, read: Callable[[str], Any]) -> None:
    """Take what the connection now has as the values of the settings that are known."""
    for setting in session.snapshot():
        session.changed_to(setting, read(setting))


def ask(
    driver: Driver, handler: handlers.Handler | None, session: Session, connection: Any, deadline: float
) -> Flow[bool]:
    """Let the app's handler do it; what it changes is not the app's doing, what it left open is committed."""
    if handler is None:
        return False
    was_idle = driver.is_idle(connection)
    with session.asking(), driver.unobserved(connection, deadline - STATEMENT_MARGIN):
        handled = yield partial(_call_handler, handler, session, connection, deadline, driver.is_async(connection))
        if was_idle:
            yield partial(driver.finish_work, connection)
    return bool(handled)


def _call_handler(handler: handlers.Handler, session: Session, connection: Any, deadline: float, is_async: bool) -> Any:
    result = handler(session.snapshot(), connection)
    return _until(result, deadline) if is_async and isawaitable(result) else result


async def _until(result: Awaitable[Any], deadline: float) -> Any:
    """Await a handler's coroutine, but no longer than the operation may take."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # another event loop than asyncio's drives this connection: its statements are bounded anyway
        return await result
    async with asyncio.timeout(deadline - time.monotonic()):
        return await result
