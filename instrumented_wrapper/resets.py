"""The order of steps of a reset: before a close, at a return to a pool, or on request.

Knows no driver, no SQL and no OpenTelemetry. Law of this module: reset what is changed and different.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from instrumented_wrapper import handlers
from instrumented_wrapper.drivers import Assigned, Driver, Flow, Refused
from instrumented_wrapper.events import Reset, SettingChange, SettingsEnd, error_type, observe
from instrumented_wrapper.failover import RESET_TIMEOUT, STATEMENT_MARGIN
from instrumented_wrapper.lifecycle import call_handler, keep_present, read_anew, restore, settle_doubts, where
from instrumented_wrapper.plans import Change
from instrumented_wrapper.session import Session

_LOST: Final = (
    "session reset failed: the connection was lost; where failover is on, the next statement moves the session to a "
    "server: call reset_session() after it; otherwise close the connection"
)
_NOT_DONE: Final = "NotSupportedError"  # PEP 249's name: the driver has no way to do it, and has raised nothing
logger = logging.getLogger("instrumented_wrapper")


def reset(driver: Driver, connection: object, session: Session, trigger: str) -> Flow[bool]:
    """Bring what was changed back to pristine. False if it was not: a pooled connection must then be discarded."""
    read = partial(driver.read, connection)
    deadline = time.monotonic() + RESET_TIMEOUT
    handler = handlers.reset_handler(session.logical)
    idle = driver.is_idle(connection)
    unanswered: SettingsEnd | None = None
    if not session.resetting and idle:
        driver.apply_reports(connection, will_resync=True)
        if session.shared or session.on_server.has_doubts:
            unanswered = yield from _ask_first(driver, connection, session, deadline)
    plan = _reset_plan(session, read, idle)
    if unanswered and unanswered.lost and not plan:
        return False
    if session.resetting or not (plan or handler or unanswered):
        keep_present(session, read)  # the app's handler may close its connection
        return True
    settings = tuple(change.setting for change in plan)
    event = Reset(**where(driver, connection, session), trigger=trigger, settings=settings, origins=session.origins())
    with observe(event) as observed:
        end = unanswered or (yield from _attempt(driver, connection, session, handler, deadline))
        observed.outcome = end
    return end.error is None and not end.lost


def reset_on_request(driver: Driver, connection: object, session: Session) -> Flow[bool]:
    """Reset on request of the app. The session is then as the app expects it, even if a switch could not carry all of
    it.

    A reset never starts a switch: a session that is lost cannot be reset.
    """
    done = not driver.is_lost(connection) and (yield from reset(driver, connection, session, "requested"))
    if done:
        session.accept()
    elif driver.is_lost(connection):
        logger.error(_LOST)
    return done


@contextmanager
def reset_by_pool(driver: Driver, connection: object, session: Session, ended: type[Exception]) -> Iterator[None]:
    """Observe a reset that a pool performs itself, if something was changed.

    `ended` is raised within if the session has ended, and with it everything that a reset would have reset.
    """
    plan = _plan_on_server(session)
    if not plan:
        yield
        return
    names = tuple(change.setting for change in plan)
    event = Reset(
        **where(driver, connection, session), trigger="pool_return", settings=names, origins=session.origins()
    )
    with observe(event) as observed:
        outcome = "reset"
        try:
            yield
        except ended:
            outcome = "skipped"
        changes = tuple(SettingChange(*change, outcome) for change in plan)
        observed.outcome = SettingsEnd(changes, "default", 0, lost=outcome == "skipped")
    if outcome == "skipped":
        raise ended


def to_reset(driver: Driver, connection: object, session: Session) -> Flow[tuple[str, ...]]:
    """Return the names of the settings that a reset would reset; query the server where only it can tell."""
    driver.apply_reports(connection, will_resync=True)
    if session.shared:
        return ()  # a pooler lends the server session to others: what is set there is not this connection's
    if session.on_server.has_doubts:
        with driver.unobserved(connection, time.monotonic() + RESET_TIMEOUT):
            yield from settle_doubts(driver, connection, session)
    plan = _reset_plan(session, partial(driver.read, connection), driver.is_idle(connection))
    return tuple(change.setting for change in plan)


def _ask_first(driver: Driver, connection: object, session: Session, deadline: float) -> Flow[SettingsEnd | None]:
    """Read from the server what is uncertain. Return an outcome if that fails: what to reset is then unknown."""
    try:
        if session.shared:
            yield from driver.detect_pooler(connection, connection, deadline)
        with driver.unobserved(connection, deadline):
            yield from settle_doubts(driver, connection, session)
    except Exception as error:  # noqa: BLE001 - the close goes on
        plan = _reset_plan(session, partial(driver.read, connection), idle=True)
        return _not_done(driver, connection, plan, error, deadline, "the server does not tell what was set")
    return None


def _attempt(
    driver: Driver, connection: object, session: Session, handler: handlers.Handler | None, deadline: float
) -> Flow[SettingsEnd]:
    plan = _reset_plan(session, partial(driver.read, connection), driver.is_idle(connection))
    try:
        end = yield from _reset(driver, connection, session, handler, deadline)
    except Exception as error:  # noqa: BLE001 - the close goes on, whatever the app's handler or the server did
        return _not_done(driver, connection, plan, error, deadline)
    return accounted(end, plan)


def _reset_plan(session: Session, read: Callable[[str], Any], idle: bool) -> tuple[Change, ...]:
    """Plan a reset. Server-side settings are skipped in a transaction and in a session that others share."""
    return (*session.reset_plan(read), *(_plan_on_server(session) if idle and not session.shared else ()))


def _plan_on_server(session: Session) -> tuple[Change, ...]:
    return (*session.on_server.reset_plan(), *(Change(name, "present", None) for name in session.to_clear()))


def accounted(end: SettingsEnd, plan: tuple[Change, ...]) -> SettingsEnd:
    """Return the outcome with every entry of the plan: one that was not carried out has failed."""
    if end.handled_by == "custom":
        return end
    carried_out = {change.name for change in end.changes}
    left = tuple(SettingChange(*change, "failed") for change in plan if change.setting not in carried_out)
    failed = [change.name for change in (*end.changes, *left) if change.outcome == "failed"]
    if not failed:
        return end
    logger.error("session reset failed at %s", ", ".join(failed))
    return end._replace(changes=(*end.changes, *left), error=end.error or _NOT_DONE)


def _reset(
    driver: Driver, connection: object, session: Session, handler: handlers.Handler | None, deadline: float
) -> Flow[SettingsEnd]:
    read = partial(driver.read, connection)
    planned = session.reset_plan(read)
    handled = yield from call_handler(driver, handler, session, connection, deadline)
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


def _put_back(driver: Driver, connection: object, session: Session, deadline: float) -> Flow[SettingsEnd]:
    """Reset what lives on the server, in one round trip; none where there is nothing."""
    entries = _plan_on_server(session) if driver.is_idle(connection) and not session.shared else ()
    if not entries:
        return SettingsEnd((), "default", 0)
    clears = session.to_clear()
    assign = partial(driver.assign, connection, session.reset_assignments(clears), clears, back=True)
    assigned: Assigned | None = yield assign
    if assigned is None and (yield from driver.detect_pooler(connection, connection, deadline)):
        assigned = yield assign
    if assigned is None:  # not our session: another client has it meanwhile
        return SettingsEnd(tuple(SettingChange(*entry, "skipped") for entry in entries), "default", 1)
    session.were_reset(assigned.done | assigned.own)
    changes = tuple(SettingChange(*entry, assigned.outcome(entry.setting, "reset")) for entry in entries)
    error = next((error_type(error) for error in assigned.errors.values()), None)
    return SettingsEnd(changes, "default", 1, error=error)


def _not_done(
    driver: Driver, connection: object, plan: tuple[Change, ...], error: Exception, deadline: float, why: str = ""
) -> SettingsEnd:
    """Return the outcome of a reset that failed with an error. If the session has ended, there is nothing left to
    reset.
    """
    refused, cause = (error.setting, error.cause) if isinstance(error, Refused) else ("", error)
    if _is_the_loss(driver, connection, cause, deadline):
        logger.debug("session not reset: the connection is lost: %s", type(cause).__name__)
        skipped = tuple(SettingChange(*change, "skipped") for change in plan)
        return SettingsEnd(skipped, "default", round_trips=0, lost=True)
    at = f" at {refused}" if refused else ""
    logger.error("session reset failed%s: %s%s", at, f"{why}: " if why else "", type(cause).__name__)
    failed = tuple(SettingChange(*change, "failed") for change in plan)
    return SettingsEnd(failed, "default", round_trips=0, error=error_type(cause))


def _is_the_loss(driver: Driver, connection: object, error: Exception, deadline: float) -> bool:
    """Return True if the server or the network ended the session; False where we did, because the time was up."""
    in_time = time.monotonic() < deadline - STATEMENT_MARGIN
    return in_time and isinstance(error, driver.raises) and driver.is_lost(connection, error)
