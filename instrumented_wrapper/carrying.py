"""The order of steps where a package over a driver replaces its connection: the session is carried to the next one.

Both are whole connections of the driver, each with a session and pristine values of its own; the package finds the
server, opens the connection and decides what becomes of the old one. Knows no driver, no SQL and no OpenTelemetry.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from instrumented_wrapper import handlers
from instrumented_wrapper.drivers import Assigned, Driver, Flow, Refused, Replacement
from instrumented_wrapper.errors import FailoverFailedError, driver_error
from instrumented_wrapper.events import (
    Failover,
    FailoverEnd,
    SettingChange,
    SettingsEnd,
    Transfer,
    error_type,
    observe,
)
from instrumented_wrapper.failover import ClosedMeanwhile, Loss
from instrumented_wrapper.lifecycle import (
    call_handler,
    keep_present,
    note_change,
    read_anew,
    report_fetched,
    settle_doubts,
    where,
)
from instrumented_wrapper.plans import Assignment
from instrumented_wrapper.session import Session
from instrumented_wrapper.statement import SET, Step
from instrumented_wrapper.transfer import Switch, assign, is_closed_by_app

_TRIGGER: Final = "aws"
logger = logging.getLogger("instrumented_wrapper")


@dataclass(frozen=True, slots=True)
class Lost:
    """A loss that the package repairs.

    Attributes:
        loss: what it means.
        not_carried: names of state that was lost with the session.
        noticed: when (monotonic seconds).
    """

    loss: Loss
    not_carried: tuple[str, ...]
    noticed: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class _Carry:
    """One session on its way.

    Attributes:
        source: the session as it was on the old connection.
        new: the connection that takes over.
        target: its session.
        switch: what the steps of a transfer keep.
        returning: settings of the new connection that the old one has not changed: they go back to pristine.
    """

    driver: Driver
    source: Session
    new: Any
    target: Session
    switch: Switch
    returning: tuple[str, ...] = ()
    trips: int = 0
    done: list[SettingChange] = field(default_factory=list)


def lost_session(session: Session, loss: Loss) -> Lost:
    """Return what is known of a loss, and have the session forget what went with it."""
    return Lost(loss, session.forget_residual(loss.transaction))


def ask_before(driver: Driver, connection: object, session: Session) -> Flow[None]:
    """Ask what only the server can tell, before the session leaves a connection that is healthy."""
    if driver.is_closed(connection) or not driver.is_idle(connection):
        return
    driver.apply_reports(connection, will_resync=True)
    if session.on_server.has_doubts:
        try:
            yield from settle_doubts(driver, connection, session)
        except driver.raises as error:  # what is in doubt is reported as not carried over
            logger.debug("the session is carried over with doubts: %s", type(error).__name__)


def carry_over(
    driver: Driver, old: object, source: Session, new: object, target: Session, lost: Lost | None, attempts: int
) -> Flow[None]:
    """Bring the session of `new` to the values of `source`, before the app can use it.

    Args:
        driver: of both connections.
        old: the connection that is replaced; it may be lost or closed.
        source: its session.
        new: the connection that takes over, outside a transaction.
        target: its session.
        lost: what is known of the loss; None for a connection that is healthy.
        attempts: connections that were started for it, as far as is known.

    Raises:
        FailoverFailedError: it could not be configured; it must not become the app's.
    """
    loss = Loss(_TRIGGER) if lost is None else replace(lost.loss, trigger=_TRIGGER)
    left = source.not_carried() if lost is None else lost.not_carried
    now = time.monotonic()
    noticed = now if lost is None else lost.noticed
    switch = Switch(driver, old, target, loss, left, noticed, now + target.options.failover_timeout)
    this = _Carry(driver, source, new, target, switch)
    with observe(_event(driver, old, source, loss, now - noticed)) as observed:
        try:
            if driver.is_in_transaction(new):  # of the package's own questions
                yield partial(driver.roll_back, new)
            yield from _configure(this)
        except BaseException as error:
            cause = error.cause if isinstance(error, Refused) else error
            observed.outcome = FailoverEnd("failed", _TRIGGER, None, attempts, error_type(cause))
            if isinstance(error, Exception):
                raise _failure(this, error) from cause
            raise
        observed.outcome = FailoverEnd("success", _TRIGGER, driver.peer(new), attempts)
    if switch.not_restored:
        _warn(this)


def observe_unrepaired(driver: Driver, connection: object, session: Session, lost: Lost) -> None:
    """Report a loss after which the package has not replaced the connection."""
    loss, waited = lost.loss, time.monotonic() - lost.noticed
    with observe(_event(driver, connection, session, loss, waited)) as observed:
        code = error_type(loss.cause) if loss.cause else None
        observed.outcome = FailoverEnd("failed", _TRIGGER, None, 0, code)


def _event(driver: Driver, connection: object, session: Session, loss: Loss, waited: float) -> Failover:
    known = where(driver, connection, session)
    return Failover(
        **known,
        trigger=_TRIGGER,
        transaction=loss.transaction,
        may_have_run=loss.may_have_run,
        waited=waited,
    )


def _warn(this: _Carry) -> None:
    peer = this.driver.peer(this.new)
    server = peer.address if peer.port is None else f"{peer.address}:{peer.port}"
    logger.warning("the session was moved to %s without %s", server, ", ".join(this.switch.not_restored))


def _failure(this: _Carry, error: Exception) -> Exception:
    loss, peer = this.switch.loss, this.driver.peer(this.new)
    message = f"the session could not be carried to {peer.address}:{peer.port}: {_why(this, error)}"
    facts: dict[str, Any] = {
        "transaction": loss.transaction,
        "may_have_run": loss.may_have_run,
        "blocked_seconds": this.switch.seconds(),
        "not_restored": this.switch.not_restored,
    }
    if (number := this.driver.error_number) is not None:
        facts["number"] = number
    return driver_error(FailoverFailedError, this.driver.operational_error, loss.cause, message, facts)


def _why(this: _Carry, error: Exception) -> str:
    if isinstance(error, ClosedMeanwhile):
        return "the transfer handler called close()"
    if this.switch.in_handler:
        return f"the transfer handler raised {type(error).__name__}"
    if isinstance(error, Refused):
        return f"the new session refused the setting {error.setting} ({error_type(error.cause)})"
    return f"it could not be configured ({type(error).__name__})"


# --- the new connection ---------------------------------------------------------------------------------------------


def _configure(this: _Carry) -> Flow[None]:
    driver, source, target = this.driver, this.source, this.target
    _take_baseline(this)
    handler = handlers.transfer_handler(target.logical)
    carries = target.options.transfer_session_state_on_switch
    if not carries:
        this.switch.not_restored = ()
        yield from _assign(this, _baseline(this))
        return
    carried = source.carried_settings()
    this.returning = tuple(name for name in target.changed_settings() if name not in carried)
    names = (*carried, *this.returning)
    if not (names or handler or this.switch.not_restored or _baseline(this)):
        return
    with observe(Transfer(**where(driver, this.new, target), settings=names)) as observed:
        try:
            handled = yield from _carry(this, handler)
        except Exception as error:
            refused, cause = (error.setting, error.cause) if isinstance(error, Refused) else (None, error)
            plan = (*this.source.transfer_plan(), *this.source.on_server.transfer_plan())
            ends = ("failed" if refused in (None, change.setting) else "skipped" for change in plan)
            failed = tuple(SettingChange(*change, end) for change, end in zip(plan, ends, strict=True))
            end = SettingsEnd(failed, "default", this.trips, this.switch.not_restored, error_type(cause))
            observed.outcome = end
            raise
        by = "custom" if handled else "default"
        observed.outcome = SettingsEnd(tuple(this.done), by, this.trips, this.switch.not_restored)


def _take_baseline(this: _Carry) -> None:
    """Have the driver's settings of the new connection begin where those of the old one began."""
    driver, source, target = this.driver, this.source, this.target
    for setting in driver.settings:
        before = source.pristine(setting, driver.read(this.switch.connection, setting))
        present = driver.read(this.new, setting)
        if target.pristine(setting, present) != before:
            driver.write(this.new, setting, before)
            target.configured(setting, before)


