"""The socket of a connection of the C extension, which exposes none.

The time limits and ``detection_timeout`` need it: C code that waits for a server ends only if its socket is shut.
Without it a `close()` that resets waits for a frozen server without end (`test_close_on_a_frozen_server`). An object of
the extension begins with the C library's ``MYSQL``, and that with ``NET``, whose ``fd`` mysql.h exposes to drivers of
other languages. What is there is believed only if it is a socket that is connected to the server of the connection.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Callable
from typing import Any, Final

from instrumented_wrapper.drivers.engine.deadlines import identity_of

NAME: Final = "_instrumented_wrapper_socket"  # in a connection's ``__dict__``: descriptor and inode
_PLACE: Final = object.__basicsize__ + 5 * ctypes.sizeof(ctypes.c_void_p)  # of ``fd``, after five pointers of ``NET``


def finding(original: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wrap the method that opens a connection: record the socket that it opens."""

    def _open_connection(self: Any) -> None:
        original(self)
        descriptor = _read(self._cmysql)
        port = None if self._unix_socket else int(self._port)
        self.__dict__[NAME] = identity_of(descriptor) if _is_connected(descriptor, port) else None

    return _open_connection


def number_of(connection: object) -> int | None:
    """Return the descriptor of the socket; None if it is unknown or closed."""
    known: tuple[int, int] | None = connection.__dict__.get(NAME)
    return known[0] if known is not None and identity_of(known[0]) == known else None


def _read(handle: object) -> int:
    if type(handle).__basicsize__ < _PLACE + ctypes.sizeof(ctypes.c_int):
        return -1
    return int(ctypes.c_int.from_address(id(handle) + _PLACE).value)


def _is_connected(descriptor: int, port: int | None) -> bool:
    """Return True for a socket that is connected to that port; with None, for one without a port.

    After ``socket.setdefaulttimeout`` Python makes the socket of each new object non-blocking.
    """
    with contextlib.suppress(OSError, OverflowError):
        blocks = os.get_blocking(descriptor)
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            os.set_blocking(descriptor, blocks)
            peer = copy.getpeername()
            return peer[1] == port if isinstance(peer, tuple) else port is None
    return False
