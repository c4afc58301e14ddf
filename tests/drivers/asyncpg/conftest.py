"""An app on asyncpg, on a real primary and standby."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from servers import Cluster, guard
from servers.server import APP

asyncpg = pytest.importorskip("asyncpg")
NAME = "asyncpg under test"


class App:
    """Connects as the app does, and is looked at past the driver."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def where(self, *hosts: Any, **options: Any) -> dict[str, Any]:
        """Return keywords of a connect: to the primary, with the standby as the other host, by default."""
        hosts = hosts or (self.cluster.primary, self.cluster.standby)
        given = {"user": APP["user"], "password": APP["password"], "database": APP["dbname"]}
        at = {"host": [host.host for host in hosts], "port": [host.port for host in hosts]}
        named = {"server_settings": {"application_name": NAME}, "ssl": "disable"}
        return {**given, **at, **named, **({"instrumented_wrapper": options} if options else {})}

    async def connect(self, *hosts: Any, options: dict[str, Any] | None = None, **keywords: Any) -> Any:
        return await asyncpg.connect(**{**self.where(*hosts, **(options or {})), **keywords})

    def pool(self, *hosts: Any, options: dict[str, Any] | None = None, **keywords: Any) -> Any:
        """Return a pool of one connection, to be awaited or entered."""
        sizes = {"min_size": 1, "max_size": 1}
        return asyncpg.create_pool(**{**self.where(*hosts, **(options or {})), **sizes, **keywords})

    def sql(self, text: str) -> list[tuple[str | None, ...]]:
        return self.cluster.primary.sql(text, "app")

    def sessions(self) -> list[int]:
        """Return the app's sessions on all servers that are up."""
        asked = f"SELECT pid FROM pg_stat_activity WHERE application_name = '{NAME}'"
        found = [server.sql(asked, "app") for server in self.cluster.servers if server.alive]
        return [int(pid or 0) for rows in found for (pid,) in rows]

    async def end(self, *connections: Any) -> None:
        """End the sessions of connections, and wait until they are gone; those of all where none is named."""
        numbers = {connection.get_server_pid() for connection in connections} or {*self.sessions()}

        def ended() -> None:
            for number in numbers:
                self.sql(f"SELECT pg_terminate_backend({number})")
            assert guard.wait_until(lambda: not numbers & {*self.sessions()}, 60)

        await asyncio.to_thread(ended)

    async def eventually(self, holds: Callable[[], Any]) -> bool:
        return await asyncio.to_thread(guard.wait_until, holds, 60)

    async def nobody_is_left(self) -> bool:
        return await self.eventually(lambda: not self.sessions())


@pytest.fixture
def app(cluster: Cluster) -> App:
    return App(cluster)
