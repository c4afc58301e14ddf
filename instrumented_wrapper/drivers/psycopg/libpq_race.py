"""The libpq parameters of a connection, and the race of attempts at several hosts in libpq.

Uses psycopg's public ``pq`` interface; `failover.Search` decides when to try which host.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from instrumented_wrapper.databases.postgresql.connect_arguments import parameters_for
from instrumented_wrapper.databases.postgresql.connect_errors import QUESTION, answer_to
from instrumented_wrapper.drivers import Flow
from instrumented_wrapper.drivers.engine import race_tasks, race_threads
from instrumented_wrapper.drivers.engine.search import Contest, Target, Winner
from instrumented_wrapper.errors import Address
from instrumented_wrapper.failover import A_WHILE, ATTEMPT_TIMEOUT, ClosedMeanwhile, Search, UnderWay

_READING, _WRITING, _OK = pq.PollingStatus.READING, pq.PollingStatus.WRITING, pq.PollingStatus.OK
_Selector: Final[Any] = getattr(selectors, "PollSelector", selectors.DefaultSelector)  # epoll takes three more calls
_NAME_PERIOD: Final = 0.003  # seconds; a name that is being resolved is looked at this often
Parameters = dict[str, Any]
Waits = dict[int, bool]


def parameters_of(info: Any) -> Parameters:
    """Return the libpq parameters of a physical connection whose arguments are unknown."""
    known: Parameters = info.get_parameters()
    known.pop("hostaddr", None)  # psycopg's own lookup of the name: it may be another one by the time of a switch
    return {**known, "password": info.password} if info.password else known


def pinned(parameters: Parameters) -> dict[str, str]:
    """Return the addresses that the app gave for its hosts (``hostaddr``), by name."""
    hosts = str(parameters.get("host") or "").split(",")
    addresses = str(parameters.get("hostaddr") or "").split(",")
    return {h: a for h, a in zip(hosts, addresses, strict=False) if h and a} if len(hosts) == len(addresses) else {}


@dataclass(frozen=True, slots=True)
class Login:
    """How to log in to any server: the app's libpq parameters.

    `asks`: a query is sent in a new session before it is used.
    """

    parameters: Parameters = field(repr=False)
    asks: bool = True

    def conninfo(self, host: Address, hostaddr: str | None, role: str) -> bytes:
        """Return the connection string for one attempt."""
        one = parameters_for(self.parameters, host, role)
        return make_conninfo("", **one, hostaddr=hostaddr).encode()

    @property
    def identity(self) -> Hashable:
        """Return what distinguishes this login; the password itself is not included."""
        return "psycopg", hash(tuple(sorted((name, str(value)) for name, value in self.parameters.items())))


@dataclass(slots=True)
class Attempt:
    """One connection that is being made, or that is asked something."""

    under_way: UnderWay
    pgconn: Any
    until: float
    asks: bool
    status: int = _WRITING
    asked: bool = False
    refusal: Any = None

    def poll(self) -> None:
        """Continue: log in, then query. An endpoint (a pooler, a server that shuts down) may accept a login and serve
        nobody.
        """
        try:
            self.status = self._answered() if self.asked else self.pgconn.connect_poll()
            if self.status == _OK and not self.asked:
                self.pgconn.nonblocking, self.asked = 1, True
                if self.asks:
                    self.ask()
        except psycopg.OperationalError:  # libpq says why
            self.status = pq.PollingStatus.FAILED

    def ask(self) -> None:
        """Send what any server answers that serves statements."""
        self.asked = True
        self.pgconn.send_query(QUESTION.encode())
        self.status = self._answered()

    def _answered(self) -> int:
        if self.pgconn.flush():
            return _WRITING
        self.pgconn.consume_input()
        while not self.pgconn.is_busy():
            if (result := self.pgconn.get_result()) is None:
                return _OK if self.refusal is None else pq.PollingStatus.FAILED
            if result.status != pq.ExecStatus.TUPLES_OK:
                self.refusal = result
        return _READING

    def answer(self, role: str) -> tuple[str, str, bool]:
        """Return what the server or libpq has answered."""
        refusal, said, state = self.refusal, self.pgconn.error_message, b""
        if refusal is not None:
            said, state = refusal.error_message, refusal.error_field(pq.DiagnosticField.SQLSTATE) or b""
        return answer_to(said.decode(errors="replace"), role, state.decode())


class _Race:
    """Attempts under way. Each `step` does what is due and returns the winner, if there is one."""

    def __init__(self, login: Login, target: Target, deadline: float) -> None:
        self.login, self.target = login, target
        self.search = Search(target.hosts, time.monotonic(), deadline, target.first)
        self.attempts: list[Attempt] = []
        self.names: dict[Address, _Resolution] = {}
        self.pinned = pinned(login.parameters)
        limit = login.parameters.get("connect_timeout")
        self.limit = max(2.0, float(limit)) if limit and float(limit) > 0 else ATTEMPT_TIMEOUT

    def step(self, ready: set[int] | None = None) -> Winner | None:
        """Go on with what is ready, start what is due. Returns the PGconn that won, or None.

        Raises:
            NoServer: none answered as wanted in time, or one refused the login for good.
            ClosedMeanwhile: the app has closed its connection.
        """
        if not self.target.is_wanted():
            raise ClosedMeanwhile
        now = time.monotonic()
        for attempt in list(self.attempts):
            if ready is None or attempt.pgconn.socket in ready:
                attempt.poll()
            if attempt.status == _OK:
                return self._won(attempt, now)
            if attempt.status not in (_READING, _WRITING) or now >= attempt.until:
                self._failed(attempt, now)
        for host in self.search.take_due(now):
            self.names[host] = _Resolution(host[0], self.pinned.get(host[0]))
        self._start_resolved(now)
        if self.search.is_over(now):
            raise self.search.give_up(now)
        return None

    def waits(self) -> Waits:
        """Return the descriptors to wait for: True is for writing."""
        return {attempt.pgconn.socket: attempt.status == _WRITING for attempt in self.attempts}

    def seconds(self) -> float:
        """Return how long to wait for them at most."""
        now = time.monotonic()
        pending = [_NAME_PERIOD] if self.names else []
        moments = [attempt.until - now for attempt in self.attempts]
        return max(0.0, min([A_WHILE, self.search.seconds_to_wait(now), *moments, *pending]))

    def close(self) -> None:
        """End all attempts that are under way."""
        for attempt in self.attempts:
            attempt.pgconn.finish()
        self.attempts.clear()

    def _start_resolved(self, now: float) -> None:
        for host in [host for host, name in self.names.items() if name.done]:
            addresses = self.names.pop(host).addresses
            self.search.starting(host, len(addresses))
            for address in addresses:
                self._start(host, address, now)
            if not addresses:
                self.search.failed(host, now, answer="has no address")

    def _start(self, host: Address, address: str | None, now: float) -> None:
        pgconn = pq.PGconn.connect_start(self.login.conninfo(host, address, self.target.role))
        attempt = Attempt(self.search.begin(host, now), pgconn, now + self.limit, self.login.asks)
        self.attempts.append(attempt)
        if pgconn.status == pq.ConnStatus.BAD:
            self._failed(attempt, now)

    def _failed(self, attempt: Attempt, now: float) -> None:
        answer = attempt.answer(self.target.role)
        attempt.pgconn.finish()
        self.attempts.remove(attempt)
        self.search.fail(attempt.under_way, now, answer)

    def _won(self, attempt: Attempt, now: float) -> Winner:
        self.attempts.remove(attempt)
        port = attempt.pgconn.port.decode()
        address = (attempt.pgconn.host.decode(), int(port) if port else None)
        return attempt.pgconn, self.search.won(attempt.under_way, now, address)


class _Resolution:
    """The addresses of a host, looked up anew in a thread of its own: a resolver may block for long."""

    def __init__(self, host: str, address: str | None) -> None:
        self.addresses: list[str | None] = []
        self.done = address is not None or _needs_no_lookup(host)
        if self.done:
            self.addresses = [address]
        else:
            threading.Thread(target=self._look_up, args=(host,), name="name lookup", daemon=True).start()

    def _look_up(self, host: str) -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            self.addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        except OSError:
            self.addresses = []  # counts as a failed attempt: the name is asked for again
        finally:
            self.done = True


def _needs_no_lookup(host: str) -> bool:
    if not host or host.startswith(("/", "@")):
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def contest(login: Login, is_async: bool) -> Contest:
    """Return how libpq connects to several hosts at once, sync or async."""
    if is_async:
        return Contest(partial(_race, login, _select_async), race_tasks.wait_while_wanted, blocks=False)
    return Contest(partial(_race, login, select_ready), race_threads.wait_while_wanted, blocks=True)


def _race(login: Login, select: Callable[[Waits, float], Any], target: Target, deadline: float) -> Flow[Winner]:
    """Try all hosts until one answers as wanted. Returns its PGconn."""
    race = _Race(login, target, deadline)
    try:
        winner = race.step()
        while winner is None:
            winner = race.step((yield partial(select, race.waits(), race.seconds())))
        return winner
    finally:
        race.close()


def select_ready(waits: Waits, seconds: float) -> set[int]:
    """Wait for descriptors, so many seconds; return those that are ready."""
    with _Selector() as selector:
        for descriptor, writing in waits.items():
            selector.register(descriptor, selectors.EVENT_WRITE if writing else selectors.EVENT_READ)
        return {key.fd for key, _ in selector.select(seconds)}


async def _select_async(waits: Waits, seconds: float) -> set[int]:
    loop = asyncio.get_running_loop()
    ready: set[int] = set()
    woken = asyncio.Event()

    def wake(descriptor: int) -> None:
        ready.add(descriptor)
        woken.set()

    timer = loop.call_later(seconds, woken.set)  # not wait_for, which in 3.11 may swallow a cancellation
    try:
        for descriptor, writing in waits.items():
            (loop.add_writer if writing else loop.add_reader)(descriptor, wake, descriptor)
        await woken.wait()
    finally:
        timer.cancel()
        for descriptor, writing in waits.items():
            (loop.remove_writer if writing else loop.remove_reader)(descriptor)
    return ready
