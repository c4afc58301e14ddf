"""Limits that hold whatever a server does: it accepts and never answers, or stops in the middle of a switch."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from instrumented_wrapper import FailoverFailedError
from instrumented_wrapper.drivers.engine.deadlines import bounded
from servers import guard

from .conftest import Holding
from .sides import MANY, Side

SHORT = {"failover_timeout": 1}


def attempts() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "failover"]


def test_nobody_answers(side: Side, cluster, proxy: Holding) -> None:
    connection = side.connect(proxy, options=SHORT)
    proxy.hold()
    proxy.cut()
    with pytest.raises(FailoverFailedError, match="no server took over"):
        side.run(connection, "SELECT 1")
    assert guard.wait_until(lambda: not attempts(), MANY)  # psycopg2's own connect_timeout is two seconds at least
    proxy.release()
    assert side.none_left(cluster.primary)


def test_the_new_server_stops_while_it_is_configured(side: Side, cluster, proxy: Holding) -> None:
    connection = side.connect(proxy, options=SHORT)
    side.run(connection, side.moved_by)
    release = threading.Timer(MANY, proxy.release)
    release.start()
    proxy.hold_at = side.carried
    proxy.cut()
    with pytest.raises(FailoverFailedError, match="could not be configured") as caught:
        side.run(connection, "SELECT 1")
    assert proxy.holds
    assert isinstance(caught.value, side.driver.OperationalError)
    release.cancel()
    proxy.release()
    assert side.none_left(cluster.primary)


def test_only_the_socket_that_was_meant_is_shut() -> None:
    """The number of one that was closed meanwhile may be another one's."""
    ours, theirs = socket.socketpair()
    number = ours.detach()
    with bounded(number, time.monotonic() + 0.05):
        socket.close(number)
        another, end = socket.socketpair()
        assert number in (another.fileno(), end.fileno())
        time.sleep(0.2)  # the moment has passed
        another.send(b"alive")
        assert end.recv(5) == b"alive"
    for one in (theirs, another, end):
        one.close()
