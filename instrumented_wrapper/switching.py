"""The order of steps of a switch: the repair of a loss, and a planned switch.

Knows no driver, no SQL and no OpenTelemetry. Laws of this module: a new connection is configured before the app can see
it; a lost transaction is refused until the app rolls back; what may have run is never run again.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

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
from instrumented_wrapper.events import Failover, FailoverEnd, error_type, observe
from instrumented_wrapper.failover import ClosedMeanwhile, Loss, NoServer, Tried, backoff_delay
from instrumented_wrapper.lifecycle import settle_doubts, where
from instrumented_wrapper.resets import reset
from instrumented_wrapper.session import Session
from instrumented_wrapper.transfer import Switch, configure, gives_settings, is_closed_by_app


def replace_lost(
    driver: Driver, connection: object, session: Session, loss: Loss, seconds: float | None = None
) -> Flow[FailoverError | None]:
    """Replace a lost physical connection; return the error that the app must get, or None.

    Raises:
        FailoverFailedError: no server took over in time or the new one could not be configured; closed for good.
    """
    if loss.transaction == "none":
        driver.apply_reports(connection)
    left = session.forget_residual(loss.transaction) if loss.resolve is None else ()
    this = _begin(driver, connection, session, loss, left, seconds)
    with observe(_failover(this)) as observed:
        try:
            before = driver.peer(connection)
            new = yield from _switch(this)
        except BaseException as error:
            driver.abandon(connection)
            _unresolved(this, loss)
            observed.outcome = _failed_end(this, error)
            if isinstance(error, Exception):
                failure = _failure(this, error)
                session.failed = remembered(failure)
                try:
                    raise failure from (loss.cause or error)
                finally:
                    del failure  # or this frame would keep it, and it this frame
            raise
        driver.discard(new)
        after = driver.peer(connection)
        came_back = loss.trigger == "connection_lost" and (before.address, before.port) == (after.address, after.port)
        trigger = "session_ended" if came_back else loss.trigger
        known = (this.loss.transaction, this.loss.may_have_run)
        observed.outcome = FailoverEnd("success", trigger, after, new.attempts, None, this.tried, new.led_by, *known)
    return _news(this, new.address)


def before_switch(driver: Driver, connection: object, session: Session) -> Flow[None]:
    """Read uncertain state from the server before a planned switch takes the connection's lock."""
    if not driver.is_idle(connection):
        return
    session.settle(for_good=True)
    driver.apply_reports(connection, will_resync=True)
    if session.shared:
        yield from driver.detect_pooler(connection, connection, time.monotonic() + session.options.failover_timeout)
    if session.on_server.has_doubts:
        yield from settle_doubts(driver, connection, session)


def planned_switch(driver: Driver, connection: object, session: Session, hosts: tuple[Address, ...]) -> Flow[None]:
    """Move a healthy connection to another server session; the old one is reset and closed.

    Raises:
        FailoverFailedError: nothing took over; the app's connection is as it was.
        FailoverSuccessError: it moved, but not all of its state could be carried over.
    """
    session.settle(for_good=True)
    driver.apply_reports(connection)
    loss = Loss("requested", silent=True, hosts=hosts)
    session.refusal.lost(session.residual.kinds, session.on_server.doubts, {})
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
        session.residual.forget()
        after = driver.peer(connection)
        observed.outcome = FailoverEnd("success", "requested", after, old.attempts, tried=this.tried)
        news = _news(this, old.address)
        session.set_pending_error(news)  # should the app interrupt what follows
        yield from _retire(this, old, left_behind)
    session.set_pending_error(None)
    if news is not None:
        raise news


def observe_loss(driver: Driver, connection: object, session: Session, loss: Loss) -> None:
    """Record a loss that is not repaired; the driver's own error passes to the app."""
    if session.logical is not None:
        session.logical.lose(driver, connection, session, loss)
        return
    with observe(_failover(_begin(driver, connection, session, loss, (), 0.0))) as observed:
        observed.outcome = FailoverEnd("failed", loss.trigger, None, 0, error_type(loss.cause) if loss.cause else None)


