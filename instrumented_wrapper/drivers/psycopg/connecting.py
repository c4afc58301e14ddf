"""How a connection was asked for, and how a new one is found: all hosts at once, each again at its own pace.

Uses psycopg's public ``pq`` interface to libpq; `failover.Search` decides when to ask whom.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from instrumented_wrapper.databases.postgresql.answers import QUESTION, answer_to
from instrumented_wrapper.errors import Address
from instrumented_wrapper.failover import A_WHILE, ATTEMPT_TIMEOUT, Attempt, ClosedMeanwhile, Found, NoServer, Search

__all__ = ["Target", "hosts_of", "parameters_of", "race", "race_async"]

_READING, _WRITING, _OK = pq.PollingStatus.READING, pq.PollingStatus.WRITING, pq.PollingStatus.OK
_NAME_PERIOD: Final = 0.003  # seconds; a name that is being resolved is looked at this often
_OURS_TO_CHOOSE: Final = ("host", "hostaddr", "port", "target_session_attrs", "load_balance_hosts")
Parameters = dict[str, Any]
Waits = dict[int, bool]


def hosts_of(parameters: Parameters) -> tuple[Address, ...]:
    """Return the hosts that libpq parameters name, in their order; empty where libpq finds one by itself."""
    host = parameters.get("host") or parameters.get("hostaddr") or os.environ.get("PGHOST") or ""
    if not host:
        return ()
    hosts = str(host).split(",")
    ports = str(parameters.get("port") or os.environ.get("PGPORT") or "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return tuple((name, int(port) if port else None) for name, port in zip(hosts, ports, strict=False))


def parameters_of(info: Any) -> Parameters:
    """Return the libpq parameters of a physical connection, where the app's own arguments are not known."""
    known: Parameters = info.get_parameters()
    known.pop("hostaddr", None)  # psycopg's own lookup of the name: it may be another one by the time of a switch
    return {**known, "password": info.password} if info.password else known


def asked_for(parameters: Parameters) -> str:
    """Return the kind of server that the app asks for (``target_session_attrs``), or an empty string."""
    return str(parameters.get("target_session_attrs") or os.environ.get("PGTARGETSESSIONATTRS") or "")


def pinned(parameters: Parameters) -> dict[str, str]:
    """Return the addresses that the app gave for its hosts (``hostaddr``), by name."""
    hosts = str(parameters.get("host") or "").split(",")
    addresses = str(parameters.get("hostaddr") or "").split(",")
    return {h: a for h, a in zip(hosts, addresses, strict=False) if h and a} if len(hosts) == len(addresses) else {}


