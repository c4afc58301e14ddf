"""What an app on asyncio does when its server dies, and how late a heartbeat wakes up in its event loop meanwhile.

The same code for both sides. Each connection waits in a statement, is lost, and writes again. Without us that is a loop
that connects to one host after the other until one takes the write; under us the connection comes back by itself.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from itertools import cycle
from typing import Any, Final

from benchmarks.losses import WAITING

__all__ = ["CASES", "DRIVERS", "SLEEPING"]

SLEEPING: Final = "SELECT SLEEP(60)"  # MySQL's
_BEAT: Final = 0.001  # seconds
_RETRY: Final = 0.02
_GIVE_UP: Final = 60.0


class _Heart:
    """Measures the longest pause between two beats: in wall time, and in CPU time of the loop's thread."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0

    async def beat(self) -> None:
        """Beat until cancelled."""
        while True:
            began, used = time.perf_counter(), time.thread_time()
            await asyncio.sleep(_BEAT)
            self.wall = max(self.wall, time.perf_counter() - began - _BEAT)
            self.processor = max(self.processor, time.thread_time() - used)


class _App:
    """Connections of one driver, of which each knows all hosts."""

    def __init__(self, where: str) -> None:
        given = json.loads(where)
        self._hosts, self._login = given["hosts"], given["login"]
        self._connect, self._execute = _CONNECTS[given["driver"]], _EXECUTES[given["driver"]]
        self._waiting = SLEEPING if given["driver"] in _OF_MYSQL else WAITING
        self._ready, self._lost = 0, asyncio.Event()

    async def run(self, number: int) -> tuple[float, float]:
        """Lose so many connections; return the longest pauses from the loss until all have written again."""
        heart = _Heart()
        connections = [await self._connect(self._hosts, self._login) for _ in range(number)]
        waiting = [asyncio.create_task(self._live_through(connection)) for connection in connections]
        await self._lost.wait()
        beating = asyncio.create_task(heart.beat())
        await asyncio.gather(*waiting)
        beating.cancel()
        return heart.wall, heart.processor

    async def _live_through(self, connection: Any) -> None:
        end = time.monotonic() + _GIVE_UP
        hosts = cycle([[*self._hosts[at:], *self._hosts[:at]] for at in range(len(self._hosts))])
        with suppress(Exception):
            await self._execute(connection, self._waiting)
        self._lost.set()
        while time.monotonic() < end:
            try:
                connection = connection or await self._connect(next(hosts), self._login)
                await self._execute(connection, "INSERT INTO written VALUES (1)")
            except Exception as error:  # noqa: BLE001 - the drivers have no class in common
                connection = connection if _goes_on(error) else None
                await asyncio.sleep(_RETRY)
            else:
                await _end(connection)
                return
        raise TimeoutError(f"no write for {_GIVE_UP:.0f} s after the loss")


def _goes_on(error: Exception) -> bool:
    """Return True if the connection is to be used again: we have moved it."""
    return type(error).__module__.startswith("instrumented_wrapper") and "Success" in type(error).__name__


async def _end(connection: Any) -> None:
    close = getattr(connection, "ensure_closed", None) or connection.close
    await close()


async def _asyncpg(hosts: list[Any], login: dict[str, str]) -> Any:
    names, ports = zip(*hosts, strict=True)
    at = {"host": list(names), "port": list(ports), "target_session_attrs": "read-write"}
    return await import_module("asyncpg").connect(**at, **login, ssl=False)


async def _psycopg(hosts: list[Any], login: dict[str, str]) -> Any:
    names, ports = zip(*hosts, strict=True)
    at = {"host": ",".join(names), "port": ",".join(map(str, ports)), "target_session_attrs": "read-write"}
    given = {"user": login["user"], "password": login["password"], "dbname": login["database"]}
    return await import_module("psycopg").AsyncConnection.connect(**at, **given, autocommit=True)


async def _of_mysql(driver: str, hosts: list[Any], login: dict[str, str]) -> Any:
    (host, port), *_ = hosts
    given = {"user": login["user"], "password": login["password"], "db": login["database"]}
    return await import_module(driver).connect(host=host, port=port, **given, autocommit=True)


async def _by_connection(connection: Any, text: str) -> None:
    await connection.execute(text)


async def _by_cursor(connection: Any, text: str) -> None:
    cursor = await connection.cursor()
    await cursor.execute(text)


_OF_MYSQL: Final = ("aiomysql", "asyncmy")
_CONNECTS: Final[dict[str, Callable[..., Any]]] = {
    "asyncpg": _asyncpg,
    "psycopg": _psycopg,
    **{driver: partial(_of_mysql, driver) for driver in _OF_MYSQL},
}
_EXECUTES: Final[dict[str, Callable[..., Any]]] = {
    "asyncpg": _by_connection,
    "psycopg": _by_connection,
    **dict.fromkeys(_OF_MYSQL, _by_cursor),
}
DRIVERS: Final = tuple(_CONNECTS)


@contextmanager
def _heartbeats(where: str) -> Iterator[Callable[[int], tuple[float, float]]]:
    with asyncio.Runner() as runner:
        yield lambda number: runner.run(_run(where, number))


async def _run(where: str, number: int) -> tuple[float, float]:
    return await _App(where).run(number)


CASES: Final = {"heartbeat": _heartbeats}