def _begin(
    driver: Driver, connection: object, session: Session, loss: Loss, left: tuple[str, ...], seconds: float | None
) -> Switch:
    now = time.monotonic()
    started = now if loss.since is None else loss.since
    deadline = started + session.options.failover_timeout
    if seconds is not None:
        deadline = min(deadline, now + seconds)
    missing = session.refusal.found if session.options.transfer_session_state_on_switch else ()
    return Switch(driver, connection, session, loss, left, started, deadline, missing=missing)


def _failover(this: Switch) -> Failover:
    loss = this.loss
    known = where(this.driver, this.connection, this.session)
    return Failover(**known, trigger=loss.trigger, transaction=loss.transaction, may_have_run=loss.may_have_run)


def _switch(this: Switch) -> Flow[Replacement]:
    """Open, configure, graft. What is returned has the old physical connection."""
    session, new = this.session, None
    if this.loss.since is not None:
        yield from _wait_for_next(this)
    while new is None:
        new = yield from _try(this)
    if this.resolved is not None:
        this.loss = this.loss.resolved(this.resolved)
    if not session.options.transfer_session_state_on_switch:
        session.forget()
    session.refresh_changed()
    return new


def _wait_for_next(this: Switch) -> Flow[None]:
    """Wait before another search, because the server that the last one found refused the same call.

    Raises:
        NoServer: the time for all searches of the call is over.
    """
    seconds = backoff_delay(this.seconds())
    if time.monotonic() + seconds >= this.deadline:
        here = this.driver.peer(this.connection)
        raise NoServer(0, answers={(here.address or "the last server", here.port): "refused the statement again"})
    yield from this.driver.pause(this.connection, seconds)


def _try(this: Switch) -> Flow[Replacement | None]:
    """Run with the first server that is found; return None, after a pause, if that server is lost meanwhile."""
    driver = this.driver
    loss = replace(this.loss, probe=this.attempts > 0 or not gives_settings(this.session))
    new: Replacement = yield from driver.replacement(this.connection, loss, this.deadline)
    this.attempts += new.attempts
    this.tried = tuple(Tried((*this.tried, *new.tried)))
    new.attempts = this.attempts
    try:
        yield from _resolve(this, new)
        yield from configure(this, new)
        if this.loss.begins and this.resolved == "committed":
            yield partial(driver.query, new.connection, this.loss.begins)
        if this.loss.refuse:
            yield partial(driver.abort_transaction, new)
        driver.graft(this.connection, new)
    except BaseException as error:
        closed = is_closed_by_app(driver, new.connection)  # by the transfer handler, which would do so again
        lost = isinstance(error, Exception) and not closed and driver.is_lost(new.connection)
        driver.discard(new)
        seconds = backoff_delay(this.seconds())
        if not lost or time.monotonic() + seconds >= this.deadline:
            raise
    else:
        return new
    yield from driver.pause(this.connection, seconds)
    return None


def _resolve(this: Switch, new: Replacement) -> Flow[None]:
    """Find out what became of a COMMIT whose answer was lost; the values to carry over are those after it.

    Where the server that answered is lost as well, the next one has to agree.
    """
    if (resolve := this.loss.resolve) is None:
        return
    transaction = yield from resolve(new.connection, this.deadline)
    if this.resolved is None:
        this.resolved = transaction
        _leave_transaction(this, transaction)
    elif this.resolved != transaction:
        this.resolved = "unknown"


def _leave_transaction(this: Switch, transaction: str) -> None:
    session = this.session
    if transaction == "committed":
        session.settle(for_good=True, idle=not this.loss.begins)
        transaction = "none"
    this.not_restored = session.forget_residual(transaction)
    this.missing = session.refusal.found if session.options.transfer_session_state_on_switch else ()


def _unresolved(this: Switch, loss: Loss) -> None:
    """The switch has failed: what the app gets says what is certain without it."""
    if loss.resolve is not None and this.resolved is None:
        _leave_transaction(this, loss.transaction)


def _retire(this: Switch, old: Replacement, left_behind: Session) -> Flow[None]:
    """Reset the old physical connection and close it."""
    try:
        if left_behind.options.reset_session_state_on_close:
            yield from reset(this.driver, old.connection, left_behind, "switch")
    finally:
        this.driver.discard(old)


