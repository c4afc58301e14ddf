"""How long a call of a driver that blocks may take: when the time is up its socket is shut, and the call fails.

One thread for the whole process watches the moments; a call that is in time costs a lock and an entry in a list.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import socket
import threading
import time
from collections.abc import Iterator
from itertools import count
from typing import Final

__all__ = ["bounded", "shut"]

_NUMBERS: Final = count()


class _Watch:
    """What is to be shut, and when."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int]] = []
        self._descriptors: dict[int, int] = {}
        self._thread: threading.Thread | None = None

    def add(self, descriptor: int, deadline: float) -> int:
        number = next(_NUMBERS)
        with self._changed:
            first = self._due[0][0] if self._due else None
            heapq.heappush(self._due, (deadline, number))
            self._descriptors[number] = descriptor
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="bounds", daemon=True)
                self._thread.start()
            elif first is None or deadline < first:
                self._changed.notify()
        return number

    def remove(self, number: int) -> None:
        with self._changed:
            self._descriptors.pop(number, None)

    def _run(self) -> None:
        with self._changed:
            while True:
                self._changed.wait(self._seconds())
                now = time.monotonic()
                while self._due and (self._due[0][0] <= now or self._due[0][1] not in self._descriptors):
                    _, number = heapq.heappop(self._due)
                    if (descriptor := self._descriptors.pop(number, None)) is not None:
                        shut(descriptor)

    def _seconds(self) -> float | None:
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None


def shut(descriptor: int) -> None:
    """Shut a socket whose object we do not have; it stays the driver's to close."""
    with contextlib.suppress(OSError):  # closed meanwhile, or not connected any more
        connection = socket.socket(fileno=os.dup(descriptor))
        try:
            connection.shutdown(socket.SHUT_RDWR)
        finally:
            connection.close()


_watch = _Watch()


def _after_fork_in_child() -> None:
    global _watch
    _watch = _Watch()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@contextlib.contextmanager
def bounded(descriptor: int | None, deadline: float) -> Iterator[None]:
    """While inside, calls on the socket `descriptor` fail from `deadline` (monotonic seconds) on."""
    if descriptor is None or descriptor < 0:
        yield
        return
    number = _watch.add(descriptor, deadline)
    try:
        yield
    finally:
        _watch.remove(number)
