"""The app closes its connection elsewhere while another thread looks for a server."""

from __future__ import annotations

import threading

import pytest

from servers import guard

from .conftest import Holding
from .sides import MANY, Side


def test_in_another_thread(side: Side, cluster, proxy: Holding) -> None:
    connection = side.connect(proxy)
    errors: list[BaseException] = []

    def use() -> None:
        try:
            side.run(connection, "SELECT 'reached'")
        except BaseException as error:
            errors.append(error)

    before = proxy.connections
    proxy.hold()
    proxy.cut()
    thread = threading.Thread(target=use)
    thread.start()
    assert guard.wait_until(lambda: proxy.connections > before, MANY)
    connection.close()
    thread.join(MANY)  # while nobody answers
    assert not thread.is_alive()
    assert isinstance(errors[0], side.driver.OperationalError)
    proxy.release()
    assert side.none_left(cluster.primary)
    with pytest.raises(side.driver.Error):
        side.run(connection, "SELECT 'reached'")
    assert b"reached" not in proxy.seen("client")