def _failed_end(this: Switch, error: BaseException) -> FailoverEnd:
    attempts = error.attempts if isinstance(error, NoServer) else this.attempts
    cause = error.cause if isinstance(error, Refused) else error
    code = error_type((this.loss.cause or error) if isinstance(error, NoServer) else cause)
    tried = tuple(Tried((*this.tried, *(error.tried if isinstance(error, NoServer) else ()))))
    return FailoverEnd("failed", this.loss.trigger, None, attempts, code, tried)


def _failure(this: Switch, error: Exception) -> FailoverError:
    what, then = "failover", f"{_OF_TRANSACTION[this.loss.transaction]}; the connection is closed: make a new one"
    if this.loss.trigger == "requested":
        what, then = ("switch", "the session stays where it was")
    message = f"{what} failed after {this.seconds():.2f} s: {_why(this, error)}; {then}"
    return _error(this, FailoverFailedError, message, None)


def _why(this: Switch, error: Exception) -> str:
    if isinstance(error, NoServer):
        said = "; ".join(f"{_named(host)} {answer}" for host, answer in error.answers.items())
        return f"no server took over ({said or 'none answered'})"
    if isinstance(error, ClosedMeanwhile):
        return "the transfer handler called close()" if this.in_handler else "the app called close() meanwhile"
    if this.in_handler:
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
    "committed": "the transaction was committed",
}


def _news(this: Switch, address: Address) -> FailoverError | None:
    """Make what the app must be told; what it need not know now waits in the session."""
    loss, session = this.loss, this.session
    _refuse_what_is_missing(this, address)
    if loss.silent and not this.not_restored:
        return None
    kind = TransactionResolutionUnknownError if loss.transaction == "unknown" else FailoverSuccessError
    error = _error(this, kind, _sentence(this, address), address)
    if loss.refuse:
        session.lost = remembered(error)
    if loss.later:
        told = loss.refuse or set(this.not_restored) <= set(this.missing)  # by what the next statement raises
        session.set_pending_error(None if told else _error(_owed(this), kind, _sentence(_owed(this), address), address))
        return None
    return error


def _refuse_what_is_missing(this: Switch, address: Address) -> None:
    """Without its role, its tenant, its schema a session would show and change the wrong data."""
    session = this.session
    this.missing = session.refusal.security_state(this.missing)
    if not this.missing:
        session.accept()
        return
    of = _owed(this) if this.loss.later else this
    error = _error(of, FailoverSuccessError, _sentence(of, address), address)
    a_statement_failed = not (this.loss.later or this.loss.trigger == "requested")
    session.refusal.begin(remembered(error), this.missing, a_statement_failed)
    session.refresh()


def _owed(this: Switch) -> Switch:
    """What is left to tell of a switch in a rollback: that some state was not carried over."""
    return replace(this, loss=replace(this.loss, transaction="none", may_have_run=False, cause=None, refuse=False))


def _sentence(this: Switch, address: Address) -> str:
    parts = [f"the session was moved to {_named(address)} after {this.seconds():.2f} s"]
    parts += [_OF_TRANSACTION[this.loss.transaction]]
    if this.loss.transaction == "none":
        parts += ["the statement was sent and may have run" if this.loss.may_have_run else "nothing was sent"]
    parts += ["call rollback() before going on"] if this.loss.refuse else []
    parts += [f"not carried over: {', '.join(this.not_restored)}"] if this.not_restored else []
    parts += [_way_out(this)] if this.missing else []
    return "; ".join(parts)


def _way_out(this: Switch) -> str:
    named = this.session.refusal.settings_among(this.missing)
    again = f"set {', '.join(named)} again or " if named == this.missing else ""
    return f"every other statement is refused until you {again}call reset_session() or mark_pristine()"


def _error(this: Switch, kind: type[FailoverError], message: str, address: Address | None) -> FailoverError:
    facts = {
        "transaction": this.loss.transaction,
        "may_have_run": this.loss.may_have_run,
        "server": address,
        "blocked_seconds": this.seconds(),
        "not_restored": this.not_restored,
    }
    if (number := this.driver.error_number) is not None:
        facts["number"] = number
    if kind is FailoverFailedError and this.loss.trigger != "requested":
        facts.update(this.driver.loss_attributes(this.loss.cause))
    return driver_error(kind, this.driver.operational_error, this.loss.cause, message, facts)
