"""Many connections lost at once, many switches in a row: one search, no storm, no leak."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import select
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from instrumented_wrapper import switch, switch_async
from servers import Proxy

from ..side import Side, backend, done, dsn, rows
from ..watch import Watch, eventually

MANY = 50
SWITCHES = 100
# One search asks a host about every 20 ms at first and more rarely later: some 60 times in the seconds of a slow
# machine. Fifty searches of their own would ask fifty times that.
ATTEMPTS_OF_ONE_SEARCH = 150


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

    def check_that_one_searched(self, attempts: list[int]) -> None:
        asked = self.new.connections + self.old.connections
        print(f"{asked} connections started; attempts of each: {sorted(attempts)}")
        assert len(attempts) == MANY
        assert self.new.connections <= MANY + ATTEMPTS_OF_ONE_SEARCH
        # Who follows starts one connection, or two where the first came too soon.
        assert sum(1 for attempt in attempts if attempt > 2) <= 5


@pytest.fixture
def outage(watch: Watch, proxy: Proxy, standby_proxy: Proxy) -> Outage:
    return Outage(watch, proxy, standby_proxy)


def _attempts(spans: Any) -> list[int]:
    return [span.attributes["instrumented_wrapper.attempts"] for span in spans.named("failover")]


def test_fifty_threads(watch: Watch, outage: Outage, spans: Any) -> None:
    conninfo = dsn(outage.old, outage.new)
    with ThreadPoolExecutor(MANY) as threads:
        connections = list(threads.map(lambda _: psycopg.connect(conninfo, autocommit=True), range(MANY)))
        before = [id(connection) for connection in connections]
        outage.strike(connections)
        answers = [threads.submit(c.execute, f"SELECT {n}") for n, c in enumerate(connections)]
        outage.repair_when_searched()
        values = [answer.result(30).fetchone()[0] for answer in answers]
    assert values == list(range(MANY))
    assert [id(connection) for connection in connections] == before
    outage.check_that_one_searched(_attempts(spans))
    for connection in connections:
        connection.close()


def test_fifty_tasks_and_the_loop_goes_on(watch: Watch, outage: Outage, spans: Any) -> None:
    async def main() -> tuple[list[Any], int]:
        connect = psycopg.AsyncConnection.connect
        conninfo = dsn(outage.old, outage.new)
        connections = [await connect(conninfo, autocommit=True) for _ in range(MANY)]
        await asyncio.to_thread(outage.strike, connections)
        ticks = itertools.count()
        ticking = asyncio.create_task(_tick(ticks))
        use = [asyncio.create_task(rows(c, f"SELECT {n}")) for n, c in enumerate(connections)]
        await asyncio.to_thread(outage.repair_when_searched)
        values = await asyncio.wait_for(asyncio.gather(*use), 30)
        ticking.cancel()
        for connection in connections:
            await connection.close()
        return values, next(ticks)

    values, ticks = asyncio.run(main())
    assert values == [[(n,)] for n in range(MANY)]
    assert ticks > 3  # the loop went on while the connections were lost
    outage.check_that_one_searched(_attempts(spans))


async def _tick(ticks: Iterator[int]) -> None:
    while True:
        await asyncio.sleep(0.005)
        next(ticks)


def test_a_search_that_finds_nothing_ends_for_all_at_once(watch: Watch, proxy: Proxy) -> None:
    options = {"failover": "on", "failover_timeout": 1}
    connections = [psycopg.connect(dsn(proxy), autocommit=True, instrumented_wrapper=options) for _ in range(10)]
    proxy.retarget("127.0.0.1", 1)  # nobody listens there: each attempt is counted, and fails
    proxy.clear()
    proxy.cut()
    with ThreadPoolExecutor(10) as threads:
        errors = list(threads.map(_error_of, connections))
    assert 0 < proxy.connections <= ATTEMPTS_OF_ONE_SEARCH
    assert all(isinstance(error, psycopg.OperationalError) for error in errors)
    assert all(connection.closed for connection in connections)


def _error_of(connection: psycopg.Connection) -> BaseException | None:
    try:
        connection.execute("SELECT 1")
    except psycopg.Error as error:
        return error
    return None


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


def _tally(watch: Watch, name: str) -> tuple[int, int, int]:
    gc.collect()
    return len(os.listdir("/proc/self/fd")), threading.active_count(), len(watch.sessions(name))


def _within(tally: Callable[[], tuple[int, int, int]], limit: tuple[int, int, int]) -> bool:
    return all(now <= before for now, before in zip(tally(), limit, strict=True))


@pytest.mark.parametrize("how", ["planned", "lost"])
async def test_a_hundred_switches_leak_nothing(side: Side, watch: Watch, how: str) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("descriptors are counted in /proc")
    name = f"switching_{side.is_async}_{how}"
    connection = await side.connect(watch.dsn(application_name=name), autocommit=True)
    await _switch(connection, watch, how)  # what is made only once is made now
    before, tasks = _tally(watch, name), len(asyncio.all_tasks())
    pids = {await backend(connection)}
    for _ in range(SWITCHES):
        await _switch(connection, watch, how)
        pids.add(await backend(connection))
    assert len(pids) > SWITCHES * 0.9  # numbers of sessions may come again
    assert eventually(lambda: _within(lambda: _tally(watch, name), before)), (_tally(watch, name), before)
    assert len(asyncio.all_tasks()) == tasks
    assert before[2] == 1


async def _switch(connection: Any, watch: Watch, how: str) -> None:
    if how == "planned":
        await (switch_async(connection) if hasattr(connection, "__aenter__") else done(switch(connection)))
    else:
        watch.sql(f"SELECT pg_terminate_backend({connection.info.backend_pid})")
        assert await asyncio.to_thread(select.select, [connection.fileno()], [], [], 10)
    assert await rows(connection, "SELECT 1") == [(1,)]
