"""Connect to several hosts at once in threads: for drivers whose calls block.

`failover.Search` decides when to ask whom. A thread that nobody waits for any more closes what it gets.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from traceback import clear_frames
from typing import Any, NamedTuple, TypeVar

from instrumented_wrapper.drivers.engine.search import Contest, Target
from instrumented_wrapper.errors import Address
from instrumented_wrapper.failover import (
    A_WHILE,
    ATTEMPT_TIMEOUT,
    ClosedMeanwhile,
    Found,
    Search,
    UnderWay,
)
from instrumented_wrapper.single_flight import result_of

__all__ = ["Opening", "WrongRole", "contest", "wait_while_wanted"]

Result = TypeVar("Result")


class WrongRole(Exception):
    """A server answered that is not of the kind that is wanted."""


class Opening(NamedTuple):
    """How a driver connects to one host.

    Attributes:
        open: connects to a host, for a role, within so many seconds.
        answer: returns what an error means: its outcome, in words too, and whether asking again is useless.
        close: closes a connection that nobody wants.
    """

    open: Callable[[Address, str, float], Any]
    answer: Callable[[BaseException], tuple[str, str, bool]]
    close: Callable[[Any], None]


class _Ended(NamedTuple):
    attempt: UnderWay
    connection: Any
    error: BaseException | None


class _Race:
    """Attempts under way."""

    def __init__(self, opening: Opening, target: Target, deadline: float) -> None:
        self._search = Search(target.hosts, time.monotonic(), deadline)
        self._opening, self._target, self._ended = opening, target, SimpleQueue[_Ended]()
        self._lock, self._over = threading.Lock(), False

    def run(self) -> tuple[Any, Found]:
        """Ask until one server answers as wanted.

        Raises:
            NoServer: none did in time, or one refused the login for good.
            ClosedMeanwhile: the app does not want it any more.
        """
        search = self._search
        try:
            while True:
                now = time.monotonic()
                if not self._target.is_wanted():
                    raise ClosedMeanwhile
                for host in search.take_due(now):
                    self._start(host, now)
                if (ended := self._next(search.seconds_to_wait(now))) and (won := self._won(ended)):
                    return won
                if search.is_over(now := time.monotonic()):
                    raise search.give_up(now)
        finally:
            self._close()

    def _start(self, host: Address, now: float) -> None:
        self._search.starting(host, 1)
        attempt = self._search.begin(host, now)
        seconds = min(ATTEMPT_TIMEOUT, max(0.1, self._search.deadline - now))
        threading.Thread(target=self._attempt, args=(attempt, seconds), name="failover", daemon=True).start()

    def _attempt(self, attempt: UnderWay, seconds: float) -> None:
        connection, error = None, None
        if self._over:  # nobody waits for it any more: the thread began late
            return
        try:
            connection = self._opening.open(attempt.address, self._target.role, seconds)
        except BaseException as failure:  # noqa: BLE001 - whoever waits for it gets it
            clear_frames(failure.__traceback__)  # errors of some drivers keep themselves, and these frames
            error = failure.with_traceback(None)  # this frame is in it
        with self._lock:
            if not self._over:
                self._ended.put(_Ended(attempt, connection, error))
                return
        if connection is not None:
            self._opening.close(connection)

    def _next(self, seconds: float) -> _Ended | None:
        try:
            return self._ended.get(timeout=min(seconds, A_WHILE))
        except Empty:
            return None

    def _won(self, ended: _Ended) -> tuple[Any, Found] | None:
        now = time.monotonic()
        if ended.error is None:
            return ended.connection, self._search.won(ended.attempt, now)
        self._search.fail(ended.attempt, now, self._answer(ended.error))
        return None

    def _answer(self, error: BaseException) -> tuple[str, str, bool]:
        if isinstance(error, WrongRole):
            return "wrong_role", f"is not the kind of server that is wanted ({error})", False
        return self._opening.answer(error)

    def _close(self) -> None:
        """Whoever connects from now on, or has connected and was not taken, closes."""
        with self._lock:
            self._over, self._opening = True, self._opening._replace(open=_too_late)
        while (ended := self._next(0)) is not None:
            if ended.connection is not None:
                self._opening.close(ended.connection)


def _too_late(host: Address, role: str, seconds: float) -> Any:
    """Stand in for what opens connections, which has the app's: frames of an error may keep the race.

    Raises:
        ClosedMeanwhile: nobody wants one any more.
    """
    raise ClosedMeanwhile


def _race(opening: Opening, target: Target, deadline: float) -> tuple[Any, Found]:
    return _Race(opening, target, deadline).run()


def contest(opening: Opening) -> Contest:
    """Return how to connect with `opening` to several hosts at once, in threads."""
    return Contest(partial(_race, opening), wait_while_wanted, blocks=True)


def wait_while_wanted(future: Future[Result], deadline: float, is_wanted: Callable[[], bool]) -> Result:
    """Wait for what another thread finds.

    Raises:
        ClosedMeanwhile: the app has closed its connection.
        TimeoutError: `deadline` (monotonic seconds) has passed.
    """
    while is_wanted():
        left = deadline - time.monotonic()
        futures.wait([future], max(0.0, min(left, A_WHILE)))
        if future.done():
            return result_of(future)
        if left <= 0:
            raise TimeoutError
    raise ClosedMeanwhile
