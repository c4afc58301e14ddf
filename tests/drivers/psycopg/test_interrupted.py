"""What comes between a connection and its switch: close() elsewhere, Ctrl-C, cancellation."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress

import psycopg
import pytest

from servers import Proxy

from ..side import dsn
from ..watch import Watch, eventually

NAME = "interrupted"
ON = {"failover": "on"}


def stall(proxy: Proxy) -> int:
    """Lose all connections; new ones are accepted and get no answer. Returns how many there were."""
    proxy.hold()
    proxy.cut()
    return proxy.connections


def searching(proxy: Proxy, before: int) -> bool:
    return eventually(lambda: proxy.connections > before)


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


APP = """
    import sys
    import instrumented_wrapper, psycopg
    instrumented_wrapper.instrument()
    connection = psycopg.connect(sys.argv[1], instrumented_wrapper={"failover": "on"})
    cursor = connection.execute("SELECT 1")
    if sys.argv[2] == "idle":
        connection.commit()
    print("ready")
    sys.stdin.readline()
    try:
        cursor.execute("SELECT 'reached after the interrupt'")
    except BaseException as error:
        print(type(error).__name__, connection.closed)
    for use in (connection.execute, cursor.execute):
        try:
            use("SELECT 'reached after the interrupt'")
        except psycopg.OperationalError as error:
            print("refused")
    connection.close()
"""


@pytest.mark.parametrize("autocommit", [True, False])
def test_cancelled_in_a_switch(watch: Watch, proxy: Proxy, autocommit: bool) -> None:
    async def main() -> None:
        connection = await psycopg.AsyncConnection.connect(
            dsn(proxy, application_name=NAME), autocommit=autocommit, instrumented_wrapper=ON
        )
        cursor = await connection.execute(watch.insert("one"))
        before = stall(proxy)
        task = asyncio.create_task(cursor.execute(watch.insert("two")))
        assert await asyncio.to_thread(eventually, lambda: proxy.connections > before)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task  # while nobody answers
        proxy.release()
        assert connection.closed
        for use in (cursor.execute, connection.execute):
            with pytest.raises(psycopg.OperationalError):
                await use(watch.insert("three"))
        with pytest.raises(psycopg.OperationalError):
            await connection.commit()

    asyncio.run(main())
    assert watch.words() == (["one"] if autocommit else [])
    assert not {b"two", b"three"} & set(proxy.seen("client").replace(b"'", b" ").split())
    assert eventually(lambda: not watch.sessions(NAME))


def test_cancelled_while_a_demoted_server_is_left(watch: Watch, proxy: Proxy) -> None:
    """The old session is alive there: it must end with the switch."""
    standby = watch.cluster.standby
    live = f"SELECT pid FROM pg_stat_activity WHERE application_name = '{NAME}'"
    options = {"failover": "on", "failover_hosts": f"{proxy.host}:{proxy.port}"}

    async def main() -> None:
        conninfo = dsn(standby, application_name=NAME)
        connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True, instrumented_wrapper=options)
        cursor = await connection.execute("SELECT 1")
        proxy.hold()
        task = asyncio.create_task(connection.execute(watch.insert("never")))
        assert await asyncio.to_thread(eventually, lambda: proxy.connections)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert connection.closed
        with pytest.raises(psycopg.OperationalError):
            await cursor.execute("SELECT 1")

    watch.cluster.wait_streaming()
    asyncio.run(main())
    proxy.release()
    assert eventually(lambda: not standby.sql(live))
    assert watch.words() == []


def test_a_time_limit_of_the_app(watch: Watch, proxy: Proxy) -> None:
    async def main() -> None:
        connection = await psycopg.AsyncConnection.connect(dsn(proxy), autocommit=True, instrumented_wrapper=ON)
        stall(proxy)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await connection.execute(watch.insert("never"))
        assert connection.closed

    asyncio.run(main())
    proxy.release()
    assert watch.words() == []
