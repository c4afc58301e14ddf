"""Detect whether a pooler lends the server session of a connection to others between its transactions.

Behind PgBouncer, in each of its modes, the process that answers is not the one that the connection was given at login.
A second connection distinguishes the modes. In session mode it never gets the first connection's process, and the first
connection keeps its process. In transaction mode the pool assigns the process that was used last, or the one that was
unused for longest: one of the two connections then gets the process of the other. Without proof the session counts as
shared.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from functools import partial
from typing import Any, Final
from uuid import uuid4

from instrumented_wrapper.databases.postgresql import questions
from instrumented_wrapper.drivers import Driver, Flow, Replacement
from instrumented_wrapper.failover import Loss

logger = logging.getLogger("instrumented_wrapper")
_POOLER: Final = (
    "%s:%s is a pooler that lends a server session to several clients, as far as can be found out. What SQL sets may"
    " land on the session of another client, so it is neither reset nor carried over there. If each client keeps its"
    " server session, say so: INSTRUMENTED_WRAPPER_POOLER=session"
)
_ROUNDS: Final = 2
_LONGEST: Final = 0.5  # seconds that may be spent on it
_AGAIN: Final = 60.0  # seconds after which a pooler is asked again
_lending: dict[tuple[str, int | None], float] = {}  # poolers that lend sessions, and when that was found out
_warned: set[tuple[str, int | None]] = set()


def detect_pooler(driver: Driver, connection: object, like: object, deadline: float) -> Flow[bool]:
    """Find out whether `connection` keeps its server session; if so it no longer counts as shared.

    Args:
        driver: the driver of both connections.
        connection: a connection outside a transaction.
        like: the app's connection, which tells how to make another one; `connection` itself, or what it replaces.
        deadline: when to give up (monotonic seconds).
    """
    record: Any = driver.session_of(connection)
    if record.options.pooler == "transaction":
        return False
    peer = driver.peer(connection)
    place = peer.address, peer.port
    now = time.monotonic()
    if now - _lending.get(place, -_AGAIN) < _AGAIN:
        return False
    until = min(deadline, now + _LONGEST)
    with driver.unobserved(connection, deadline):
        process = yield from _its_process(driver, connection, like, place, until)
    if process is None:
        _lending[place] = time.monotonic()
        if place not in _warned:
            _warned.add(place)
            logger.warning(_POOLER, *place)
        return False
    record.shared, record.process = False, process
    record.refresh_changed()
    return True


def _its_process(
    driver: Driver, connection: object, like: object, place: tuple[str, int | None], until: float
) -> Flow[int | None]:
    owner: Any = driver.session_of(like)
    successor, other = owner.successor, None
    try:
        loss = Loss("requested", hosts=(place,))
        other = yield from driver.replacement(like, loss, until)
        return (yield from _compared(driver, connection, other.connection))
    except Exception:  # no free session, no transaction (statement mode), or lost: nothing is proved
        if driver.is_idle(connection) or driver.is_lost(connection):
            return None
        raise  # its own question is still on its way: nothing else can be asked
    finally:
        owner.successor = successor
        _discard(driver, other)


def _discard(driver: Driver, other: Replacement | None) -> None:
    if other is not None:
        driver.discard(other)


def _compared(driver: Driver, connection: object, other: object) -> Flow[int | None]:
    """Return the process of the first connection if only that connection got it, and it got no other."""
    mark = uuid4().hex
    mine = yield from _answering(driver, connection, mark)
    for _ in range(_ROUNDS):
        if (yield from _answering(driver, connection, mark)) != mine:
            return None
        rows = yield partial(driver.query, other, questions.beside(mine))
        process, last = rows[-1]
        met = process == mine or questions.was_another(last, mark)
        if not met:  # while the other process is taken
            met = (yield from _answering(driver, connection, mark)) != mine
        yield partial(driver.query, other, "ROLLBACK")  # or the pooler would end its server session
        if (
            met or (yield from _answering(driver, connection, mark)) != mine
        ):  # the other process is now the last one used
            return None
    return int(mine)


def _answering(driver: Driver, connection: object, mark: str) -> Generator[Any, Any, str]:
    ((process,),) = yield partial(driver.query, connection, questions.process(mark))
    return str(process)
