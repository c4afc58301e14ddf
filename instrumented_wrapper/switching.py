"""The order of steps of a switch: a loss that is repaired, and a switch that the app asked for.

Knows no driver, no SQL and no OpenTelemetry. Laws kept here: a new connection is configured before anybody can see
it; a lost transaction is refused until the app rolls back; what may have run is never run again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from instrumented_wrapper import handlers
from instrumented_wrapper.drivers import Driver, Flow, Refused, Replacement
from instrumented_wrapper.errors import (
    Address,
    FailoverError,
    FailoverFailedError,
    FailoverSuccessError,
    TransactionResolutionUnknownError,
    driver_error,
    remembered,
)
from instrumented_wrapper.events import (
    Failover,
    FailoverEnd,
    SettingChange,
    SettingsEnd,
    Transfer,
    error_type,
    observe,
)
from instrumented_wrapper.failover import ClosedMeanwhile, NoServer
from instrumented_wrapper.lifecycle import (
    ask,
    fetch,
    keep_present,
    read_anew,
    reset,
    restore,
    tell_fetched,
    where,
)
from instrumented_wrapper.server_settings import Assignment, Change
from instrumented_wrapper.session import Loss, Session

__all__ = ["observe_loss", "planned_switch", "replace_lost"]


@dataclass(slots=True)
class _Switch:
    """One switch under way."""

    driver: Driver
    connection: Any
    session: Session
    loss: Loss
    not_restored: tuple[str, ...]
    started: float
    deadline: float
    attempts: int = 0
    asks_handler: bool = False

    def seconds(self) -> float:
        return time.monotonic() - self.started


def replace_lost(
    driver: Driver, connection: Any, session: Session, loss: Loss, seconds: float | None = None
) -> Flow[FailoverError | None]:
    """Replace a lost physical connection; return what the app must be told, None for nothing.

    Raises:
        FailoverFailedError: no server took over in time or the new one could not be configured; closed for good.
    """
    this = _begin(driver, connection, session, loss, session.take_left(loss.transaction), seconds)
    with observe(_failover(this)) as observed:
        try:
            before = driver.peer(connection)
            new = yield from _switch(this)
        except BaseException as error:
            driver.abandon(connection)
            observed.outcome = _failed_end(this, error)
            if isinstance(error, Exception):
                failure = _failure(this, error)
                session.failed = remembered(failure)
                raise failure from (loss.cause or error)
            raise
        driver.discard(new)
        after = driver.peer(connection)
        came_back = loss.trigger == "connection_lost" and (before.address, before.port) == (after.address, after.port)
        trigger = "session_ended" if came_back else loss.trigger
        observed.outcome = FailoverEnd("success", trigger, after, new.attempts)
    return _news(this, new.address)


def planned_switch(driver: Driver, connection: Any, session: Session, hosts: tuple[Address, ...]) -> Flow[None]:
    """Move a healthy connection to another server session; the old one is reset and closed.

    Raises:
        FailoverFailedError: nothing took over; the app's connection is as it was.
        FailoverSuccessError: it moved, but not all of its state could be carried over.
    """
    session.settle(for_good=True)
    loss = Loss("requested", silent=True, hosts=hosts)
    this = _begin(driver, connection, session, loss, session.not_carried(), None)
    with observe(_failover(this)) as observed:
        left_behind = session.twin()
        try:
            old = yield from _switch(this)
        except BaseException as error:
            observed.outcome = _failed_end(this, error)
            if isinstance(error, Exception):
                raise _failure(this, error) from error
            raise
        session.forget_left()
        observed.outcome = FailoverEnd("success", "requested", driver.peer(connection), old.attempts)
        news = _news(this, old.address)
        session.owe(news)  # should the app interrupt what follows
        yield from _retire(this, old, left_behind)
    session.owe(None)
    if news is not None:
        raise news


def observe_loss(driver: Driver, connection: Any, session: Session, loss: Loss) -> None:
    """Tell of a loss that is not repaired here; the driver's own error passes."""
    with observe(_failover(_begin(driver, connection, session, loss, (), 0.0))) as observed:
        observed.outcome = FailoverEnd("failed", loss.trigger, None, 0, error_type(loss.cause) if loss.cause else None)


