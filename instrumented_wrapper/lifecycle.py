"""The order of steps of a change and a reset, and the runners that carry flows out. A switch is in ``switching.py``.

Knows no driver, no SQL and no OpenTelemetry. A flow is a generator that yields calls, so that each is written once
for sync and async drivers. Laws kept here: mark after success, reset what is changed and different.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from functools import partial
from inspect import isawaitable, iscoroutine, isgenerator
from typing import Any, Final, TypeVar

from instrumented_wrapper import handlers
from instrumented_wrapper.drivers import Assigned, Driver, Flow, Refused
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
from instrumented_wrapper.server_settings import Change, Told
from instrumented_wrapper.session import Session

__all__ = [
    "accounted",
    "ask",
    "fetch",
    "keep_present",
    "note_change",
    "note_changes",
    "read_anew",
    "reset",
    "reset_as_asked",
    "restore",
    "run",
    "run_async",
    "run_within",
    "settle_doubts",
    "tell_fetched",
    "where",
]

_LOST: Final = (
    "session reset failed: the connection was lost; where failover is on, the next statement moves the session to a "
    "server: call reset_session() after it; otherwise close the connection"
)
logger = logging.getLogger("instrumented_wrapper")

Result = TypeVar("Result")
# What a runner does next, taken out before it is done: a local that has a raised error would keep it, and the error
# the frame and so the connection, until a garbage collection.
_Steps = list[Callable[[], Callable[[], Any]]]
_MOST_QUESTIONS = 100  # an answer may bring up another question: what a function calls in its body


def run(flow: Flow[Result]) -> Result:
    """Carry out the calls of `flow` on a sync connection."""
    steps: _Steps = [partial(next, flow)]
    try:
        while True:
            call = steps.pop()()
            try:
                steps.append(partial(flow.send, _not_awaitable(call())))
            except BaseException as error:  # noqa: BLE001 - the flow decides, whatever it is
                steps.append(partial(flow.throw, error))
    except StopIteration as end:
        result: Result = end.value
        return result


async def run_async(flow: Flow[Result]) -> Result:
    """Carry out the calls of `flow` on an async connection."""
    steps: _Steps = [partial(next, flow)]
    try:
        while True:
            call = steps.pop()()
            try:
                result = call()
                steps.append(partial(flow.send, await result if isawaitable(result) else result))
            except BaseException as error:  # noqa: BLE001 - the flow decides, whatever it is
                steps.append(partial(flow.throw, error))
    except StopIteration as end:
        value: Result = end.value
        return value


def run_within(flow: Flow[Result]) -> Generator[Any, Any, Result]:
    """Carry out the calls of `flow` within a driver's own generator: what a call returns is one, too."""
    steps: _Steps = [partial(next, flow)]
    try:
        while True:
            call = steps.pop()()
            try:
                result = call()
                steps.append(partial(flow.send, (yield from result) if isgenerator(result) else result))
            except BaseException as error:  # noqa: BLE001 - the flow decides, whatever it is
                steps.append(partial(flow.throw, error))
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
    """Read the present value of `setting`, one of the driver's, observed."""
    with observe(PristineFetch(**where(driver, connection, session), setting=setting, source="driver")) as observed:
        value = driver.read(connection, setting)
        observed.outcome = Fetched(value)
    return value


def note_changes(driver: Driver, connection: Any, session: Session, names: Sequence[str]) -> Flow[None]:
    """Read the pristine values of settings on the server, once, before the app changes them: in one round trip."""
    reported = driver.reported(connection, names)
    known: dict[str, str | None] = dict(reported)
    for name in names:
        source = "reported" if name in reported else "server"
        with observe(PristineFetch(**where(driver, connection, session), setting=name, source=source)) as observed:
            if name not in known:
                known.update((yield partial(driver.present, connection, [n for n in names if n not in known])))
            session.on_server.fetched(name, known[name])
            observed.outcome = Fetched(known[name])


