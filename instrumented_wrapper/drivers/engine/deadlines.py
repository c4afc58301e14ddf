"""End a call that blocks at a deadline: its socket is shut then, and the call fails.

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

_NUMBERS: Final = count()


class _Watch:
    """The sockets to shut, and when."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int]] = []
        self._sockets: dict[int, tuple[int, int]] = {}  # descriptor, inode
        self._thread: threading.Thread | None = None

    def add(self, descriptor: int, inode: int, deadline: float) -> int:
        number = next(_NUMBERS)
        with self._changed:
            first = self._due[0][0] if self._due else None
            heapq.heappush(self._due, (deadline, number))
            self._sockets[number] = descriptor, inode
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            elif first is None or deadline < first:
                self._changed.notify()
        return number

    def remove(self, number: int) -> None:
        with self._changed:
            self._sockets.pop(number, None)

    def _run(self) -> None:
        with self._changed:
            while True:
                self._changed.wait(self._seconds())
                now = time.monotonic()
                while self._due and (self._due[0][0] <= now or self._due[0][1] not in self._sockets):
                    _, number = heapq.heappop(self._due)
                    if (found := self._sockets.pop(number, None)) is not None:
                        shut_if_same(*found)

    def _seconds(self) -> float | None:
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None


def shut(descriptor: int) -> None:
    """Shut a socket by its descriptor; the driver closes it."""
    _shut(descriptor, None)


def _shut(descriptor: int, inode: int | None) -> None:
    """Shut a socket, only that with this inode unless it is None.

    Another thread may close the descriptor at any moment, and open something else that gets its number: what is looked
    at, and shut, is a duplicate, which nobody else knows.
    """
    with contextlib.suppress(OSError):  # closed meanwhile, or not connected any more
        own = os.dup(descriptor)
        try:
            if inode is None or _inode(own) == inode:
                connection = socket.socket(fileno=own)
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                finally:
                    connection.detach()
        finally:
            os.close(own)


def silence(descriptor: int | None) -> None:
    """In a forked child: give up a socket without a byte to the server, which is still the parent's."""
    if descriptor is not None and descriptor >= 0:
        dead = os.open(os.devnull, os.O_RDWR)
        os.dup2(dead, descriptor)
        os.close(dead)


def is_same(descriptor: int, inode: int) -> bool:
    """Return True if a descriptor is that of the same socket as before."""
    return _inode(descriptor) == inode


def shut_if_same(descriptor: int, inode: int) -> None:
    """Shut a socket, unless it was closed and another one has its descriptor now."""
    _shut(descriptor, inode)


def identity_of(descriptor: int | None) -> tuple[int, int] | None:
    """Return the arguments of `shut_if_same` for a socket; None without a socket."""
    inode = _inode(descriptor)
    return None if descriptor is None or inode is None else (descriptor, inode)


def _inode(descriptor: int | None) -> int | None:
    """Return the inode of a socket; None without one, or if the system does not expose it (Windows)."""
    if descriptor is not None and descriptor >= 0:
        with contextlib.suppress(OSError):  # closed
            return os.fstat(descriptor).st_ino
    return None


_watch = _Watch()


def _after_fork_in_child() -> None:
    global _watch
    _watch = _Watch()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@contextlib.contextmanager
def bounded(descriptor: int | None, deadline: float) -> Iterator[None]:
    """While inside, calls on the socket `descriptor` fail from `deadline` (monotonic seconds) on."""
    if (found := identity_of(descriptor)) is None:
        yield
        return
    number = _watch.add(*found, deadline)
    try:
        yield
    finally:
        _watch.remove(number)
