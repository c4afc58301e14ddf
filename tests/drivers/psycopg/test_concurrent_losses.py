"""psycopg: threads and tasks that lose their connections together share one search."""

from __future__ import annotations

import asyncio
import select
from typing import Any

import psycopg
import pytest

from servers import Proxy

from ..side import dsn, rows
from ..watch import Watch, eventually


class Outage:
    """Kill the primary; promote the standby once the search is on."""

    def __init__(self, watch: Watch, old: Proxy, new: Proxy) -> None:
        self.watch, self.old, self.new = watch, old, new

    def strike(self, connections: list[Any]) -> None:
        """Kill it, and wait until the end has come to each of the connections."""
        self.watch.cluster.wait_streaming()
        self.old.clear()
        self.new.clear()
        self.watch.cluster.primary.kill()
        for connection in connections:
            assert select.select([connection.fileno()], [], [], 10)[0]

    def repair_when_searched(self) -> None:
        assert eventually(lambda: self.new.connections > 3)
        self.watch.cluster.failover()


@pytest.fixture
def outage(watch: Watch, proxy: Proxy, standby_proxy: Proxy) -> Outage:
    return Outage(watch, proxy, standby_proxy)


def _attempts(spans: Any) -> list[int]:
    return [span.attributes["instrumented_wrapper.attempts"] for span in spans.named("failover")]


def test_threads_and_tasks_share_one_search(watch: Watch, outage: Outage, spans: Any) -> None:
    """A search that is led in a thread is followed in a loop, and the other way round."""
    conninfo = dsn(outage.old, outage.new)
    plain = [psycopg.connect(conninfo, autocommit=True) for _ in range(3)]

    async def main() -> list[Any]:
        theirs = [await psycopg.AsyncConnection.connect(conninfo, autocommit=True) for _ in range(3)]
        await asyncio.to_thread(outage.strike, [*plain, *theirs])
        use = [asyncio.to_thread(lambda c: c.execute("SELECT 1").fetchall(), c) for c in plain]
        tasks = [asyncio.create_task(job) for job in (*use, *(rows(c, "SELECT 1") for c in theirs))]
        await asyncio.to_thread(outage.repair_when_searched)
        values = await asyncio.wait_for(asyncio.gather(*tasks), 30)
        for connection in theirs:
            await connection.close()
        return values

    assert asyncio.run(main()) == [[(1,)]] * 6
    assert sum(1 for attempts in _attempts(spans) if attempts > 2) <= 2
    for connection in plain:
        connection.close()
