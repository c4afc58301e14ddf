"""The deadline of a driver that blocks: its socket is shut when the moment comes."""

import os
import socket
import time
from pathlib import Path

import pytest

from instrumented_wrapper.drivers.engine import deadlines
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


def test_a_descriptor_that_is_given_away_meanwhile_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread closes the socket just after it was looked at, and opens one that gets its number."""
    mine, its_peer = socket.socketpair()
    others, peer = socket.socketpair()
    with mine, its_peer, others, peer:
        descriptor, inode = deadlines.identity_of(mine.fileno()) or (0, 0)
        look = os.fstat

        def then_given_away(looked_at: int) -> os.stat_result:
            found = look(looked_at)
            os.dup2(others.fileno(), descriptor)
            return found

        monkeypatch.setattr(os, "fstat", then_given_away)
        deadlines.shut_if_same(descriptor, inode)
        monkeypatch.undo()
        others.sendall(b"whole")
        assert peer.recv(5) == b"whole"


def test_what_is_no_socket_costs_no_descriptor(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        free = os.dup(file.fileno())
        os.close(free)
        deadlines.shut(file.fileno())
        assert os.dup(file.fileno()) == free
        os.close(free)
