"""Probe servers for which statements wait; if one does not answer, treat its connections as lost.

A frozen server has a live kernel, which acknowledges everything that is sent: only a missing response shows it. One
thread for the whole process samples the calls in flight and sends the probes. Calls themselves do nothing for it: a
long call is one that is seen in flight again and again, without a response in between.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, WeakSet

from instrumented_wrapper import runners
from instrumented_wrapper.drivers import Driver, Flow, NoAnswer, Probe
from instrumented_wrapper.drivers.engine.deadlines import is_same, shut_if_same, silence
from instrumented_wrapper.drivers.registry import driver_of, tracked_as
from instrumented_wrapper.errors import Address

if TYPE_CHECKING:
    from instrumented_wrapper.drivers.engine.record import TrackedConnection

logger = logging.getLogger("instrumented_wrapper")

INTERVAL: Final = 1.0  # seconds between two probes of one server
PROBE_TIMEOUT: Final = 2.0  # seconds that one has to answer
FAILURES: Final = 3  # in a row, after which a server is taken for frozen
_KEPT: Final = 5.0  # seconds that a probe's session is kept while nobody waits
_SHORTEST: Final = 0.05  # seconds between two looks at the calls
_LATE: Final = 0.1  # seconds: this process itself does not get to run


@dataclass(slots=True)
class _Seen:
    """A call that was in flight when the connections were sampled. A lost one is the failover's, until that ends."""

    mark: tuple[int, float]
    since: float
    is_lost: bool = False


