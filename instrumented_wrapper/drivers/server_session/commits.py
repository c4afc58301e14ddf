"""Find out what became of a COMMIT whose answer was lost: what is read before it is sent, and asked after the loss.

What an answer proves is decided in ``databases/postgresql/commits.py``. Knows no driver and no OpenTelemetry.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any, Final

from instrumented_wrapper.databases.postgresql import commits
from instrumented_wrapper.databases.postgresql.commits import Outcome, Position
from instrumented_wrapper.drivers import Driver, Flow
from instrumented_wrapper.failover import backoff_delay

_SHARE: Final = 0.5  # of the time that is left, the rest of which is for configuring the new session


def read_position(driver: Driver, connection: object, session: Any, chained: bool) -> Flow[Position | None]:
    """Read where the app's transaction is, just before its COMMIT is sent; None where nothing could be proved later.

    Args:
        driver: of the connection.
        connection: in a transaction that has not failed.
        session: its record.
        chained: the COMMIT begins the next transaction.

    Raises:
        Exception: the driver's; the transaction has failed then.
    """
    client = session.settings_client
    if session.shared or client.version() < commits.OLDEST:
        session.resolves_commits = False
        return None
    text = commits.READ_CHAINED if chained else commits.READ_POSITION
    rows = yield partial(driver.query, connection, text)
    position, may_read, process = commits.position(rows[-1])
    if process != client.process() or not may_read:  # a pooler is in between, or no server could be told from another
        session.resolves_commits = False
        return None
    if position is not None and session.commit_server is None:
        rows = yield partial(driver.query, connection, commits.READ_SERVER)
        session.commit_server = commits.server_facts(rows[-1][1:])
    return None if position is None else replace(position, server=session.commit_server)


def resolve(driver: Driver, connection: object, position: Position, new: object, deadline: float) -> Flow[str]:
    """Return what became of the transaction (``Outcome``), as far as the server of a new session proves it.

    Where the lost session still runs, it is ended if it waits for its client, or waited for.

    Args:
        driver: of both connections.
        connection: the app's.
        position: what was read before the COMMIT.
        new: on the server that took over, outside a transaction.
        deadline: when the switch has to be done (monotonic seconds).

    Raises:
        Exception: the driver's, where the new connection is lost as well.
        ClosedMeanwhile: the app closed its connection.
    """
    began = time.monotonic()
    until = began + _SHARE * max(0.0, deadline - began)
    try:
        while (outcome := (yield from _asked(driver, new, position))) is Outcome.IN_PROGRESS:
            if time.monotonic() >= until:
                return Outcome.UNKNOWN.value
            yield partial(driver.query, new, commits.end_idle(position))
            yield from driver.pause(connection, backoff_delay(time.monotonic() - began))
    except driver.raises:
        if driver.is_lost(new):
            raise
        return Outcome.UNKNOWN.value  # no rights, or no such function
    return str(outcome.value)


def _asked(driver: Driver, new: object, position: Position) -> Flow[Outcome]:
    rows = yield partial(driver.query, new, commits.ask_outcome(position.xid))
    return commits.outcome(position, rows[-1])
