"""What a return to a pool does, whatever the pool and the driver: roll back, reset, or have the pool discard it.

A pool asks `to_take_back` whether something is to be done, and then has `take_back`, which is a flow, carried out by
`Flows.run` or `Flows.run_async`.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from instrumented_wrapper.drivers import Driver, Flow, Flows
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.drivers.registry import tracked, tracked_as
from instrumented_wrapper.failover import RESET_TIMEOUT

__all__ = ["is_refused", "take_back", "to_take_back"]

_DISCARDED: Final = "a pool discards a connection whose session was moved without %s, which the app has not set again"


def to_take_back(connection: Any) -> tuple[Driver, TrackedConnection] | None:
    """Return the driver and the session of a connection if its return has something to do, else None."""
    session = tracked_as(connection)
    if session is None or (session.refusal.error is None and not session.wants_reset()):
        return None  # at little cost: the frequent path
    found = tracked(connection)
    refused = session.refusal.error is not None
    return found if found is not None and (refused or found[0].wants_reset(connection)) else None


def take_back(
    driver: Driver, connection: Any, session: TrackedConnection, flows: Flows, logger: logging.Logger
) -> Flow[bool]:
    """Roll back and reset a connection on its way into a pool, within one second; log failures to `logger`.

    Returns:
        False if the pool must discard it: a session that is refused, a reset that failed, something under way.
    """
    if is_refused(session, logger):
        return False
    try:
        with driver.returning(connection, time.monotonic() + RESET_TIMEOUT):
            if driver.is_in_transaction(connection):
                yield connection.rollback
            session.returned = True
            return driver.is_idle(connection) and (yield from flows.reset(driver, connection, session, "pool_return"))
    except Exception as error:  # noqa: BLE001 - as a pool does: what cannot be rolled back or reset is discarded
        logger.warning("return of a connection failed: %s: discarding it", type(error).__name__)
        return False
    except BaseException:  # a cancellation, Ctrl-C: it passes, and the pool discards a connection that has ended
        driver.end(connection)
        raise


def is_refused(session: TrackedConnection, logger: logging.Logger) -> bool:
    """Return True, and log it, if the session lacks security state: without its role or tenant nobody may get it."""
    if session.refusal.error is None:
        return False
    logger.warning(_DISCARDED, ", ".join(session.on_server.missing))
    return True
