"""Ask whether the settings on the server are as a session has them, and report what differs.

Knows no driver, no SQL and no OpenTelemetry. It changes nothing: neither the session on the server nor what is tracked.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from instrumented_wrapper import runners
from instrumented_wrapper.drivers import Driver, Flow
from instrumented_wrapper.events import Drift, observe
from instrumented_wrapper.failover import VERIFY_TIMEOUT
from instrumented_wrapper.lifecycle import settle_doubts, where
from instrumented_wrapper.owners import thread_of, tracked_session, unwrapped
from instrumented_wrapper.plans import Difference
from instrumented_wrapper.session import Session

_LOST = "the session has ended; where failover is on, the next statement moves it to a server: verify after that"
_SHARED = "a pooler lends the server session to others: what is set there is not this connection's"
_IN_USE = "the connection is in use: verify when nothing is under way"


def verify_session(connection: object) -> dict[str, tuple[Any, Any]]:
    """Return the settings whose value differs from the tracked one: empty if the server and the wrapper agree.

    It asks the server in one round trip; before that it asks what the next statement would ask, if something is in
    doubt. It opens no transaction, and changes neither the session nor what is tracked.

    Args:
        connection: outside a transaction.

    Returns:
        For each such setting the tracked value and the actual one, as `session_state` shows values. On PostgreSQL also
        settings that the wrapper does not know to be changed, with their default in the place of the tracked value.

    Raises:
        TypeError: not a sync connection of a supported driver.
        RuntimeError: the connection was made while nothing was instrumented.
        Exception: the driver's ``ProgrammingError`` if a transaction is open; its ``OperationalError`` if the
            connection is closed, lost or in use, or if a pooler lends its server session to others; any error of the
            question.
    """
    driver, session = tracked_session(connection, asynchronous=False)
    connection = unwrapped(connection)
    driver.check_outside_transaction(connection, "verify_session()")
    return runners.run(_verify(driver, connection, session, "verify_session()"))


async def verify_session_async(connection: object) -> dict[str, tuple[Any, Any]]:
    """Do as `verify_session` does, on an async connection."""
    if (call := thread_of(connection)) is not None:
        return await call(verify_session, unwrapped(connection))  # type: ignore[no-any-return]
    driver, session = tracked_session(connection, asynchronous=True)
    connection = unwrapped(connection)
    driver.check_outside_transaction(connection, "verify_session_async()")
    return await runners.run_async(_verify(driver, connection, session, "verify_session_async()"))


def _verify(driver: Driver, connection: object, session: Session, verb: str) -> Flow[dict[str, tuple[Any, Any]]]:
    if driver.is_lost(connection):
        raise driver.operational_error(f"{verb}: {_LOST}")
    driver.apply_reports(connection, will_resync=True)
    deadline = time.monotonic() + VERIFY_TIMEOUT
    try:
        on_server = yield from _asked(driver, connection, session, deadline)
        if on_server is None and (yield from driver.detect_pooler(connection, connection, deadline)):
            on_server = yield from _asked(driver, connection, session, deadline)
    except driver.raises as error:
        if driver.is_lost(connection, error):  # not every driver raises an OperationalError of its own here
            raise driver.operational_error(f"{verb}: {_LOST}") from error
        raise
    if on_server is None:
        driver.check_outside_transaction(connection, verb)
        raise driver.operational_error(f"{verb}: {_SHARED if session.shared else _IN_USE}")
    found = (*_of_driver(driver, connection, session), *on_server)
    if found:
        _report(driver, connection, session, found)
    return {name: (tracked, actual) for name, tracked, actual, _ in found}


def _asked(
    driver: Driver, connection: object, session: Session, deadline: float
) -> Flow[tuple[Difference, ...] | None]:
    """Return what differs on the server; None where its session is not this connection's, or is in use."""
    if session.shared:
        return None
    with driver.unobserved(connection, deadline):
        yield from settle_doubts(driver, connection, session)
        found: tuple[Difference, ...] | None = yield partial(driver.verify, connection)
    return found


def _of_driver(driver: Driver, connection: object, session: Session) -> tuple[Difference, ...]:
    """Return the settings of the driver that have another value than the app has set through its methods."""
    known = [state for state in session.snapshot().values() if not state.on_server]
    actual = {state.name: driver.read(connection, state.name) for state in known}
    return tuple(Difference(s.name, s.value, actual[s.name]) for s in known if actual[s.name] != s.value)


def _report(driver: Driver, connection: object, session: Session, found: tuple[Difference, ...]) -> None:
    tracked = tuple(one.name for one in found if one.is_tracked)
    untracked = tuple(one.name for one in found if not one.is_tracked)
    with observe(Drift(**where(driver, connection, session), tracked=tracked, untracked=untracked)):
        pass
