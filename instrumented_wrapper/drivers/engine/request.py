"""What the app asks of a connection, in terms that all drivers share."""

from __future__ import annotations

from enum import Enum

__all__ = ["Request"]


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
