"""The deadline of a driver that blocks: its socket is shut when the moment comes."""

import socket
import time

from instrumented_wrapper.drivers.engine.deadlines import bounded


def test_the_socket_is_shut_when_the_moment_has_come() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, bounded(ours.fileno(), time.monotonic() + 0.05):
        assert theirs.recv(1) == b""  # waits for it


def test_only_the_socket_that_was_meant_is_shut() -> None:
    """The number of one that was closed meanwhile may be another one's."""
    ours, theirs = socket.socketpair()
    number = ours.detach()
    beside, its_end = socket.socketpair()  # shut in the same moment, and later: what tells that it has passed
    with bounded(number, time.monotonic() + 0.05):
        socket.close(number)
        another, end = socket.socketpair()
        assert number in (another.fileno(), end.fileno())
        with bounded(beside.fileno(), time.monotonic() + 0.1):
            assert its_end.recv(1) == b""
        another.send(b"alive")
        assert end.recv(5) == b"alive"
    for one in (theirs, another, end, beside, its_end):
        one.close()
