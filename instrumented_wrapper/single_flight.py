"""Decide who searches when many connections are lost at once, and when each may connect to the server that was found.

Pure: no driver, no socket, no clock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from copy import copy
from typing import Final, TypeVar

from instrumented_wrapper.errors import Address
from instrumented_wrapper.failover import NoServer

Result = TypeVar("Result")

AT_ONCE: Final = 8  # connections that log in to one server at a time, of those that were lost together


class Interrupted(Exception):
    """The leader of the search was interrupted; nothing is known about the servers."""


class Flight(Future[Address]):
    """A search that one connection leads, in which thread, and where.

    Attributes:
        followers: how many connections wait for what it finds, or connect to that now.
    """

    def __init__(self, mark: object) -> None:
        super().__init__()
        self.thread, self.mark, self.followers = threading.get_ident(), mark, 0

    def has_found(self) -> bool:
        """Return True if a server was found."""
        return self.done() and self.exception() is None


class Turn(Future[None]):
    """The permission to connect to a server: its result is there as soon as the turn begins."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()


def result_of(future: Future[Result]) -> Result:
    """Return the result of a `Flight` or a `Turn` that is done.

    An error is raised as a copy: the original would keep the frames of its followers alive, and they the future.
    """
    if (error := future.exception()) is not None:
        raise copy(error)
    return future.result()


class _Queue:
    """Those that connect to one server now, and those that wait for their turn."""

    def __init__(self) -> None:
        self.inside: list[Turn] = []
        self._waiting: deque[Turn] = deque()

    def enter(self, turn: Turn, blocks: bool) -> None:
        """Begin the turn now or later.

        `blocks`: its thread does nothing else meanwhile, so that it must not wait for tasks of an event loop there.
        """
        if blocks and any(other.thread == turn.thread for other in (*self.inside, *self._waiting)):
            self._begin(turn)
            return
        self._waiting.append(turn)
        self._go_on()

    def leave(self, turn: Turn, found: bool) -> None:
        """End a turn, or give it up. If the server was not `found`, waiting followers get `Interrupted`."""
        if turn in self._waiting:
            self._waiting.remove(turn)
        elif turn in self.inside:
            self.inside.remove(turn)
            self._go_on() if found else self._send_away()

    def _begin(self, turn: Turn) -> None:
        self.inside.append(turn)
        turn.set_result(None)

    def _go_on(self) -> None:
        while self._waiting and len(self.inside) < AT_ONCE:
            self._begin(self._waiting.popleft())

    def _send_away(self) -> None:
        while self._waiting:
            self._waiting.popleft().set_exception(Interrupted())


class SingleFlight:
    """Connections that are lost together share one search: the first one looks, the others wait for what it finds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._searches: dict[Hashable, Flight] = {}
        self._queues: dict[Address, _Queue] = {}

    def join(self, what: Hashable, mark: object = None) -> Flight | None:
        """Return the search for `what` that others follow, or None: then the caller must be `leading` it.

        Whoever follows calls `leave` in the end. `mark`: where it then is led, as telemetry marks it.
        """
        with self._lock:
            if (search := self._searches.get(what)) is None:
                self._searches[what] = Flight(mark)
            else:
                search.followers += 1
            return search

    def leave(self, what: Hashable, search: Flight, in_vain: bool) -> None:
        """Follow a search no more; `in_vain`: nothing was found there, so that nobody else follows it."""
        with self._lock:
            search.followers -= 1
            if search.done() and (in_vain or not search.followers):
                self._drop(what, search)

    def _drop(self, what: Hashable, search: Flight) -> None:
        if self._searches.get(what) is search:
            del self._searches[what]

    def is_led_here(self, search: Flight) -> bool:
        """Return True if the calling thread leads `search`, so that it must not block until its end."""
        return search.thread == threading.get_ident() and not search.done()

    @contextmanager
    def leading(self, what: Hashable) -> Iterator[Callable[[Address], None]]:
        """Lead the search for `what`: yield the function to call with the result.

        Followers get a failure too. If it proves nothing about the servers, one of them leads the next search.
        While some of them connect to the server that was found, connections that are lost then follow as well.
        """
        search = self._searches[what]
        try:
            yield search.set_result
        except NoServer as error:
            # another one: this one keeps the frames of whoever leads, and they keep `search`
            search.set_exception(NoServer(error.attempts, error.permanent, error.answers, error.tried))
            raise
        finally:
            with self._lock:
                if not (search.has_found() and search.followers):
                    self._drop(what, search)
            if not search.done():
                search.set_exception(Interrupted())

    @contextmanager
    def following(self, address: Address, blocks: bool = True) -> Iterator[Turn]:
        """Connect to a server that another connection found, `AT_ONCE` of them at a time.

        Wait for the turn that this gives, then connect. Where the server is gone again, those that still wait get
        `Interrupted`, and look for another one. `blocks`: waiting blocks the thread.
        """
        turn = Turn()
        with self._lock:
            self._queues.setdefault(address, _Queue()).enter(turn, blocks)
        found = True  # whatever else happens says nothing of the server
        try:
            yield turn
        except NoServer:
            found = False
            raise
        finally:
            self._leave(address, turn, found)

    def _leave(self, address: Address, turn: Turn, found: bool) -> None:
        with self._lock:
            if (queue := self._queues.get(address)) is None:  # it got Interrupted, or is from before a fork
                return
            queue.leave(turn, found)
            if not queue.inside:
                del self._queues[address]

    def forget(self) -> None:
        """In a forked child: the searches of the parent are not ours."""
        self.__init__()  # type: ignore[misc]
