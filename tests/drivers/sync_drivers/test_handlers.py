"""Handlers of the app's that close connections, or are interrupted."""

from __future__ import annotations

from typing import Any

import pytest

from instrumented_wrapper import FailoverFailedError, SessionStateTransferHandlers

from .conftest import Holding
from .sides import Side

on_close = SessionStateTransferHandlers.set_reset_session_state_on_close_func
on_switch = SessionStateTransferHandlers.set_transfer_session_state_on_switch_func


def interrupted(state: Any, connection: Any) -> bool:
    raise KeyboardInterrupt


def closing(state: Any, connection: Any) -> bool:
    connection.close()
    return False


def test_a_close_that_is_interrupted_closes(side: Side, cluster, proxy: Holding) -> None:
    connection = side.connect(proxy)
    on_close(interrupted)
    with pytest.raises(KeyboardInterrupt):
        connection.close()
    assert side.none_left(cluster.primary)
    with pytest.raises(side.driver.Error):
        side.run(connection, "SELECT 1")


def test_a_reset_handler_that_closes(side: Side, cluster, proxy: Holding) -> None:
    connection = side.connect(proxy)
    side.run(connection, side.moved_by)
    on_close(closing)
    connection.close()
    assert side.none_left(cluster.primary)


def test_a_transfer_handler_that_closes_the_new_one(side: Side, cluster, proxy: Holding) -> None:
    connection = side.connect(proxy)
    on_switch(closing)
    proxy.cut()
    with pytest.raises(FailoverFailedError):
        side.run(connection, "SELECT 1")
    assert side.none_left(cluster.primary)


def test_a_transfer_handler_that_closes_the_apps(side: Side, cluster, proxy: Holding) -> None:
    connection = side.connect(proxy)
    on_switch(lambda state, new: bool(connection.close()))
    proxy.cut()
    with pytest.raises(FailoverFailedError, match="close"):
        side.run(connection, "SELECT 1")
    assert side.none_left(cluster.primary)
    with pytest.raises(side.driver.Error):
        side.run(connection, "SELECT 1")