def settle_doubts(driver: Driver, connection: Any, session: Session) -> Flow[None]:
    """Ask the server what it alone can tell: what is in doubt, and pristine values that could not be read before."""
    for _ in range(_MOST_QUESTIONS):
        if not session.on_server.wants_asking or session.shared:
            return
        found = yield partial(driver.ask, connection)
        for name, value in found.items():
            tell_fetched(driver, connection, session, name, value)


def tell_fetched(driver: Driver, connection: Any, session: Session, setting: str, value: Any) -> None:
    """Tell of a pristine value that the server gave together with other things."""
    with observe(PristineFetch(**where(driver, connection, session), setting=setting, source="server")) as observed:
        observed.outcome = Fetched(value)


def where(driver: Driver, connection: Any, session: Session) -> dict[str, Any]:
    """Return what every event says of the connection on which it happens."""
    options = session.options
    signals = Signals(options.traces, options.metrics, options.capture_values)
    return {"driver": driver.name, "peer": driver.peer(connection), "signals": signals}


# --- a reset ----------------------------------------------------------------------------------------------------


def reset(driver: Driver, connection: Any, session: Session, trigger: str) -> Flow[bool]:
    """Bring what was changed back to pristine. False if it failed: a pooled connection must then be discarded."""
    read = partial(driver.read, connection)
    deadline = time.monotonic() + RESET_TIMEOUT
    handler = handlers.reset_handler()
    idle = driver.is_idle(connection)
    if not session.resetting and idle:
        driver.notice(connection, will_ask=True)
        if (session.shared or session.on_server.wants_asking) and not (
            yield from _ask_first(driver, connection, session, deadline)
        ):
            return False
    plan = _reset_plan(session, read, idle)
    if session.resetting or not (plan or handler or (idle and session.to_clear())):
        keep_present(session, read)  # the app's handler may close its connection
        return True
    settings = tuple(change.setting for change in plan) + _to_clear(session, idle)
    event = Reset(**where(driver, connection, session), trigger=trigger, settings=settings, origins=session.origins())
    with observe(event) as observed:
        try:
            end = yield from _reset(driver, connection, session, handler, deadline)
        except Exception as error:  # noqa: BLE001 - the close goes on, whatever the app's handler or the server did
            _reset_failed(observed, plan, error, driver.is_lost(connection))
            return False
        observed.outcome = end = accounted(end, plan)
    return end.error is None


def reset_as_asked(driver: Driver, connection: Any, session: Session) -> Flow[bool]:
    """Reset because the app asks for it: whatever a switch could not carry, the session is then what it expects.

    A reset never starts a switch: of a session that was lost nothing can be reset.
    """
    done = not driver.is_lost(connection) and (yield from reset(driver, connection, session, "requested"))
    if done:
        session.accept()
    elif driver.is_lost(connection):
        logger.error(_LOST)
    return done


def _ask_first(driver: Driver, connection: Any, session: Session, deadline: float) -> Flow[bool]:
    """Ask what only the server can tell; where it does not tell, nobody knows what has to be reset."""
    try:
        if session.shared:
            yield from driver.find_out(connection, connection, deadline)
        with driver.unobserved(connection, deadline):
            yield from settle_doubts(driver, connection, session)
    except Exception as error:  # noqa: BLE001 - the close goes on
        logger.error("session reset failed: the server does not tell what was set: %s", error_type(error))
        return False
    return True


def _reset_plan(session: Session, read: Callable[[str], Any], idle: bool) -> tuple[Change, ...]:
    """Plan a reset; what lives on the server is left alone in a transaction, and where it is not ours alone."""
    on_server = session.on_server.reset_plan() if idle and not session.shared else ()
    return (*session.reset_plan(read), *on_server)


def _to_clear(session: Session, idle: bool) -> tuple[str, ...]:
    return session.to_clear() if idle and not session.shared else ()


