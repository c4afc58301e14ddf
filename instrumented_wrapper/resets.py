"""The order of steps of a reset: before a close, a return to a pool, or because the app asks for it.

Knows no driver, no SQL and no OpenTelemetry. Law kept here: reset what is changed and different.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from instrumented_wrapper import handlers
from instrumented_wrapper.drivers import Assigned, Driver, Flow, Refused
from instrumented_wrapper.events import Observation, Reset, SettingChange, SettingsEnd, error_type, observe
from instrumented_wrapper.failover import RESET_TIMEOUT
from instrumented_wrapper.lifecycle import ask, keep_present, read_anew, restore, settle_doubts, where
from instrumented_wrapper.server_settings import Change
from instrumented_wrapper.session import Session

__all__ = ["accounted", "reset", "reset_as_asked"]

_LOST: Final = (
    "session reset failed: the connection was lost; where failover is on, the next statement moves the session to a "
    "server: call reset_session() after it; otherwise close the connection"
)
logger = logging.getLogger("instrumented_wrapper")


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


def _reset_failed(observed: Observation, plan: tuple[Change, ...], error: Exception, is_lost: bool) -> None:
    refused, cause = (error.setting, error.cause) if isinstance(error, Refused) else ("", error)
    words = f"{type(cause).__name__}{'; the connection is lost' if is_lost else ''}"
    logger.error("session reset failed%s: %s", f" at {refused}" if refused else "", words)
    failed = tuple(SettingChange(c.setting, c.before, c.after, "failed") for c in plan)
    observed.outcome = SettingsEnd(failed, "default", round_trips=0, error=error_type(cause))
