"""Return a connection to a pool, for any pool and driver: roll back, reset, report, or let the pool discard it.

A pool calls `to_take_back` to learn whether anything is to be done, and then runs the flow `take_back` by `Flows.run`
or `Flows.run_async`. `policy` returns what ``reset_on_return`` means for the pool.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Final

from instrumented_wrapper.drivers import Driver, Flow, Flows
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.drivers.registry import tracked, tracked_as
from instrumented_wrapper.failover import RESET_TIMEOUT
from instrumented_wrapper.pools.metrics import name_by

ON: Final = "on"
CLOSE: Final = "close"
REPORT: Final = "report"
OFF: Final = "off"
_AUTO: Final = "auto"
_DISCARDED: Final = "a pool discards a connection whose session was moved without %s, which the app has not set again"


def policy(session: TrackedConnection, auto: str) -> str:
    """Return what a return does with a changed session; `auto` is what the pool does by default."""
    chosen = session.options.reset_on_return
    return auto if chosen == _AUTO else chosen


def policy_of_clearing(session: TrackedConnection, clears: bool) -> str:
    """Return the same for mysql.connector's pools, which clear the session themselves if `clears`."""
    chosen = policy(session, ON)
    return OFF if clears and chosen != ON else chosen


def to_take_back(connection: object, auto: str = ON) -> tuple[Driver, TrackedConnection] | None:
    """Return the driver and the session of a connection if its return has something to do, else None.

    Args:
        connection: the driver's own object.
        auto: what ``reset_on_return=auto`` means for this pool.
    """
    session = tracked_as(connection)  # at little cost: the frequent path
    if session is None or (policy(session, auto) == REPORT and session.is_clean()):  # what a trigger set waits
        return None
    if not (must_end(session) or _is_changed(session, auto)):
        return None
    found = tracked(connection)
    return found if found is not None and _may_return(found[0], connection, session, auto) else None


def must_end(session: TrackedConnection) -> bool:
    """Return True if the session has state that no other user may get, whatever the option."""
    return session.refusal.error is not None or session.lost is not None


def _is_changed(session: TrackedConnection, auto: str) -> bool:
    chosen = policy(session, auto)
    if session.out_of_step:  # its next user would read wrong answers, and nothing can be reset
        return chosen in (ON, CLOSE)
    return session.wants_reset() if chosen == ON else chosen != OFF and session.may_leak()


def _may_return(driver: Driver, connection: object, session: TrackedConnection, auto: str) -> bool:
    if session.refusal.error is not None:
        return True
    chosen = policy(session, auto)
    if driver.is_closed(connection):  # a loss leads to a switch, which would carry what the app has set
        return chosen in (ON, CLOSE) and not session.closed_by_app
    return session.lost is not None or chosen != ON or driver.wants_reset(connection)


def take_back(
    driver: Driver,
    connection: object,
    session: TrackedConnection,
    flows: Flows,
    logger: logging.Logger,
    chosen: str = "",
    pool: str = "",
) -> Flow[bool]:
    """Roll back, and apply ``reset_on_return``, within one second; log failures to `logger`.

    Args:
        driver: the driver of the connection.
        connection: the driver's own object.
        session: the session of the connection.
        flows: the flows to run.
        logger: the pool's own logger, if it has one.
        chosen: the result of `policy` for this pool; by default that of a driver's pool.
        pool: the pool's name for reports; by default its server and database.

    Returns:
        False if the pool must discard the connection: a session that is refused, a reset that failed, a statement in
        flight, a changed session where the option is ``close``, a connection that is out of step.
    """
    if session.foreign and must_end(session):  # in a forked child: the session goes on in the parent
        driver.silence(connection)
    if is_refused(session, logger) or driver.is_closed(connection) or session.out_of_step:
        return False
    try:
        with driver.returning(connection, time.monotonic() + RESET_TIMEOUT):
            if session.lost is not None or driver.is_in_transaction(connection):
                yield partial(driver.roll_back, connection)
            session.returned = True
            if not driver.is_idle(connection):
                return False
            return (yield from _as_chosen(driver, connection, session, flows, chosen or policy(session, ON), pool))
    except Exception as error:  # noqa: BLE001 - as a pool does: what cannot be rolled back or reset is discarded
        logger.warning("return of a connection failed: %s: discarding it", type(error).__name__)
        return False
    except BaseException:  # a cancellation, Ctrl-C: it passes, and the pool discards a connection that has ended
        driver.end(connection)
        raise


def _as_chosen(
    driver: Driver, connection: object, session: TrackedConnection, flows: Flows, chosen: str, pool: str
) -> Flow[bool]:
    """Apply ``reset_on_return`` to an idle session. Return False if the pool must discard the connection."""
    if chosen == ON:
        return (yield from flows.reset(driver, connection, session, "pool_return"))
    if chosen == CLOSE:
        return not (yield from flows.to_reset(driver, connection, session))
    if chosen == REPORT:
        yield from flows.report_leak(driver, connection, session, pool or name_by(session.site()))
    return True


def is_refused(session: TrackedConnection, logger: logging.Logger) -> bool:
    """Return True, and log it, if the session lacks security state: nobody may get it without its role or tenant."""
    if session.refusal.error is None:
        return False
    logger.warning(_DISCARDED, ", ".join(session.on_server.missing))
    return True