def accounted(end: SettingsEnd, plan: tuple[Change, ...]) -> SettingsEnd:
    """Have each entry of a plan in the outcome: what nobody has carried out has failed."""
    if end.handled_by == "custom":
        return end
    told = {change.name for change in end.changes}
    left = tuple(SettingChange(*change, "failed") for change in plan if change.setting not in told)
    failed = [change.name for change in (*end.changes, *left) if change.outcome == "failed"]
    if not failed:
        return end
    logger.error("session reset failed at %s", ", ".join(failed))
    return end._replace(changes=(*end.changes, *left), error=end.error or "incomplete")


def _reset(
    driver: Driver, connection: Any, session: Session, handler: handlers.Handler | None, deadline: float
) -> Flow[SettingsEnd]:
    read = partial(driver.read, connection)
    planned = session.reset_plan(read)
    handled = yield from ask(driver, handler, session, connection, deadline)
    with driver.unobserved(connection, deadline):
        if handled:
            trips = yield from read_anew(driver, connection, session)
            keep_present(session, read)
            return SettingsEnd((), "custom", trips)
        rest = session.reset_plan(read)
        by_handler = tuple(SettingChange(*c, "reset") for c in planned if c.setting not in {r.setting for r in rest})
        done = (*by_handler, *(restore(driver, connection, change, "reset") for change in rest))
        keep_present(session, read)
        end = yield from _put_back(driver, connection, session, deadline)
    return end._replace(changes=(*done, *end.changes))


def _put_back(driver: Driver, connection: Any, session: Session, deadline: float) -> Flow[SettingsEnd]:
    """Reset what lives on the server, in one round trip; none where there is nothing."""
    ours = driver.is_idle(connection) and not session.shared
    plan = session.on_server.reset_plan() if ours else ()
    clears = _to_clear(session, ours)
    if not (plan or clears):
        return SettingsEnd((), "default", 0)
    entries = (*plan, *(Change(name, "present", None) for name in clears))
    assign = partial(driver.assign, connection, session.reset_assignments(clears), clears, back=True)
    assigned: Assigned | None = yield assign
    if assigned is None and (yield from driver.find_out(connection, connection, deadline)):
        assigned = yield assign
    if assigned is None:  # not our session: another client has it meanwhile
        return SettingsEnd(tuple(SettingChange(*entry, "skipped") for entry in entries), "default", 1)
    session.were_reset(assigned.done | assigned.own)
    changes = tuple(SettingChange(*entry, assigned.outcome(entry.setting, "reset")) for entry in entries)
    error = next((error_type(error) for error in assigned.errors.values()), None)
    return SettingsEnd(changes, "default", 1, error=error)


def read_anew(driver: Driver, connection: Any, session: Session) -> Flow[int]:
    """Take over what a handler has left in the settings that are known; return the round trips."""
    names = session.on_server.names
    if not names or session.shared or not driver.is_idle(connection):
        return 0
    values = yield partial(driver.present, connection, names)
    session.told(Told(values, {}), None)
    return 1


def _reset_failed(observed: Observation, plan: tuple[Change, ...], error: Exception, is_lost: bool) -> None:
    refused, cause = (error.setting, error.cause) if isinstance(error, Refused) else ("", error)
    words = f"{type(cause).__name__}{'; the connection is lost' if is_lost else ''}"
    logger.error("session reset failed%s: %s", f" at {refused}" if refused else "", words)
    failed = tuple(SettingChange(c.setting, c.before, c.after, "failed") for c in plan)
    observed.outcome = SettingsEnd(failed, "default", round_trips=0, error=error_type(cause))


def restore(driver: Driver, connection: Any, change: Change, outcome: str) -> SettingChange:
    """Carry out one step of a plan."""
    driver.write(connection, change.setting, change.after)
    return SettingChange(change.setting, change.before, change.after, outcome)


def keep_present(session: Session, read: Callable[[str], Any]) -> None:
    """Take what the connection now has as the values of the settings that are known."""
    for setting in session.client_settings():
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
