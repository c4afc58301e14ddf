"""Decide when to try which server, and when to give up.

Pure: no driver, no socket and no clock (the caller passes the time). `Search` decides, a driver's module connects.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from instrumented_wrapper.errors import Address

FIRST_PAUSE: Final = 0.01  # seconds; a promotion takes 0.1 s, so asking again soon costs little and wins much
LONGEST_PAUSE: Final = 1.0
HEAD_START: Final = 0.05  # seconds; a server that has ended one session takes a login in less, and a dead one refuses
SHARE_OF_ELAPSED: Final = 0.1  # a search that lasts asks ever more rarely: back-off without a counter
LAST_ANSWERS: Final = 0.3  # seconds left to attempts under way once one server gave an answer that will not change
RESET_TIMEOUT: Final = 1.0  # seconds that a reset may take
STATEMENT_MARGIN: Final = 0.2  # seconds before that, a handler's own statements give up, and leave it time to end
VERIFY_TIMEOUT: Final = 10.0  # seconds that a verification may take: nobody waits for a pool meanwhile
FOLLOW_TIMEOUT: Final = 2.0  # seconds for a server that another connection found, before looking for another one
ATTEMPT_TIMEOUT: Final = 5.0  # seconds for one attempt where the app gave no connect_timeout
A_WHILE: Final = 0.2  # seconds after which whoever waits looks whether the app has closed its connection


def backoff_delay(elapsed: float, dice: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait before the next attempt at a host, `elapsed` seconds into the search, with jitter."""
    longest = min(LONGEST_PAUSE, max(FIRST_PAUSE, SHARE_OF_ELAPSED * elapsed))
    return longest * (0.75 + 0.5 * dice())


