"""Probes by libpq: a session of the wrapper's own that only asks whether its server answers."""

from __future__ import annotations

import time
from typing import Any, Final

import psycopg
from psycopg import pq

from instrumented_wrapper.drivers import NoAnswer, Probe
from instrumented_wrapper.drivers.engine.race import SILENT
from instrumented_wrapper.drivers.engine.search import ANY
from instrumented_wrapper.drivers.psycopg.libpq_race import Attempt, Login, select_ready
from instrumented_wrapper.errors import Address
from instrumented_wrapper.failover import UnderWay

_OK, _WRITING = pq.PollingStatus.OK, pq.PollingStatus.WRITING
_UNFINISHED: Final = (pq.PollingStatus.READING, _WRITING)


def opened(login: Login, address: Address, seconds: float) -> Probe | None:
    """Log in to a server; return None where it answers, but refuses the login.

    Raises:
        NoAnswer: it does not within so many seconds.
    """
    pgconn = pq.PGconn.connect_start(login.conninfo(address, None, ANY))
    attempt = _attempt(pgconn, address)
    if pgconn.status == pq.ConnStatus.BAD:
        attempt.status = pq.PollingStatus.FAILED
    try:
        _go_on(attempt, seconds)
    except NoAnswer:
        pgconn.finish()
        raise
    if attempt.status == _OK:
        return Probe(pgconn, pgconn.socket)
    outcome = attempt.answer(ANY)[0]
    pgconn.finish()
    if outcome in SILENT:
        raise NoAnswer
    if outcome == "failed":  # nobody knows whether the server has said that
        raise psycopg.OperationalError("a probe could not connect")
    return None


def ask(pgconn: Any, seconds: float) -> None:
    """Have the server execute a statement that does nothing; an error is an answer, too.

    Raises:
        NoAnswer: it does not within so many seconds.
    """
    attempt = _attempt(pgconn, ("", None))
    try:
        attempt.ask()
        _go_on(attempt, seconds)
    except psycopg.OperationalError:
        raise NoAnswer from None
    if pgconn.status == pq.ConnStatus.BAD:
        raise NoAnswer


def _attempt(pgconn: Any, address: Address) -> Attempt:
    return Attempt(UnderWay(address, time.monotonic()), pgconn, 0.0, asks=False)


def _go_on(attempt: Attempt, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while attempt.status in _UNFINISHED:
        waits = {attempt.pgconn.socket: attempt.status == _WRITING}
        if not select_ready(waits, max(0.0, deadline - time.monotonic())):
            raise NoAnswer
        attempt.poll()
