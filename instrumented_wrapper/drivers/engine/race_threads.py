"""How a server is found: all hosts at once, each again at its own pace, by threads in which the driver connects.

`failover.Search` decides when to ask whom; connections that are lost together share one search. A driver that blocks
can be asked for several hosts at once in no other way; a thread that nobody waits for any more closes what it gets.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from queue import Empty, SimpleQueue
from traceback import clear_frames
from typing import Any, NamedTuple

from instrumented_wrapper import events
from instrumented_wrapper.drivers.watching import SHARED, wait_while_wanted
from instrumented_wrapper.errors import Address
from instrumented_wrapper.failover import (
    A_WHILE,
    ATTEMPT_TIMEOUT,
    FOLLOW_TIMEOUT,
    Attempt,
    ClosedMeanwhile,
    Found,
    NoServer,
    Search,
)
from instrumented_wrapper.single_flight import Interrupted

__all__ = ["Opening", "WrongRole", "search"]


class WrongRole(Exception):
    """A server answered that is not of the kind that is wanted."""


class Opening(NamedTuple):
    """How to connect to a host, what came of an error, how to close what nobody wants, and whether anybody does."""

    open: Callable[[Address, float], Any]
    answer: Callable[[BaseException], tuple[str, str, bool]]
    close: Callable[[Any], None]
    is_wanted: Callable[[], bool]


class _Ended(NamedTuple):
    host: Address
    started: float
    connection: Any
    error: BaseException | None


class _Race:
    """Attempts under way."""

    def __init__(self, opening: Opening, hosts: Sequence[Address], deadline: float) -> None:
        self.search = Search(hosts, time.monotonic(), deadline)
        self._opening, self._ended = opening, SimpleQueue[_Ended]()
        self._under_way: dict[Address, float] = {}
        self._lock, self._over = threading.Lock(), False

    def run(self) -> tuple[Any, Found]:
        """Ask until one server answers as wanted.

        Raises:
            NoServer: none did in time, or one refused the login for good.
            ClosedMeanwhile: the app does not want it any more.
        """
        try:
            while True:
                now = time.monotonic()
                if not self._opening.is_wanted():
                    raise ClosedMeanwhile
                for host in self.search.take_due(now):
                    self._start(host, now)
                if (ended := self._next(self.search.seconds_to_wait(now))) and (won := self._won(ended)):
                    return won
                if self.search.is_over(time.monotonic()):
                    found = self.search
                    self._abandon()
                    raise NoServer(found.attempts, found.permanent, found.answers, found.tried)
        finally:
            self._close()

    def _start(self, host: Address, now: float) -> None:
        self.search.starting(host, 1)
        self._under_way[host] = now
        seconds = min(ATTEMPT_TIMEOUT, max(0.1, self.search.deadline - now))
        threading.Thread(target=self._attempt, args=(host, now, seconds), name="failover", daemon=True).start()

    def _attempt(self, host: Address, started: float, seconds: float) -> None:
        connection, error = None, None
        if self._over:  # nobody waits for it any more: the thread began late
            return
        try:
            connection = self._opening.open(host, seconds)
        except BaseException as failure:  # noqa: BLE001 - it is told to who waits
            clear_frames(failure.__traceback__)  # errors of some drivers keep themselves, and these frames
            error = failure.with_traceback(None)  # this frame is in it
        with self._lock:
            if not self._over:
                self._ended.put(_Ended(host, started, connection, error))
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
        self._under_way.pop(ended.host, None)
        if ended.error is None:
            self._told(ended.host, ended.started, now, "connected")
            self._abandon()
            return ended.connection, Found(ended.host, self.search.attempts, tuple(self.search.tried))
        outcome, answer, permanent = self._answer(ended.error)
        self._told(ended.host, ended.started, now, outcome)
        self.search.failed(ended.host, now, permanent, answer)
        return None

    def _answer(self, error: BaseException) -> tuple[str, str, bool]:
        if isinstance(error, WrongRole):
            return "wrong_role", f"is not the kind of server that is wanted ({error})", False
        return self._opening.answer(error)

    def _told(self, host: Address, started: float, now: float, outcome: str) -> None:
        self.search.tried.append(Attempt(host, started, now - started, outcome))

    def _abandon(self) -> None:
        now = time.monotonic()
        for host, started in self._under_way.items():
            self._told(host, started, now, "abandoned")

    def _close(self) -> None:
        """Whoever connects from now on, or has connected and was not taken, closes."""
        with self._lock:
            self._over, self._opening = True, self._opening._replace(open=_too_late)
        while (ended := self._next(0)) is not None:
            if ended.connection is not None:
                self._opening.close(ended.connection)


def _too_late(host: Address, seconds: float) -> Any:
    """Stand in for what opens connections, which has the app's: frames of an error may keep the race.

    Raises:
        ClosedMeanwhile: nobody wants one any more.
    """
    raise ClosedMeanwhile


def search(opening: Opening, hosts: Sequence[Address], key: Hashable, deadline: float) -> tuple[Any, Found]:
    """Lead the search for `key`, or wait for whoever leads it and then, in turn, connect to what was found.

    Raises:
        NoServer: none took over until `deadline` (monotonic seconds).
        ClosedMeanwhile: the app does not want it any more.
    """
    while (leader := SHARED.join(key, events.origin())) is not None:
        if SHARED.is_led_here(leader):
            return _Race(opening, hosts, deadline).run()
        try:
            address = wait_while_wanted(leader, deadline, opening.is_wanted)
            with SHARED.following(address) as turn:
                wait_while_wanted(turn, deadline, opening.is_wanted)
                soon = min(deadline, time.monotonic() + FOLLOW_TIMEOUT)
                connection, found = _Race(opening, (address,), soon).run()
            return connection, found._replace(led_by=leader.mark)
        except (Interrupted, NoServer, TimeoutError) as error:
            leader = None  # it has the error, which keeps this frame
            _look_again(error, deadline)
    with SHARED.leading(key) as tell:
        connection, found = _Race(opening, hosts, deadline).run()
        tell(found.address)
    return connection, found


def _look_again(error: Exception, deadline: float) -> None:
    """Whoever led found nothing or was interrupted: look again, perhaps as the leader, if that may help."""
    known = error if isinstance(error, NoServer) else NoServer(0)
    if known.permanent or time.monotonic() >= deadline:
        raise NoServer(known.attempts, known.permanent, known.answers, known.tried) from None