class _Server:
    """A server that statements wait for."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.failures, self.asked_at, self.wanted_at = 0, 0.0, 0.0
        self.driver: Driver | None = None
        self.is_async = False
        self.probe: Probe | None = None


class Prober:
    """The watched connections, and what is known about their servers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: WeakSet[TrackedConnection] = WeakSet()
        self._thread: threading.Thread | None = None
        self._seen: WeakKeyDictionary[TrackedConnection, _Seen] = WeakKeyDictionary()
        self._servers: dict[Address, _Server] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = self._reported = False

    def watch(self, record: TrackedConnection) -> None:
        """Watch the calls of a connection from now on."""
        with self._changed:
            self._watched.add(record)
            if self._thread is not None or self._over:
                return
            self._thread = threading.Thread(target=self._run, name="prober", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no more threads, or the interpreter is about to end
                self._thread = None
                self._report("their thread cannot be started")

    def stop(self) -> None:
        """End the thread, and the sessions of its probes; the process waits for a probe that is under way."""
        with self._changed:
            self._over, thread = True, self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join(PROBE_TIMEOUT)

    def silence(self) -> None:
        """In a forked child: the sessions are the parent's."""
        for server in self._servers.values():
            if server.probe is not None:
                silence(server.probe.descriptor)

    # --- the calls -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_done():
            try:
                self._look(time.monotonic())
            except Exception as error:  # noqa: BLE001 - the app is not harmed by it
                self._report(type(error).__name__)

    def _is_done(self) -> bool:
        """Wait for the next sample; return True if no connection is left."""
        with self._changed:
            shortest = min((record.options.probe_after for record in self._watched), default=0.0)
            began, tick = time.monotonic(), min(INTERVAL, max(_SHORTEST, shortest / 2))
            self._changed.wait(tick)
            if time.monotonic() - began > tick + INTERVAL:  # this process was stopped: it knows nothing of the time
                self._forget()
            self._watched -= {record for record in self._watched if _is_gone(record)}
            if self._watched and not self._over:
                return False
            self._close()
            self._thread = None
            return True

    def _forget(self) -> None:
        self._seen.clear()
        for server in self._servers.values():
            server.failures = 0

    def _close(self) -> None:
        for server in self._servers.values():
            self._end(server)
        self._servers.clear()
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def _look(self, now: float) -> None:
        with self._changed:
            records = list(self._watched)
        waiting: dict[Address, list[TrackedConnection]] = {}
        for record in records:
            try:
                waits = self._waits(record, now)
            except Exception as error:  # noqa: BLE001 - the other connections are looked at all the same
                self._report(type(error).__name__)
            else:
                if waits:
                    waiting.setdefault(record.place, []).append(record)
        for address, those in waiting.items():
            server = self._servers.setdefault(address, _Server(address))
            server.wanted_at = now
            if now - server.asked_at >= INTERVAL:
                self._ask(server, those)
        for server in [server for server in self._servers.values() if now - server.wanted_at > _KEPT]:
            self._end(server)
            del self._servers[server.address]

    def _waits(self, record: TrackedConnection, now: float) -> bool:
        """Return True if one call has been under way for longer than the app wants to wait."""
        if not _is_waiting(record):
            self._seen.pop(record, None)
            return False
        mark, seen = _mark(record), self._seen.get(record)
        if seen is None or seen.mark != mark:
            self._seen[record] = seen = _Seen(mark, now)
        return not seen.is_lost and now - seen.since >= record.options.probe_after

    # --- the servers ---------------------------------------------------------------------------------------------

    def _ask(self, server: _Server, waiting: Sequence[TrackedConnection]) -> None:
        server.asked_at = time.monotonic()
        try:
            self._probe(server, waiting[0])
        except NoAnswer:
            self._end(server)
            late = time.monotonic() - server.asked_at > PROBE_TIMEOUT + INTERVAL
            server.failures += not (late or _is_starved())
        except Exception as error:  # noqa: BLE001 - nothing is known, of this server
            self._end(server)
            self._report(type(error).__name__)
        else:
            server.failures = 0
        if server.failures >= FAILURES:
            self._give_up(server, waiting)

    def _probe(self, server: _Server, record: TrackedConnection) -> None:
        """Probe a server, in the existing session or by a login with the arguments of a waiting connection.

        Raises:
            NoAnswer: the server does not answer.
        """
        if server.probe is not None and server.driver is not None:
            self._carry_out(server, server.driver.ask_probe(server.probe, PROBE_TIMEOUT))
        elif (connection := record.connection()) is not None:
            server.driver = driver_of(record)
            server.is_async = server.driver.is_async(connection)
            opening = server.driver.open_probe(connection, server.address, PROBE_TIMEOUT)
            server.probe = self._carry_out(server, opening)

    def _carry_out(self, server: _Server, flow: Flow[Any]) -> Any:
        """Carry out a flow: of an async driver in a loop of this thread's own, so that no loop of the app's waits."""
        if not server.is_async:
            return runners.run(flow)
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(runners.run_async(flow))

    def _end(self, server: _Server) -> None:
        if server.probe is None or server.driver is None:
            return
        with contextlib.suppress(Exception):  # nobody wants it any more
            server.driver.end_probe(server.probe)
        server.probe = None
        if self._loop is not None:
            self._loop.run_until_complete(asyncio.sleep(_SHORTEST))  # transports close in later turns

    def _give_up(self, server: _Server, waiting: Iterable[TrackedConnection]) -> None:
        """Shut the sockets of those that still wait: their calls fail, as those of any lost connection."""
        still = [record for record in waiting if _is_waiting(record) and self._seen[record].mark == _mark(record)]
        for record in still:
            self._seen[record].is_lost = True
            if record.socket is not None:
                shut_if_same(*record.socket)
        if still:
            text = "%s:%s did not answer %d probes: %d connections with a statement under way are taken for lost"
            logger.warning(text, *server.address, server.failures, len(still))

    def _report(self, why: str) -> None:
        if not self._reported:
            self._reported = True
            logger.warning("probe_after has no effect: servers cannot be probed: %s", why)


def _mark(record: TrackedConnection) -> tuple[int, float]:
    """Return what is the same as long as one call is under way."""
    return record.generation, record.last_response_at


def _is_waiting(record: TrackedConnection) -> bool:
    connection = record.connection()
    if connection is None or record.socket is None or not (record.switchable and record.is_waiting(connection)):
        return False
    return is_same(*record.socket)  # it was not lost meanwhile


def _is_gone(record: TrackedConnection) -> bool:
    connection = record.connection()
    return connection is None or record.closed_by_app or tracked_as(connection) is not record


def _is_starved() -> bool:
    """Return True if this process gets so little CPU time that a response may be waiting to be read."""
    began = time.monotonic()
    time.sleep(0.001)
    return time.monotonic() - began > _LATE


_prober = Prober()
_inherited: list[Prober] = []  # of parent processes: their sessions must not be ended by a finaliser here


def watch(record: TrackedConnection) -> None:
    """Have the server of a connection be probed while one of its calls lasts longer than `probe_after`."""
    _prober.watch(record)


def _stop() -> None:
    _prober.stop()  # in a forked child that is its own: the parent's may be locked for ever


def _after_fork_in_child() -> None:
    global _prober
    _prober.silence()
    _inherited.append(_prober)
    _prober = Prober()


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
