"""Primaries that are killed and replaced under load: nothing is lost, doubled, or said not to have run.

Workers write rows with numbers of their own, in autocommit, in transactions and through a pool. Each row says what the
session was when it was written. The servers replicate synchronously, so that a commit that was answered outlives the
primary. ``CRASHES=100 pytest tests/contract/test_crashes.py -k asyncpg`` kills a hundred primaries; without
it these tests are skipped.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from servers import guard

from .driver import DriverUnderTest
from .rows import PATIENCE, no_attempt_is_under_way
from .test_resources import tally
from .writers import Worker, at_work, compare, make_table, paused

IS_ABOUT_SERVERS = True
CRASHES = int(os.environ.get("CRASHES", "0"))
pytestmark = pytest.mark.skipif(not CRASHES, reason="CRASHES says how many primaries to kill")
WORKERS = 2  # of each kind


@pytest.fixture
def synchronous(cluster: Any) -> Iterator[Any]:
    """Servers whose commits wait for the standby."""
    cluster.synchronise()
    yield cluster
    cluster.restore()
    cluster.synchronise(False)


def test_crashes_under_load(driver: DriverUnderTest, connect, pool, site, synchronous) -> None:
    table = make_table(site)
    held = [connect(autocommit=True) for _ in range(WORKERS)]
    pools = [pool() for _ in range(WORKERS if driver.has("pools") else 0)]
    workers = [Worker(driver, site, table, f"worker_{number}") for number in range(len(held) + len(pools))]
    jobs: list[tuple[Callable[[Any], None], Any]] = []
    jobs += [(worker.hold, connection) for worker, connection in zip(workers, held, strict=False)]
    jobs += [(worker.borrow, pool) for worker, pool in zip(workers[len(held) :], pools, strict=True)]
    with at_work(workers, jobs) as go_on:
        go_on()
        tallied = tally(driver, site)
        for _ in range(CRASHES):
            synchronous.failover()
            go_on()
            with paused(workers):  # a copy of the files takes MySQL down once more, which answers cold then
                synchronous.rejoin()
                synchronous.synchronise()
    outcomes = compare(workers, site, table)
    assert not any(driver.is_closed(connection) for connection in held)
    assert guard.wait_until(no_attempt_is_under_way, PATIENCE)
    nothing_more = lambda: all(a <= b for a, b in zip(tally(driver, site)[2:], tallied[2:], strict=True))  # noqa: E731
    assert guard.wait_until(nothing_more, PATIENCE), (tally(driver, site), tallied)
    print(outcomes)
