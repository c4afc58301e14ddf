"""An interrupt while ``close()`` resets on a server that does not answer: closed, and nobody is asked to cancel."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import psycopg
import pytest

from ..script import Program
from ..side import dsn
from ..sync_drivers.conftest import Holding
from ..watch import Watch, eventually

NAME = "interrupted_close"
SYNC = """
    import sys
    import instrumented_wrapper, psycopg
    instrumented_wrapper.instrument()
    connection = psycopg.connect(sys.argv[1], autocommit=True)
    connection.execute("SET TimeZone = 'Europe/Paris'")
    print("ready")
    sys.stdin.readline()
    try:
        connection.close()
    except BaseException as error:
        print(type(error).__name__, connection.closed, connection.broken)
"""
ASYNC = """
    import asyncio, sys
    import instrumented_wrapper, psycopg
    instrumented_wrapper.instrument()

    async def main():
        connection = await psycopg.AsyncConnection.connect(sys.argv[1], autocommit=True)
        await connection.execute("SET TimeZone = 'Europe/Paris'")
        print("ready")
        sys.stdin.readline()
        closing = asyncio.create_task(connection.close())
        await asyncio.to_thread(sys.stdin.readline)
        closing.cancel()
        try:
            await closing
        except BaseException as error:
            print(type(error).__name__, connection.closed, connection.broken)

    asyncio.run(main())
"""


@pytest.fixture
def proxy(watch: Watch) -> Iterator[Holding]:
    with Holding(watch.cluster.primary.host, watch.cluster.primary.port) as proxy:
        yield proxy


@pytest.mark.parametrize(("text", "interrupt"), [(SYNC, "KeyboardInterrupt"), (ASYNC, "CancelledError")])
def test_close(watch: Watch, proxy: Holding, text: str, interrupt: str) -> None:
    if text is ASYNC and not hasattr(psycopg.AsyncConnection, "_try_cancel"):
        pytest.skip("psycopg before 3.2 cancels in another way")
    with Program(text, dsn(proxy, application_name=NAME)) as program:
        assert program.hear() == "ready"
        proxy.clear()
        proxy.hold_at = b"timezone"  # the reset: it arrives, and no answer does
        program.tell("close")
        assert eventually(lambda: proxy.holds)
        program.tell("go") if text is ASYNC else program.process.send_signal(signal.SIGINT)
        assert program.hear() == f"{interrupt} True False"
        assert proxy.connections == 0  # a cancel request would be one
        proxy.release()
        assert program.end()[0] == 0
    assert eventually(lambda: not watch.sessions(NAME))
