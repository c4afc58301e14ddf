"""Configure a new physical connection before the app can see it: first the baseline, then the values.

Knows no driver, no SQL and no OpenTelemetry.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from instrumented_wrapper import handlers
from instrumented_wrapper.drivers import Assigned, Driver, Flow, Refused, Replacement
from instrumented_wrapper.events import SettingChange, SettingsEnd, Transfer, error_type, observe
from instrumented_wrapper.failover import Attempts, ClosedMeanwhile, Loss
from instrumented_wrapper.lifecycle import call_handler, fetch, keep_present, read_anew, report_fetched, restore, where
from instrumented_wrapper.plans import Assignment
from instrumented_wrapper.session import Session


@dataclass(slots=True)
class Switch:
    """One switch under way.

    Attributes:
        not_restored: names of all state that it cannot carry.
        missing: those of them that the app has to set again before it may go on.
        resolved: what became of a transaction whose COMMIT was lost, as the server of the new connection proves it.
    """

    driver: Driver
    connection: Any
    session: Session
    loss: Loss
    not_restored: tuple[str, ...]
    started: float
    deadline: float
    attempts: int = 0
    tried: tuple[Attempts, ...] = ()
    in_handler: bool = False
    missing: tuple[str, ...] = ()
    resolved: str | None = None

    def seconds(self) -> float:
        """Return how long it has lasted."""
        return time.monotonic() - self.started


def gives_settings(session: Session) -> bool:
    """Return True if a new session is given any settings, so that its server has to answer."""
    carries = session.options.transfer_session_state_on_switch
    carried = session.on_server.transfer_assignments() if carries else ()
    return bool(carried or session.on_server.baseline_assignments())


def configure(this: Switch, new: Replacement) -> Flow[None]:
    """Bring the new connection from the baseline to the values, or let the app's handler do it."""
    driver, session = this.driver, this.session
    handler = handlers.transfer_handler(session.logical)
    carries = session.options.transfer_session_state_on_switch
    names = session.carried_settings() if carries else ()
    baseline = session.on_server.baseline_assignments()
    if not (carries and (names or handler or this.not_restored)) and not baseline:
        return
    with observe(Transfer(**where(driver, new.connection, session), settings=names)) as observed:
        try:
            steps = _carry(this, new, handler) if carries else _to_baseline(this, new)
            done, handled, trips = yield from steps
        except Exception as error:
            observed.outcome = _transfer_failed(this, error)
            raise
        by = "custom" if handled else "default"
        observed.outcome = SettingsEnd(done, by, trips, this.not_restored)


def _transfer_failed(this: Switch, error: Exception) -> SettingsEnd:
    """What could be set is not the app's either: the new connection is thrown away."""
    refused, cause = (error.setting, error.cause) if isinstance(error, Refused) else (None, error)
    plan = (*this.session.transfer_plan(), *this.session.on_server.transfer_plan())
    failed = tuple(
        SettingChange(c.setting, c.before, c.after, "failed" if refused in (None, c.setting) else "skipped")
        for c in plan
    )
    return SettingsEnd(failed, "default", 0, this.not_restored, error_type(cause))


_Carried = tuple[tuple[SettingChange, ...], bool, int]


def _to_baseline(this: Switch, new: Replacement) -> Flow[_Carried]:
    """Do what the app's own configuration of each new connection did, where that was SQL."""
    baseline = this.session.on_server.baseline_assignments()
    yield from assign(this, new, baseline)
    return (), False, 1


def _carry(this: Switch, new: Replacement, handler: handlers.Handler | None) -> Flow[_Carried]:
    driver, session = this.driver, this.session
    for setting in (change.setting for change in session.transfer_plan()):
        fetch(driver, new.connection, session, setting)
    if handler is None:
        return (yield from _to_values(this, new, session.on_server.baseline_assignments()))
    trips = 0
    if session.on_server.baseline_assignments():
        trips = (yield from _to_baseline(this, new))[2]
    this.in_handler = True
    handled = yield from call_handler(driver, handler, session, new.connection, this.deadline)
    if is_closed_by_app(driver, new.connection):
        raise ClosedMeanwhile
    this.in_handler, session.on_server.handled = False, True
    if not handled:
        done, _, more = yield from _to_values(this, new, ())
        return done, False, trips + more
    more = yield from read_anew(driver, new.connection, session)
    keep_present(session, partial(driver.read, new.connection))
    _handled(this)
    return (), True, trips + more


def is_closed_by_app(driver: Driver, connection: object) -> bool:
    """Return True if the app itself, or its handler, has closed a connection."""
    session = driver.session_of(connection)
    return session is not None and session.closed_by_app


def _handled(this: Switch) -> None:
    """The app's handler says that nothing of what decides whose data a statement sees is missing."""
    handled = this.session.refusal.security_state(this.missing)
    this.not_restored = tuple(name for name in this.not_restored if name not in handled)
    this.missing = ()


def _to_values(this: Switch, new: Replacement, baseline: tuple[Assignment, ...]) -> Flow[_Carried]:
    """Apply the values: those of the driver without a round trip, those on the server in one, baseline included."""
    driver, session = this.driver, this.session
    done = tuple(restore(driver, new.connection, change, "restored") for change in session.transfer_plan())
    keep_present(session, partial(driver.read, new.connection))
    plan = session.on_server.transfer_plan()
    values = session.on_server.transfer_assignments()
    set_anyway = {assignment.name for assignment in values}
    wanted = (*(assignment for assignment in baseline if assignment.name not in set_anyway), *values)
    assigned = yield from assign(this, new, wanted)
    session.on_server.forget(session.on_server.not_carried())
    for change in plan:
        if change.setting not in assigned.done:
            continue
        pristine = change.before if session.on_server.is_configured(change.setting) else assigned.before[change.setting]
        report_fetched(driver, new.connection, session, change.setting, pristine)
    carried = tuple(SettingChange(*c, "restored" if c.setting in assigned.done else "skipped") for c in plan)
    return (*done, *carried), False, 1 if wanted else 0


def assign(this: Switch, new: Replacement, wanted: tuple[Assignment, ...]) -> Flow[Assigned]:
    """Set settings on the server. What was not set is named, but for what no session can be given."""
    nothing = Assigned({}, frozenset())
    if not wanted:
        return nothing
    assigned: Assigned | None = None
    assign = partial(this.driver.assign, new.connection, wanted)
    if not this.driver.is_shared(new.connection):
        assigned = yield assign
        if assigned is None and (yield from this.driver.detect_pooler(new.connection, this.connection, this.deadline)):
            assigned = yield assign
    missing = [a.name for a in wanted if assigned is None or a.name not in assigned.done | assigned.own]
    this.not_restored = tuple(dict.fromkeys((*this.not_restored, *missing)))
    this.missing = tuple(dict.fromkeys((*this.missing, *missing)))
    if assigned is not None:  # they are not there: a later reset has nothing to put back
        this.session.on_server.forget({*missing, *assigned.own})
    return assigned or nothing
