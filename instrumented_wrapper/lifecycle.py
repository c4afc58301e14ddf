"""The order of steps of a change, and the steps that resets and transfers share.

``resets.py`` has the reset, ``switching.py`` the switch. Knows no driver, no SQL and no OpenTelemetry. A flow is a
generator that yields calls, written once for sync and async drivers; ``runners.py`` carries it out. Law of this
module: mark after success.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from inspect import isawaitable
from typing import Any

from instrumented_wrapper import handlers
from instrumented_wrapper.drivers import Driver, Flow
from instrumented_wrapper.events import Fetched, PristineFetch, SettingChange, Signals, observe
from instrumented_wrapper.failover import STATEMENT_MARGIN
from instrumented_wrapper.plans import Change, ServerAnswer
from instrumented_wrapper.session import Session

_MOST_QUESTIONS = 100  # an answer may bring up another question: what a function calls in its body


# --- a change ---------------------------------------------------------------------------------------------------


def note_change(driver: Driver, connection: object, session: Session, setting: str) -> None:
    """Read the pristine value of `setting`, once, before the app changes it."""
    if not session.knows(setting):
        session.fetched(setting, fetch(driver, connection, session, setting))


def fetch(driver: Driver, connection: object, session: Session, setting: str) -> Any:
    """Read the present value of `setting`, one of the driver's, observed."""
    with observe(PristineFetch(**where(driver, connection, session), setting=setting, source="driver")) as observed:
        value = driver.read(connection, setting)
        observed.outcome = Fetched(value)
    return value


def note_changes(driver: Driver, connection: object, session: Session, names: Sequence[str]) -> Flow[None]:
    """Read the pristine values of settings on the server, once, before the app changes them: in one round trip.

    Behind a pooler that lends its sessions only what the server reports is that of the app's own.
    """
    reported = driver.reported(connection, names)
    names = tuple(reported) if session.shared else names
    known: dict[str, str | None] = dict(reported)
    for name in names:
        source = "reported" if name in reported else "server"
        with observe(PristineFetch(**where(driver, connection, session), setting=name, source=source)) as observed:
            if name not in known:
                known.update((yield partial(driver.query_settings, connection, [n for n in names if n not in known])))
            session.on_server.fetched(name, known[name])
            observed.outcome = Fetched(known[name])


def settle_doubts(driver: Driver, connection: object, session: Session) -> Flow[None]:
    """Read from the server what is uncertain, and pristine values that could not be read before."""
    for _ in range(_MOST_QUESTIONS):
        if not session.on_server.has_doubts or session.shared:
            return
        found = yield partial(driver.resync, connection)
        for name, value in found.items():
            report_fetched(driver, connection, session, name, value)


def report_fetched(driver: Driver, connection: object, session: Session, setting: str, value: object) -> None:
    """Emit the event of a pristine value that was read together with others."""
    with observe(PristineFetch(**where(driver, connection, session), setting=setting, source="server")) as observed:
        observed.outcome = Fetched(value)


def where(driver: Driver, connection: object, session: Session) -> dict[str, Any]:
    """Return the attributes that every event of a connection has."""
    options = session.options
    signals = Signals(options.traces, options.metrics, options.capture_values)
    return {"driver": driver.name, "peer": driver.peer(connection), "signals": signals}


# --- what resets and transfers have in common -----------------------------------------------------------------------


def keep_present(session: Session, read: Callable[[str], Any]) -> None:
    """Store the present values of the connection for the known settings."""
    for setting in session.client_settings():
        session.changed_to(setting, read(setting))


def read_anew(driver: Driver, connection: object, session: Session) -> Flow[int]:
    """Read the known settings again after a handler has run; return the number of round trips."""
    names = session.on_server.names
    if not names or session.shared or not driver.is_idle(connection):
        return 0
    values = yield partial(driver.query_settings, connection, names)
    session.apply_answer(ServerAnswer(values, {}), None)
    return 1


def restore(driver: Driver, connection: object, change: Change, outcome: str) -> SettingChange:
    """Carry out one step of a plan."""
    driver.write(connection, change.setting, change.after)
    return SettingChange(change.setting, change.before, change.after, outcome)


def call_handler(
    driver: Driver, handler: handlers.Handler | None, session: Session, connection: object, deadline: float
) -> Flow[bool]:
    """Call the app's handler. Its changes are not recorded as the app's, and a transaction that it leaves open is
    committed.
    """
    if handler is None:
        return False
    was_idle = driver.is_idle(connection)
    with session.in_handler(), driver.unobserved(connection, deadline - STATEMENT_MARGIN):
        handled = yield partial(_handled, handler, session, connection, deadline, driver.is_async(connection))
        if was_idle:
            yield partial(driver.finish_work, connection)
    return bool(handled)


def _handled(handler: handlers.Handler, session: Session, connection: object, deadline: float, is_async: bool) -> Any:
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
