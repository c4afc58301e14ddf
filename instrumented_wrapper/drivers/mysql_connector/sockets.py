"""Find the socket of a connection of the C extension, which exposes none, among those that the process has open.

The time limits need it: C code that waits for a server ends only if its socket is shut. Without it a `close()` that
resets waits for a frozen server without end (`test_close_on_a_frozen_server`). Where it is not certain (another thread
connects to the same server at that moment, or the system has no list of open files), it is taken as unknown.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Callable
from typing import Any, Final

NAME: Final = "_instrumented_wrapper_socket"  # in a connection's ``__dict__``: number and inode
_LIST: Final = "/proc/self/fd"


def finding(original: Callable[[Any], None]) -> Callable[[Any], None]:
    """Make the method that opens a connection keep which socket it has opened."""

    def _open_connection(self: Any) -> None:
        before = _sockets()
        self.__dict__[NAME] = None
        original(self)
        port = None if self._unix_socket else int(self._port)
        new = [(number, inode) for inode, number in _sockets().items() if inode not in before and _goes(number, port)]
        self.__dict__[NAME] = new[0] if len(new) == 1 else None

    return _open_connection


def number_of(connection: Any) -> int | None:
    """Return the number of its socket; None where it is not known, or has been closed."""
    number, inode = connection.__dict__.get(NAME) or (-1, 0)
    with contextlib.suppress(OSError):
        if number >= 0 and os.fstat(number).st_ino == inode:
            return int(number)
    return None


def _sockets() -> dict[int, int]:
    """Return the numbers of the sockets that are open, by their inodes, which are not used twice at a time."""
    found: dict[int, int] = {}
    with contextlib.suppress(OSError):  # a system without such a list
        for name in os.listdir(_LIST):
            with contextlib.suppress(OSError):  # closed meanwhile
                status = os.fstat(int(name))
                if stat.S_ISSOCK(status.st_mode):
                    found[status.st_ino] = int(name)
    return found


def _goes(number: int, port: int | None) -> bool:
    """Tell whether it is connected, to that port if it has ports."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as copy:
        peer = copy.getpeername()
        return peer[1] == port if isinstance(peer, tuple) else port is None
    return False
