"""Have the kernel notice that a server's host has vanished from the network: a socket's keepalive and its user timeout.

Keepalive ends a wait for an answer, ``TCP_USER_TIMEOUT`` (RFC 5482) a wait for data to be acknowledged; neither covers
the other. The user timeout also ends a connection whose server lives but reads nothing for so long. Only what sends
without waiting for answers gets there: COPY, pipelines, LOAD DATA LOCAL. Meanwhile `wait_for_reader` takes it away.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Final

__all__ = ["SUPPORTED", "detect_within", "wait_for_reader"]

_TCP: Final = socket.IPPROTO_TCP
_NAMES: Final = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
SUPPORTED: Final = all(hasattr(socket, name) for name in _NAMES)  # Linux; elsewhere the kernel's own times hold
_UNANSWERED: Final = 3  # probes, a fifth of the time apart


def detect_within(descriptor: int, seconds: float, *, alive_by_default: bool = False) -> int:
    """Have a connected socket fail once its peer has answered nothing for `seconds`; 0 leaves it alone.

    So does a time that the app has set itself. One second is the shortest that the kernel knows.

    Returns the user timeout, in milliseconds; 0 where the socket is left alone.

    Args:
        descriptor: of the socket; it stays the driver's.
        seconds: after which a host is taken for vanished.
        alive_by_default: the driver turns keepalive on, so that one without it is the app's wish.
    """
    if not (SUPPORTED and seconds > 0):
        return 0
    with contextlib.suppress(OSError), _borrowed(descriptor) as borrowed:  # lost already: the next look finds it
        if borrowed.family in (socket.AF_INET, socket.AF_INET6) and not _is_chosen(borrowed, alive_by_default):
            return _set(borrowed, seconds)
    return 0


def _times(seconds: float) -> tuple[int, ...]:
    """Return the values of the options that `_NAMES` lists."""
    between = max(1, round(seconds / 5))
    idle = max(1, round(seconds) - _UNANSWERED * between)
    return idle, between, _UNANSWERED, max(1000, int(seconds * 1000))


def _set(borrowed: socket.socket, seconds: float) -> int:
    times = _times(seconds)
    borrowed.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in zip(_NAMES, times, strict=True):
        borrowed.setsockopt(_TCP, getattr(socket, name), value)
    return times[-1]


def _is_chosen(borrowed: socket.socket, alive_by_default: bool) -> bool:
    """Return True if the app has set one of these itself: the value is neither a new socket's nor ours."""
    if alive_by_default and not borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        return True
    present = _present(borrowed)
    with socket.socket(borrowed.family) as fresh:
        return present not in (_present(fresh), _times(present[-1] / 1000))


def _present(sock: socket.socket) -> tuple[int, ...]:
    return tuple(sock.getsockopt(_TCP, getattr(socket, name)) for name in _NAMES)


def wait_for_reader(descriptor: int, milliseconds: int) -> None:
    """Set the user timeout of a socket; 0: the server may leave unread what it is sent for as long as it wants."""
    with contextlib.suppress(OSError), _borrowed(descriptor) as borrowed:  # closed, or lost: nothing is waited for
        borrowed.setsockopt(_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """Yield a socket object for the descriptor of another one.

    After ``socket.setdefaulttimeout`` Python makes the socket of each new object non-blocking.
    """
    blocks = os.get_blocking(descriptor)
    borrowed = socket.socket(fileno=descriptor)
    try:
        if os.get_blocking(descriptor) != blocks:
            os.set_blocking(descriptor, blocks)
        yield borrowed
    finally:
        borrowed.detach()
