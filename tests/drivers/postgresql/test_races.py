"""The two ways to connect to several hosts at once, threads and tasks: one race, on a real primary and standby."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from instrumented_wrapper import runners
from instrumented_wrapper.databases.postgresql.connect_errors import answer_to
from instrumented_wrapper.drivers.engine import race_tasks, race_threads
from instrumented_wrapper.drivers.engine.race import Opening
from instrumented_wrapper.drivers.engine.search import Target
from instrumented_wrapper.failover import ClosedMeanwhile, NoServer
from servers import Proxy, Server
from servers.server import APP, conninfo

from ..side import done
from ..watch import PATIENCE, Watch

NAME = "racer"
LONG = 60  # seconds; only a test that fails waits so long
SHORT = 0.5


class Racer:
    """Opens connections to several hosts at once, in threads or in tasks."""

    def __init__(self, kind: str) -> None:
        self.is_async = kind == "tasks"
        self._opened: list[Any] = []  # so that none is closed because nobody has it any more
        self._answer = lambda error: answer_to(str(error), "primary", getattr(error, "sqlstate", None) or "")

    async def race(
        self,
        *places: Proxy | Server,
        role: str = "primary",
        seconds: float = LONG,
        wanted: Callable[[], bool] = lambda: True,
    ) -> Any:
        target = Target(tuple((p.host, p.port) for p in places), "primary", None, wanted)
        if not self.is_async:
            opening = Opening(self._open, self._answer, self._close)
            return runners.run(race_threads.contest(opening).race(target, time.monotonic() + seconds))
        opening = Opening(self._open_async, self._answer, self._close_async)
        return await runners.run_async(race_tasks.contest(opening).race(target, time.monotonic() + seconds))

    def _open(self, address: Any, role: str, seconds: float) -> Any:
        self._opened.append(connection := psycopg.connect(_dsn(address, role)))
        return connection

    async def _open_async(self, address: Any, role: str, seconds: float) -> Any:
        self._opened.append(connection := await psycopg.AsyncConnection.connect(_dsn(address, role)))
        return connection

    def _close(self, connection: Any) -> None:
        connection.close()

    def _close_async(self, connection: Any) -> None:
        connection.pgconn.finish()


def _dsn(address: Any, role: str) -> str:
    host, port = address
    return conninfo(**APP, host=host, port=port, application_name=NAME, target_session_attrs=role)


@pytest.fixture(params=["threads", "tasks"])
def racer(request: pytest.FixtureRequest) -> Racer:
    return Racer(request.param)


async def soon(condition: Callable[[], object]) -> bool:
    """Wait until the condition holds, while the event loop goes on."""
    end = time.monotonic() + PATIENCE
    while not (holds := condition()) and time.monotonic() < end:
        await asyncio.sleep(0.005)
    return bool(holds)


def no_attempts() -> bool:
    """Return True if no attempt is under way, in a thread or a task."""
    return all(thread.name != "failover" for thread in threading.enumerate()) and len(asyncio.all_tasks()) == 1


def outcomes(tried: Any) -> dict[Any, str]:
    return {group.address: group.outcome for group in tried}


async def test_the_server_of_the_wanted_role_wins(racer: Racer, watch: Watch) -> None:
    standby, primary = watch.cluster.standby, watch.cluster.primary
    connection, found = await racer.race(standby, primary)
    assert found.address == (primary.host, primary.port)
    assert watch.sessions(NAME) == [str(connection.info.backend_pid)]
    await done(connection.close())
    assert await soon(lambda: not watch.sessions(NAME))


async def test_a_host_that_does_not_answer_holds_no_other_up(racer: Racer, watch: Watch, proxy: Proxy) -> None:
    proxy.hold()
    primary = watch.cluster.primary
    connection, found = await racer.race(proxy, primary)
    assert found.address == (primary.host, primary.port)
    assert outcomes(found.tried) == {(proxy.host, proxy.port): "abandoned", found.address: "connected"}
    proxy.release()
    assert await soon(no_attempts)
    assert await soon(lambda: watch.sessions(NAME) == [str(connection.info.backend_pid)]), "the late one is closed"
    await done(connection.close())


async def test_nobody_answers_in_time(racer: Racer, watch: Watch, proxy: Proxy, standby_proxy: Proxy) -> None:
    proxy.hold()
    with pytest.raises(NoServer) as caught:
        await racer.race(proxy, standby_proxy, seconds=SHORT)
    assert not caught.value.permanent
    assert (proxy.host, proxy.port) in {group.address for group in caught.value.tried}
    proxy.release()
    assert await soon(no_attempts)
    assert await soon(lambda: not watch.sessions(NAME))


async def test_the_app_closes_its_connection_meanwhile(racer: Racer, watch: Watch, proxy: Proxy) -> None:
    proxy.hold()
    with pytest.raises(ClosedMeanwhile):
        await racer.race(proxy, wanted=lambda: not proxy.connections)
    proxy.release()
    assert await soon(no_attempts)
    assert await soon(lambda: not watch.sessions(NAME))


async def test_a_task_that_is_cancelled_leaves_no_session(watch: Watch, proxy: Proxy) -> None:
    proxy.hold()
    racing = asyncio.create_task(Racer("tasks").race(proxy))
    while not proxy.connections:
        await asyncio.sleep(0)
    racing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await racing
    proxy.release()
    assert await soon(no_attempts)
    assert await soon(lambda: not watch.sessions(NAME))


async def test_the_event_loop_goes_on_meanwhile(watch: Watch, proxy: Proxy) -> None:
    proxy.hold()
    racing = asyncio.create_task(Racer("tasks").race(proxy))
    while not proxy.connections:
        await asyncio.sleep(0)
    proxy.release()  # by the same thread: it could not while the loop was blocked
    connection, _ = await racing
    assert watch.sessions(NAME) == [str(connection.info.backend_pid)]
    await connection.close()
