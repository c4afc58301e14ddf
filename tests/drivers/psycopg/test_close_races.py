"""psycopg: `close()` in another thread, at many moments of a switch."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import psycopg

from servers import Proxy

from ..side import dsn
from ..watch import Watch, eventually

NAME = "interrupted"
ON = {"failover": "on"}


def test_close_races_with_the_graft(watch: Watch, proxy: Proxy) -> None:
    """Close at many moments of a switch, from before it to after it: never a session that nobody owns."""
    for pause in (0, 0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.02):
        connection = psycopg.connect(dsn(proxy, application_name=NAME), autocommit=True, instrumented_wrapper=ON)
        proxy.cut()
        thread = threading.Thread(target=_quietly, args=(connection,))
        thread.start()
        time.sleep(pause)  # the moment is what is tried
        connection.close()
        thread.join(20)
        assert connection.closed
        assert not thread.is_alive()
    assert eventually(lambda: not watch.sessions(NAME))


def _quietly(connection: psycopg.Connection) -> None:
    with suppress(psycopg.Error):  # the app closed it
        connection.execute("SELECT 1")
