"""Race for a server: all hosts are tried at once, each again at its own pace, until one answers as wanted.

One flow for all drivers but those whose client library connects to several hosts itself. `failover.Search` decides when
to try which host; `race_threads` and `race_tasks` carry the attempts out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from instrumented_wrapper.drivers import Flow
from instrumented_wrapper.drivers.engine.search import Target, Winner
from instrumented_wrapper.errors import Address
from instrumented_wrapper.failover import A_WHILE, ATTEMPT_TIMEOUT, ClosedMeanwhile, Found, Search, UnderWay


class WrongRole(Exception):
    """A server answered that is not of the kind that is wanted."""


class SocketOfTheApp(Exception):
    """The app has made the socket of its connection: it cannot be opened again, and must not get another login."""


class Opening(NamedTuple):
    """How a driver connects to one host.

    Attributes:
        open: connects to a host, for a role, within a number of seconds. May wait.
        answer: returns the meaning of an error: its outcome, a text, and whether another attempt is useless.
        close: closes an unwanted connection without waiting.
    """

    open: Callable[[Address, str, float], Any]
    answer: Callable[[BaseException], tuple[str, str, bool]]
    close: Callable[[Any], None]


SILENT: Final = ("refused", "no_answer")  # outcomes of a server that has said nothing


class Ended(NamedTuple):
    """An attempt that has ended, with a connection or an error."""

    attempt: UnderWay
    connection: Any
    error: BaseException | None


class Attempts(Protocol):
    """Attempts that are carried out at the same time."""

    def start(self, attempt: UnderWay, role: str, seconds: float) -> None:
        """Begin to connect; give up after so many seconds."""

    def next(self, seconds: float) -> Any:
        """Return the next attempt that has `Ended`, or None after so many seconds. May wait."""

    def close(self) -> None:
        """Close every connection that was not taken, including those still to come."""


def race(attempts: Attempts, opening: Opening, target: Target, deadline: float) -> Flow[Winner]:
    """Try the hosts until one answers as wanted.

    Raises:
        NoServer: none did until `deadline` (monotonic seconds), or one refused the login for good.
        ClosedMeanwhile: the app has closed its connection.
    """
    search = Search(target.hosts, time.monotonic(), deadline, target.first)
    try:
        while True:
            now = time.monotonic()
            if not target.is_wanted():
                raise ClosedMeanwhile
            for host in search.take_due(now):
                search.starting(host, 1)
                attempts.start(search.begin(host, now), target.role, _seconds(search, now))
            ended = yield partial(attempts.next, min(search.seconds_to_wait(now), A_WHILE))
            if ended is not None and (found := _settled(search, opening, ended)) is not None:
                return ended.connection, found
            if search.is_over(now := time.monotonic()):
                raise search.give_up(now)
    finally:
        attempts.close()


def _seconds(search: Search, now: float) -> float:
    return min(ATTEMPT_TIMEOUT, max(0.1, search.deadline - now))


def _settled(search: Search, opening: Opening, ended: Ended) -> Found | None:
    now = time.monotonic()
    if ended.error is None:
        return search.won(ended.attempt, now)
    search.fail(ended.attempt, now, _answer(opening, ended.error))
    return None


def _answer(opening: Opening, error: BaseException) -> tuple[str, str, bool]:
    if isinstance(error, WrongRole):
        return "wrong_role", f"is not the kind of server that is wanted ({error})", False
    if isinstance(error, SocketOfTheApp):
        return "failed", "cannot be reached by the socket that the app has given to `sock=`", True
    return opening.answer(error)
