"""Whether the server has ended a session, from what it has sent unasked. Sends nothing."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import pq

from instrumented_wrapper.drivers.psycopg.loss_facts import LISTENING_STEPS
from instrumented_wrapper.drivers.psycopg.records import Record
from instrumented_wrapper.drivers.registry import poll_of

LAST_WORDS: Final = ("FATAL", "PANIC")  # the server ends the connection after such an error
_BAD: Final = pq.ConnStatus.BAD
_IDLE, _UNKNOWN = pq.TransactionStatus.IDLE, pq.TransactionStatus.UNKNOWN
_READS: Final = 4  # the first read may only give the server's last words, the end comes with the next
_SEVERITY: Final = pq.DiagnosticField.SEVERITY_NONLOCALIZED


def has_ended(connection: Any, record: Record, step: str, status: int) -> bool:
    """Return True if the session has ended, as far as this side can know before a step."""
    closes = step == "_close_gen" and status == _IDLE  # a held cursor: psycopg sends it, or meets the loss there
    reads = status != _UNKNOWN and step not in LISTENING_STEPS and not closes  # notifies() waits for what we would read
    ended = reads and _read_what_came(connection, record)
    return ended or connection.pgconn.status == _BAD


def _read_what_came(connection: Any, record: Record) -> bool:
    """Read notifications and notices. True if these were the server's last words."""
    pgconn = connection.pgconn
    severities: list[bytes | None] = []
    handler = pgconn.notice_handler

    def hear(notice: Any) -> None:
        severities.append(notice.error_field(_SEVERITY))  # now: libpq takes it back afterwards
        handler(notice)

    pgconn.notice_handler = hear
    # With failover off nobody looks; but while statements are refused, no other error would say that this is the end.
    poll = record.poll if record.refusal.error is None else poll_of(pgconn.socket)
    try:
        for _ in range(_READS):
            if pgconn.status == _BAD or not poll(0):
                break
            pgconn.consume_input()
            _notify(pgconn)
    except psycopg.OperationalError:
        pass  # the end: the status says so
    finally:
        pgconn.notice_handler = handler
    return any(word.encode() in severities for word in LAST_WORDS)


def _notify(pgconn: Any) -> None:
    while notification := pgconn.notifies():
        pgconn.notify_handler(notification)
