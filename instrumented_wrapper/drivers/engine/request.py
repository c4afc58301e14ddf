"""Kinds of requests and transaction statuses, in terms that all drivers share."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum
from typing import Any, NamedTuple

from instrumented_wrapper.statement import Effects


class Request(Enum):
    """The kind of a call that may send something to the server.

    Attributes:
        STATEMENT: anything that sends a statement and that is none of the others.
        READ: reads more of the answer to a statement that was sent before.
        COMMIT: ends the transaction; its text or its answer may be lost.
        ROLLBACK: gives the transaction up.
        TWO_PHASE: prepares or ends a two-phase transaction, with state that the driver keeps for this session only.
        LISTEN: sends nothing, or waits for messages that the server sends by itself: it never starts a switch.
    """

    STATEMENT = "statement"
    READ = "read"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    TWO_PHASE = "two-phase"
    LISTEN = "listen"


class SentCall(NamedTuple):
    """A call of the app that was sent: what has to be known of it once it has failed.

    Attributes:
        connection: the connection of the app.
        record: its record.
        request: the kind of the call.
        effects: what it does, as far as its text tells; None: nothing that matters.
        run: sends it once more.
        generation: that of the physical connection it was sent on.
        since: when its first loss was found (monotonic seconds), if it was sent again after one.
    """

    connection: Any
    record: Any
    request: Request
    effects: Effects | None
    run: Callable[[], Any]
    generation: int
    since: float | None = None


def effects_of_call(
    effects: Callable[..., Effects | None], record: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Effects | None:
    """Return what a call does by its arguments, which may be any objects."""
    try:
        return effects(record, *args, **kwargs)
    except Exception:  # noqa: BLE001 - the driver is given the same arguments, and says what is wrong with them
        return None


def itself(connection: Any) -> Any:
    """Return the connection of a call that is a method of the connection, not of a cursor."""
    return connection


class TransactionStatus(IntEnum):
    """The state of a connection's transaction, by libpq's names and numbers.

    Attributes:
        IDLE: no transaction is open.
        ACTIVE: an answer is being read.
        INTRANS: a transaction is open.
        INERROR: a transaction is open and has failed.
        UNKNOWN: the physical connection has ended.
    """

    IDLE = 0
    ACTIVE = 1
    INTRANS = 2
    INERROR = 3
    UNKNOWN = 4