def _baseline(this: _Carry) -> tuple[Assignment, ...]:
    """Return what SQL has set on the old connection before the app had it, and the new one lacks."""
    known = set(this.target.on_server.baseline_assignments())
    return tuple(a for a in this.source.on_server.baseline_assignments() if a not in known)


def _carry(this: _Carry, handler: handlers.Handler | None) -> Flow[bool]:
    driver, source, target = this.driver, this.source, this.target
    for setting in (change.setting for change in source.transfer_plan()):
        note_change(driver, this.new, target, setting)
    if handler is not None and (yield from _handled(this, handler)):
        return True
    _apply_to_driver(this)
    yield from _apply_to_server(this)
    target.refresh_changed()
    return False


def _handled(this: _Carry, handler: handlers.Handler) -> Flow[bool]:
    """Let the app's handler do it; the pristine values are read before, the values anew after it."""
    driver, source, target = this.driver, this.source, this.target
    unknown = [n for n in source.on_server.names if not target.on_server.has_pristine(n)]
    if unknown and not driver.is_shared(this.new):
        pristine = yield partial(driver.query_settings, this.new, unknown)
        this.trips += 1
        for name, value in pristine.items():
            _fetched(this, name, value)
    this.switch.in_handler = True
    handled = yield from call_handler(driver, handler, source, this.new, this.switch.deadline)
    if is_closed_by_app(driver, this.new):
        raise ClosedMeanwhile
    this.switch.in_handler = False
    if not handled:
        return False
    this.trips += yield from read_anew(driver, this.new, target)
    keep_present(target, partial(driver.read, this.new))
    gone = this.source.refusal.security_state(this.switch.not_restored)
    this.switch.not_restored = tuple(name for name in this.switch.not_restored if name not in gone)
    return True