@dataclass(frozen=True, slots=True)
class Target:
    """What is looked for: parameters of the app, hosts to ask, the kind of server that will do; and if it still is.

    `asks`: a new session is asked something before it is taken.
    """

    parameters: Parameters = field(repr=False)
    hosts: tuple[Address, ...]
    wanted: str
    is_wanted: Callable[[], bool] = field(repr=False, compare=False)
    asks: bool = True

    def conninfo(self, host: Address, hostaddr: str | None) -> bytes:
        """Return the connection string for one attempt."""
        chosen = {name: value for name, value in self.parameters.items() if name not in _OURS_TO_CHOOSE}
        port = host[1] or _single(self.parameters.get("port"))
        named = {"host": host[0] or None, "hostaddr": hostaddr, "port": port, "target_session_attrs": self.wanted}
        return make_conninfo("", **chosen, **named).encode()

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes two searches the same: a refused login is an answer to these parameters only."""
        said = tuple(sorted((name, str(value)) for name, value in self.parameters.items()))
        return self.hosts, self.wanted, hash(said)  # the password itself is not kept


def _single(port: Any) -> Any:
    return None if port is None or "," in str(port) else port


@dataclass(slots=True)
class _Attempt:
    host: Address
    pgconn: Any
    started: float
    until: float
    asks: bool
    status: int = _WRITING
    asked: bool = False
    refusal: Any = None

    def poll(self) -> None:
        """Go on: log in, then ask. An endpoint may take a login and then serve nobody (a pooler, a shutdown)."""
        try:
            self.status = self._answered() if self.asked else self.pgconn.connect_poll()
            if self.status == _OK and not self.asked:
                self.pgconn.nonblocking, self.asked = 1, True
                if self.asks:
                    self.pgconn.send_query(QUESTION.encode())
                    self.status = self._answered()
        except psycopg.OperationalError:  # libpq says why
            self.status = pq.PollingStatus.FAILED

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

    def answer(self, wanted: str) -> tuple[str, str, bool]:
        """Return what the server or libpq has answered."""
        refusal, said, state = self.refusal, self.pgconn.error_message, b""
        if refusal is not None:
            said, state = refusal.error_message, refusal.error_field(pq.DiagnosticField.SQLSTATE) or b""
        return answer_to(said.decode(errors="replace"), wanted, state.decode())


class _Race:
    """Attempts under way. Each `step` does what is due and returns the winner, if there is one."""

    def __init__(self, target: Target, search: Search) -> None:
        self.target, self.search = target, search
        self.attempts: list[_Attempt] = []
        self.names: dict[Address, _Resolution] = {}
        self.pinned = pinned(target.parameters)
        limit = target.parameters.get("connect_timeout")
        self.limit = max(2.0, float(limit)) if limit and float(limit) > 0 else ATTEMPT_TIMEOUT

    def step(self, ready: set[int] | None = None) -> Any:
        """Go on with what is ready, start what is due. Returns the PGconn that won, or None."""
        if not self.target.is_wanted():
            raise ClosedMeanwhile
        now = time.monotonic()
        for attempt in list(self.attempts):
            if ready is None or attempt.pgconn.socket in ready:
                attempt.poll()
            if attempt.status == _OK:
                self.attempts.remove(attempt)
                self._told(attempt, now, "connected")
                return attempt.pgconn
            if attempt.status not in (_READING, _WRITING) or now >= attempt.until:
                self._failed(attempt, now)
        for host in self.search.take_due(now):
            self.names[host] = _Resolution(host[0], self.pinned.get(host[0]))
        self._start_resolved(now)
        if self.search.is_over(now):
            self.abandon(now)
            raise NoServer(self.search.attempts, self.search.permanent, self.search.answers, self.search.tried)
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

    def abandon(self, now: float) -> None:
        """Say of the attempts under way that nobody waits for them any more."""
        for attempt in self.attempts:
            self._told(attempt, now, "abandoned")

    def _told(self, attempt: _Attempt, now: float, outcome: str) -> None:
        self.search.tried.append(Attempt(attempt.host, attempt.started, now - attempt.started, outcome))

    def _start_resolved(self, now: float) -> None:
        for host in [host for host, name in self.names.items() if name.done]:
            addresses = self.names.pop(host).addresses
            self.search.starting(host, len(addresses))
            for address in addresses:
                self._start(host, address, now)
            if not addresses:
                self.search.failed(host, now, answer="has no address")

    def _start(self, host: Address, address: str | None, now: float) -> None:
        pgconn = pq.PGconn.connect_start(self.target.conninfo(host, address))
        attempt = _Attempt(host, pgconn, now, now + self.limit, self.target.asks)
        self.attempts.append(attempt)
        if pgconn.status == pq.ConnStatus.BAD:
            self._failed(attempt, now)

    def _failed(self, attempt: _Attempt, now: float) -> None:
        outcome, answer, permanent = attempt.answer(self.target.wanted)
        attempt.pgconn.finish()
        self.attempts.remove(attempt)
        self._told(attempt, now, outcome)
        self.search.failed(attempt.host, now, permanent, answer)


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


def race(target: Target, deadline: float) -> tuple[Any, Found]:
    """Ask all hosts until one answers as wanted. Returns its PGconn.

    Raises:
        NoServer: none did until `deadline`, or one refused the login for good.
        ClosedMeanwhile: the app has closed its connection.
    """
    contest = _new_race(target, deadline)
    try:
        winner = contest.step()
        while winner is None:
            winner = contest.step(_select(contest.waits(), contest.seconds()))
        return _won(contest, winner)
    finally:
        contest.close()


async def race_async(target: Target, deadline: float) -> tuple[Any, Found]:
    """Do as `race` does, while the event loop goes on."""
    contest = _new_race(target, deadline)
    try:
        winner = contest.step()
        while winner is None:
            winner = contest.step(await _select_async(contest.waits(), contest.seconds()))
        return _won(contest, winner)
    finally:
        contest.close()


def _new_race(target: Target, deadline: float) -> _Race:
    return _Race(target, Search(target.hosts or (("", None),), time.monotonic(), deadline))


def _won(contest: _Race, pgconn: Any) -> tuple[Any, Found]:
    port = pgconn.port.decode()
    address = (pgconn.host.decode(), int(port) if port else None)
    contest.abandon(time.monotonic())
    return pgconn, Found(address, contest.search.attempts, tuple(contest.search.tried))


def _select(waits: Waits, seconds: float) -> set[int]:
    with selectors.DefaultSelector() as selector:
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
