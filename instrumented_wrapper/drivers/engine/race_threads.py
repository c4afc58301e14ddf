"""Connect to several hosts at once in threads, and wait for another thread that does: for drivers whose calls block.

A thread that nobody waits for any more closes its connection.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from traceback import clear_frames
from typing import Any, TypeVar

from instrumented_wrapper.drivers import Flow
from instrumented_wrapper.drivers.engine.race import Ended, Opening, race
from instrumented_wrapper.drivers.engine.search import Contest, Target, Winner
from instrumented_wrapper.errors import Address
from instrumented_wrapper.failover import A_WHILE, ClosedMeanwhile, UnderWay
from instrumented_wrapper.single_flight import result_of

Result = TypeVar("Result")


class _Threads:
    """Attempts, each in a thread of its own."""

    def __init__(self, opening: Opening) -> None:
        self._opening, self._ended = opening, SimpleQueue[Ended]()
        self._lock, self._over = threading.Lock(), False

    def start(self, attempt: UnderWay, role: str, seconds: float) -> None:
        """Begin to connect."""
        threading.Thread(target=self._attempt, args=(attempt, role, seconds), name="failover", daemon=True).start()

    def _attempt(self, attempt: UnderWay, role: str, seconds: float) -> None:
        connection, error = None, None
        if self._over:  # nobody waits for it any more: the thread began late
            return
        try:
            connection = self._opening.open(attempt.address, role, seconds)
        except BaseException as failure:  # noqa: BLE001 - whoever waits for it gets it
            clear_frames(failure.__traceback__)  # errors of some drivers keep themselves, and these frames
            error = failure.with_traceback(None)  # this frame is in it
        with self._lock:
            if not self._over:
                self._ended.put(Ended(attempt, connection, error))
                return
        if connection is not None:
            self._opening.close(connection)

    def next(self, seconds: float) -> Ended | None:
        """Wait for a thread."""
        try:
            return self._ended.get(timeout=seconds)
        except Empty:
            return None

    def close(self) -> None:
        """Let each thread close its connection from now on, and close those that were not taken."""
        with self._lock:
            self._over, self._opening = True, self._opening._replace(open=_too_late)
        while (ended := self.next(0)) is not None:
            if ended.connection is not None:
                self._opening.close(ended.connection)


def _too_late(host: Address, role: str, seconds: float) -> Any:
    """Replace the function that opens connections, which holds the app's connection: frames of an error may keep the
    race.

    Raises:
        ClosedMeanwhile: the connection is no longer wanted.
    """
    raise ClosedMeanwhile


def contest(opening: Opening) -> Contest:
    """Return how to connect with `opening` to several hosts at once, in threads."""

    def race_in_threads(target: Target, deadline: float) -> Flow[Winner]:
        return race(_Threads(opening), opening, target, deadline)

    return Contest(race_in_threads, wait_while_wanted, blocks=True)


def once(opening: Opening, address: Address, role: str, seconds: float) -> Any:
    """Connect to one host, once.

    Raises:
        TimeoutError: there is no answer within so many seconds.
        Exception: the driver's.
    """
    attempts = _Threads(opening)
    attempts.start(UnderWay(address, time.monotonic()), role, seconds)
    try:
        ended = attempts.next(seconds)
    finally:
        attempts.close()
    if ended is None:
        raise TimeoutError
    if ended.error is not None:
        raise ended.error
    return ended.connection


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