def _begin(
    driver: Driver, connection: Any, session: Session, loss: Loss, left: tuple[str, ...], seconds: float | None
) -> _Switch:
    now = time.monotonic()
    limit = session.options.failover_timeout
    deadline = now + (limit if seconds is None else min(limit, seconds))
    return _Switch(driver, connection, session, loss, left, now, deadline)


def _failover(this: _Switch) -> Failover:
    loss = this.loss
    known = where(this.driver, this.connection, this.session)
    return Failover(**known, trigger=loss.trigger, transaction=loss.transaction, may_have_run=loss.may_have_run)


def _switch(this: _Switch) -> Flow[Replacement]:
    """Open, configure, graft. What is returned has the old physical connection."""
    driver, session = this.driver, this.session
    new: Replacement = yield partial(driver.replacement, this.connection, this.loss, this.deadline)
    this.attempts = new.attempts
    try:
        yield from _configure(this, new)
        if this.loss.refuse:
            yield partial(driver.abort_transaction, new)
        driver.graft(this.connection, new)
    except BaseException:
        driver.discard(new)
        raise
    if not session.options.transfer_session_state_on_switch:
        session.forget()
    session.refresh_changed()
    return new


def _configure(this: _Switch, new: Replacement) -> Flow[None]:
    """Bring the new connection from the baseline to the values, or let the app's handler do it."""
    driver, session = this.driver, this.session
    handler = handlers.transfer_handler()
    carries = session.options.transfer_session_state_on_switch
    names = session.changed_settings() if carries else ()
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


def _transfer_failed(this: _Switch, error: Exception) -> SettingsEnd:
    """What could be set is not the app's either: the new connection is thrown away."""
    refused, cause = (error.setting, error.cause) if isinstance(error, Refused) else (None, error)
    plan = (*this.session.transfer_plan(), *this.session.on_server.transfer_plan())
    failed = tuple(
        SettingChange(c.setting, c.before, c.after, "failed" if refused in (None, c.setting) else "skipped")
        for c in plan
    )
    return SettingsEnd(failed, "default", 0, this.not_restored, error_type(cause))


_Carried = tuple[tuple[SettingChange, ...], bool, int]


def _to_baseline(this: _Switch, new: Replacement) -> Flow[_Carried]:
    """Do what the app's own configuration of each new connection did, where that was SQL."""
    baseline = this.session.on_server.baseline_assignments()
    yield from _assign(this, new, baseline)
    return (), False, 1


def _carry(this: _Switch, new: Replacement, handler: handlers.Handler | None) -> Flow[_Carried]:
    driver, session = this.driver, this.session
    for setting in (change.setting for change in session.transfer_plan()):
        fetch(driver, new.connection, session, setting)
    if handler is None:
        return (yield from _to_values(this, new, session.on_server.baseline_assignments()))
    trips = 0
    if session.on_server.baseline_assignments():
        trips = (yield from _to_baseline(this, new))[2]
    this.asks_handler = True
    handled = yield from ask(driver, handler, session, new.connection, this.deadline)
    this.asks_handler = False
    if not handled:
        done, _, more = yield from _to_values(this, new, ())
        return done, False, trips + more
    more = yield from read_anew(driver, new.connection, session)
    keep_present(session, partial(driver.read, new.connection))
    return (), True, trips + more


def _to_values(this: _Switch, new: Replacement, baseline: tuple[Assignment, ...]) -> Flow[_Carried]:
    """Apply the values: those of the driver without a round trip, those on the server in one, baseline included."""
    driver, session = this.driver, this.session
    done = tuple(restore(driver, new.connection, change, "restored") for change in session.transfer_plan())
    keep_present(session, partial(driver.read, new.connection))
    plan = session.on_server.transfer_plan()
    values = session.on_server.transfer_assignments()
    set_anyway = {assignment.name for assignment in values}
    wanted = (*(assignment for assignment in baseline if assignment.name not in set_anyway), *values)
    before = yield from _assign(this, new, wanted)
    if before is None:
        return (*done, *_changes(plan, "skipped")), False, 1
    for change in plan:
        pristine = change.before if session.on_server.is_configured(change.setting) else before[change.setting]
        tell_fetched(driver, new.connection, session, change.setting, pristine)
    return (*done, *_changes(plan, "restored")), False, 1 if wanted else 0


def _changes(plan: tuple[Change, ...], outcome: str) -> tuple[SettingChange, ...]:
    return tuple(SettingChange(*change, outcome) for change in plan)