def _fetched(this: _Carry, name: str, value: str | None) -> None:
    this.target.on_server.fetched(name, value)
    report_fetched(this.driver, this.new, this.target, name, value)


def _apply_to_driver(this: _Carry) -> None:
    """Write the driver's settings, without a round trip."""
    driver, source, target = this.driver, this.source, this.target
    own = {change.setting: change.before for change in target.transfer_plan()}
    wanted = {change.setting: change.after for change in source.transfer_plan()}
    for setting, value in {**own, **wanted}.items():
        before = driver.read(this.new, setting)
        driver.write(this.new, setting, value)
        target.changed_to(setting, value, _origin(source, setting))
        this.done.append(SettingChange(setting, before, value, "restored"))


def _apply_to_server(this: _Carry) -> Flow[None]:
    """Give the server what it lacks, the baseline included, in one round trip; none where it lacks nothing."""
    source, target = this.source.on_server, this.target.on_server
    plan = {change.setting: change for change in source.transfer_plan()}
    present = {assignment.name: assignment for assignment in target.transfer_assignments()}
    values = [a for a in source.transfer_assignments() if present.get(a.name) != a]
    back = [a for a in target.reset_assignments() if a.name not in plan]
    named = {a.name for a in (*values, *back)}
    wanted = (*(a for a in _baseline(this) if a.name not in named), *back, *values)
    assigned = yield from _assign(this, wanted)
    target.forget(target.not_carried())
    for name, text in ((a.name, a.text) for a in values if a.name in assigned.done):
        if not target.has_pristine(name):
            _fetched(this, name, assigned.before[name])
        target.set_now((Step(SET, name, text),), _origin(this.source, name), configured=False)
    target.were_reset({a.name for a in back} & assigned.done)
    for a in _baseline(this):
        if a.name in assigned.done:
            target.set_now((Step(SET, a.name, a.text),), None, configured=True)
    there = assigned.done | (plan.keys() - named)
    outcomes = ((change, "restored" if name in there else "skipped") for name, change in plan.items())
    this.done += [SettingChange(*change, outcome) for change, outcome in outcomes]
    this.done += [SettingChange(a.name, None, a.text, "restored") for a in back if a.name in assigned.done]


def _assign(this: _Carry, wanted: tuple[Assignment, ...]) -> Flow[Assigned]:
    if not wanted:
        return Assigned({}, frozenset())
    peer = this.driver.peer(this.new)
    this.trips += 1
    return (yield from assign(this.switch, Replacement(this.new, (peer.address, peer.port), 0), wanted))


def _origin(session: Session, setting: str) -> object:
    return next(iter(session.origins((setting,))), None)
