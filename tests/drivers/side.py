"""psycopg's sync and async side behind one face, so that a test is written once; it knows nothing of the wrapper.

A test is an ``async def``. On the sync side the calls simply do not wait for the loop.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Any

import psycopg
import psycopg_pool

from servers import Proxy, Server
from servers.server import APP, conninfo


async def done(value: Any) -> Any:
    """Wait where there is something to wait for."""
    return await value if isawaitable(value) else value


@asynccontextmanager
async def inside(block: Any) -> AsyncIterator[Any]:
    """Enter a sync or an async context manager."""
    if hasattr(block, "__aenter__"):
        async with block as value:
            yield value
    else:
        with block as value:
            yield value


async def listed(items: Any) -> list[Any]:
    """Take all from a sync or an async iterator."""
    return [item async for item in items] if hasattr(items, "__aiter__") else list(items)


def dsn(*places: Server | Proxy, **extra: object) -> str:
    """Return the app's connection string for these servers or proxies."""
    hosts, ports = ",".join(p.host for p in places), ",".join(str(p.port) for p in places)
    return conninfo(**{"host": hosts, "port": ports, **APP, **extra})


class Side:
    """One of the two."""

    def __init__(self, kind: str) -> None:
        self.is_async = kind == "async"
        prefix = "Async" if self.is_async else ""
        self.connection_class = getattr(psycopg, f"{prefix}Connection")
        self.pool_class = getattr(psycopg_pool, f"{prefix}ConnectionPool")
        self.null_pool_class = getattr(psycopg_pool, f"{prefix}NullConnectionPool")
        self._opened: list[Any] = []

    async def connect(self, conninfo: str, **keywords: Any) -> Any:
        """Connect; what is still open when the test ends is closed then."""
        return self.keep(await done(self.connection_class.connect(conninfo, **keywords)))

    async def pool(self, conninfo: str, null: bool = False, **keywords: Any) -> Any:
        """Open a pool of one connection."""
        kind = self.null_pool_class if null else self.pool_class
        sizes = {"min_size": 0, "max_size": 1} if null else {"min_size": 1, "max_size": 1}
        pool = kind(conninfo, open=False, **{**sizes, **keywords})
        await done(self.keep(pool).open(wait=True, timeout=20))
        return pool

    def keep(self, opened: Any) -> Any:
        self._opened.append(opened)
        return opened

    async def close(self) -> None:
        for opened in reversed(self._opened):
            await done(opened.close())

    def callback(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Make what a pool or we accept as a callback: a coroutine function on the async side.

        `function` is an async one that waits only through `done`.
        """
        return function if self.is_async else functools.partial(_run_through, function)


def _run_through(function: Callable[..., Any], *args: Any) -> Any:
    coroutine = function(*args)
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("a callback of the sync side had to wait")


async def rows(connection: Any, text: str) -> list[Any]:
    """Return the rows of a statement."""
    cursor = await done(connection.execute(text))
    found: Iterable[Any] = await done(cursor.fetchall())
    return list(found)


async def backend(connection: Any) -> int:
    """Return the server's number for the session; asked from libpq, not from the server."""
    return int(connection.info.backend_pid)