def _assign(this: _Switch, new: Replacement, wanted: tuple[Assignment, ...]) -> Flow[dict[str, str | None] | None]:
    """Set settings on the server. None: another client may get that session, and they are not carried over."""
    if not wanted:
        return {}
    before: dict[str, str | None] | None = None
    if not this.driver.is_shared(new.connection):
        before = yield partial(this.driver.assign, new.connection, wanted, ())
    if before is None:
        this.not_restored = tuple(dict.fromkeys((*this.not_restored, *(a.name for a in wanted))))
    return before


def _retire(this: _Switch, old: Replacement, left_behind: Session) -> Flow[None]:
    """Reset the old physical connection and close it."""
    try:
        if left_behind.options.reset_session_state_on_close:
            yield from reset(this.driver, old.connection, left_behind, "switch")
    finally:
        this.driver.discard(old)


def _failed_end(this: _Switch, error: BaseException) -> FailoverEnd:
    attempts = error.attempts if isinstance(error, NoServer) else this.attempts
    cause = error.cause if isinstance(error, Refused) else error
    code = error_type((this.loss.cause or error) if isinstance(error, NoServer) else cause)
    return FailoverEnd("failed", this.loss.trigger, None, attempts, code)


def _failure(this: _Switch, error: Exception) -> FailoverError:
    what, then = ("failover", _OF_TRANSACTION[this.loss.transaction])
    if this.loss.trigger == "requested":
        what, then = ("switch", "the session stays where it was")
    message = f"{what} failed after {this.seconds():.2f} s: {_why(this, error)}; {then}"
    return _error(this, FailoverFailedError, message, None)


def _why(this: _Switch, error: Exception) -> str:
    if isinstance(error, NoServer):
        said = "; ".join(f"{_named(host)} {answer}" for host, answer in error.answers.items())
        return f"no server took over ({said or 'none answered'})"
    if isinstance(error, ClosedMeanwhile):
        return "the app called close() meanwhile"
    if this.asks_handler:
        return f"the transfer handler raised {type(error).__name__}"
    if isinstance(error, Refused):
        return f"the new session refused the setting {error.setting} ({error_type(error.cause)})"
    return f"the new session could not be configured ({type(error).__name__})"


def _named(address: Address) -> str:
    host, port = address
    return host if port is None else f"{host}:{port}"


_OF_TRANSACTION = {
    "none": "no transaction was open",
    "rolled_back": "the transaction was rolled back",
    "unknown": "whether the transaction was committed is not known",
}


def _news(this: _Switch, address: Address) -> FailoverError | None:
    """Make what the app must be told; what it need not know now waits in the session."""
    loss, session = this.loss, this.session
    if loss.silent and not this.not_restored:
        return None
    kind = TransactionResolutionUnknownError if loss.transaction == "unknown" else FailoverSuccessError
    error = _error(this, kind, _sentence(this, address), address)
    if loss.refuse:
        session.lost = remembered(error)
    if loss.later:
        session.owe(None if loss.refuse else _error(_owed(this), kind, _sentence(_owed(this), address), address))
        return None
    return error


def _owed(this: _Switch) -> _Switch:
    """What is left to tell of a switch in a rollback: that some state was not carried over."""
    return replace(this, loss=replace(this.loss, transaction="none", may_have_run=False, cause=None))


def _sentence(this: _Switch, address: Address) -> str:
    parts = [f"the session was moved to {_named(address)} after {this.seconds():.2f} s"]
    parts += [_OF_TRANSACTION[this.loss.transaction]]
    if this.loss.transaction == "none":
        parts += ["the statement was sent and may have run" if this.loss.may_have_run else "nothing was sent"]
    parts += ["call rollback() before going on"] if this.loss.refuse else []
    parts += [f"not carried over: {', '.join(this.not_restored)}"] if this.not_restored else []
    return "; ".join(parts)


def _error(this: _Switch, kind: type[FailoverError], message: str, address: Address | None) -> FailoverError:
    facts = {
        "transaction": this.loss.transaction,
        "may_have_run": this.loss.may_have_run,
        "server": address,
        "blocked_seconds": this.seconds(),
        "not_restored": this.not_restored,
    }
    return driver_error(kind, this.driver.operational_error, this.loss.cause, message, facts)