class Attempt(NamedTuple):
    """One connection attempt: its server, when it began (monotonic seconds), its duration, its outcome."""

    address: Address
    started: float
    seconds: float
    outcome: str


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts at one server that had the same outcome.

    Attributes:
        address: the server.
        outcome: how each attempt ended.
        first: when the first one started (monotonic seconds).
        last: when the last one started.
        count: how many there were.
        seconds: how long they took together.
    """

    address: Address
    outcome: str
    first: float
    last: float
    count: int
    seconds: float

    def __add__(self, other: Attempts) -> Attempts:
        """Return both as one; they have the same address and outcome."""
        first, last = min(self.first, other.first), max(self.last, other.last)
        count, seconds = self.count + other.count, self.seconds + other.seconds
        return Attempts(self.address, self.outcome, first, last, count, seconds)


class Tried:
    """Attempts by server and outcome: a search of a minute at two dead hosts has two of these, not hundreds."""

    def __init__(self, attempts: Iterable[Attempts] = ()) -> None:
        self._known: dict[tuple[Address, str], Attempts] = {}
        for group in attempts:
            self._add(group)

    def append(self, one: Attempt) -> None:
        """Add one attempt that has ended."""
        self._add(Attempts(one.address, one.outcome, one.started, one.started, 1, one.seconds))

    def _add(self, group: Attempts) -> None:
        key = (group.address, group.outcome)
        known = self._known.get(key)
        self._known[key] = group if known is None else known + group

    def __iter__(self) -> Iterator[Attempts]:
        return iter(list(self._known.values()))


class Found(NamedTuple):
    """The server that answered, how many connections were started to find it, and these by server and outcome.

    ``led_by``: where another connection looked for both, as telemetry marked it. ``role``: the kind that was wanted.
    """

    address: Address
    attempts: int
    tried: tuple[Attempts, ...] = ()
    led_by: object = None
    role: str = ""


@dataclass(frozen=True, slots=True)
class Loss:
    """What is known when a physical connection is found lost, or is about to be replaced.

    Attributes:
        trigger: ``connection_lost``, ``demoted`` or ``requested``.
        transaction: ``none``, ``rolled_back``, ``unknown`` or, once that is found out, ``committed``.
        may_have_run: False only where nothing was sent, or all of it is certainly rolled back.
        refuse: leave the new session refusing everything until the app rolls back.
        silent: the app need not know, if all state was carried over.
        later: the app is told by its next statement, not now: it is rolling back, and that succeeds.
        cause: what the driver raised.
        hosts: where to look, instead of the connection's own hosts.
        probe: ask each new session something before it is taken; where it is given settings, that is question enough.
        resolve: returns a flow that finds out, on a new connection and before a deadline (monotonic seconds), what
            became of an ``unknown`` transaction: ``committed``, ``rolled_back`` or ``unknown``. None: nothing can.
        begins: the statement that begins the transaction which its COMMIT would have begun, if any.
        since: when the first loss of the same call was found (monotonic seconds); None where this is the first.
    """

    trigger: str = "connection_lost"
    transaction: str = "none"
    may_have_run: bool = False
    refuse: bool = False
    silent: bool = False
    later: bool = False
    cause: BaseException | None = None
    hosts: tuple[Address, ...] = ()
    probe: bool = True
    resolve: Callable[[object, float], Any] | None = None
    begins: str = ""
    since: float | None = None

    def resolved(self, transaction: str) -> Loss:
        """Return the loss once it is known what became of its transaction.

        A COMMIT that was carried out has succeeded; state of the session that could not be carried is told later.
        """
        committed = transaction == "committed"
        ran = transaction != "rolled_back"
        return replace(self, transaction=transaction, may_have_run=ran, silent=committed, later=committed, resolve=None)


class NoServer(Exception):
    """No server took over.

    Attributes:
        attempts: the number of connection attempts.
        permanent: a server gave a final answer, which another attempt would not change.
        answers: the last answer of each host, in our words.
        tried: the attempts by server and outcome.
    """

    def __init__(
        self,
        attempts: int,
        permanent: bool = False,
        answers: Mapping[Address, str] | None = None,
        tried: Iterable[Attempts] = (),
    ) -> None:
        super().__init__(attempts, permanent)
        self.attempts, self.permanent, self.answers, self.tried = attempts, permanent, dict(answers or {}), tuple(tried)


class ClosedMeanwhile(Exception):
    """The app closed its connection while a new one was looked for."""


class UnderWay(NamedTuple):
    """A connection to a server that was started (monotonic seconds) and has not ended."""

    address: Address
    started: float


@dataclass
class Search:
    """The plan of one search over several hosts. All are tried at once, and each of them again at its own pace.

    Attributes:
        hosts: the hosts to try.
        started: when the search began.
        deadline: when it ends in any case.
        first: the host to ask before the others. They follow when it fails, or has not answered after `HEAD_START`: a
            login to each of them would be work for nothing where this one is well.
        attempts: the number of connection attempts so far.
        permanent: a server refused us for good.
        answers: the last answer of each host.
        tried: the attempts by server and outcome.
        under_way: the attempts that have not ended.
    """

    hosts: Sequence[Address]
    started: float
    deadline: float
    first: Address | None = None
    attempts: int = 0
    permanent: bool = False
    answers: dict[Address, str] = field(default_factory=dict)
    tried: Tried = field(default_factory=Tried)
    under_way: list[UnderWay] = field(default_factory=list)
    _due: dict[Address, float] = field(default_factory=dict)
    _expected: dict[Address, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        later = self.started + (HEAD_START if self.first in self.hosts else 0.0)
        self._due = {host: self.started if host == self.first else later for host in self.hosts}

    def take_due(self, now: float) -> list[Address]:
        """Return the hosts to try now. None of them is due again before all attempts at it have failed."""
        due = [] if self.permanent else [host for host, moment in self._due.items() if moment <= now]
        for host in due:
            del self._due[host]
            self._expected[host] = 0
        return due

    def starting(self, host: Address, connections: int) -> None:
        """Connections to `host` are about to be started, one to each of its addresses."""
        self.attempts += connections
        self._expected[host] = connections

    def begin(self, host: Address, now: float) -> UnderWay:
        """Record that one connection to `host` is started."""
        self.under_way.append(attempt := UnderWay(host, now))
        return attempt

    def end(self, attempt: UnderWay, now: float, outcome: str) -> None:
        """Record how an attempt has ended."""
        self.under_way.remove(attempt)
        self.tried.append(Attempt(attempt.address, attempt.started, now - attempt.started, outcome))

    def fail(self, attempt: UnderWay, now: float, answer: tuple[str, str, bool]) -> None:
        """Record an attempt that has failed.

        `answer`: its outcome, the same in words, and whether asking again is useless.
        """
        outcome, words, permanent = answer
        self.end(attempt, now, outcome)
        self.failed(attempt.address, now, permanent, words)

    def failed(self, host: Address, now: float, permanent: bool = False, answer: str = "failed") -> None:
        """Schedule the next attempt at `host` after one has failed (or its name has no address)."""
        self.answers[host] = answer
        if host == self.first:
            self._due = {other: min(due, now) for other, due in self._due.items()}
            self.first = None
        if permanent and not self.permanent:
            self.permanent = True
            self.deadline = min(self.deadline, now + LAST_ANSWERS)
        self._expected[host] -= 1
        if self._expected[host] <= 0:
            del self._expected[host]
            self._due[host] = now + backoff_delay(now - self.started)

    def won(self, attempt: UnderWay, now: float, address: Address | None = None) -> Found:
        """Return the server of the successful attempt; the other attempts are abandoned.

        `address`: the address that the client library has connected to, where it chose one itself.
        """
        self.end(attempt, now, "connected")
        self._abandon(now)
        return Found(address or attempt.address, self.attempts, tuple(self.tried))

    def give_up(self, now: float) -> NoServer:
        """Return the error of a search that is over; the attempts under way are abandoned."""
        self._abandon(now)
        return NoServer(self.attempts, self.permanent, self.answers, self.tried)

    def _abandon(self, now: float) -> None:
        for attempt in list(self.under_way):
            self.end(attempt, now, "abandoned")

    def is_over(self, now: float) -> bool:
        """Return True if no attempt is pending and none is due."""
        return now >= self.deadline or (self.permanent and not self._expected)

    def seconds_to_wait(self, now: float) -> float:
        """Return how long nothing is to be started."""
        moments = [self.deadline] if self.permanent else [self.deadline, *self._due.values()]
        return max(0.0, min(moments) - now)
