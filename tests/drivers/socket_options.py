"""What the kernel is told about a socket whose descriptor is another's."""

import os
import socket


def keepalive(descriptor: int) -> tuple[int, ...]:
    """Return whether it is on, after how many idle seconds, how many seconds between probes, and how many of them."""
    names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        is_on = copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        return is_on, *(copy.getsockopt(socket.IPPROTO_TCP, name) for name in names)


def user_timeout(descriptor: int) -> int:
    """Return after how many milliseconds without an acknowledgement it fails; 0: the kernel's own time."""
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        return copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
