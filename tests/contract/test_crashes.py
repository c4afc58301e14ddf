"""Primaries that are killed and replaced under load: nothing is lost, doubled, or said not to have run.

Workers write rows with numbers of their own, in autocommit, in transactions and through a pool. Each row says what the
session was when it was written. The servers replicate synchronously, so that a commit that was answered outlives the
primary. ``CRASHES=100 pytest tests/contract/test_crashes.py -k asyncpg`` kills a hundred primaries; without
it these tests are skipped.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from threading import Event
from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError, TransactionResolutionUnknownError
from servers import guard

from .driver import DriverUnderTest
from .rows import PATIENCE, no_attempt_is_under_way
from .test_resources import tally

IS_ABOUT_SERVERS = True
CRASHES = int(os.environ.get("CRASHES", "0"))
pytestmark = pytest.mark.skipif(not CRASHES, reason="CRASHES says how many primaries to kill")
WORKERS = 2  # of each kind
STEPS = 6  # of each worker between two crashes
NUMBERS = count(1)


@dataclass
class Outcomes:
    """What the app was told of the rows that it wrote, in one transaction or alone."""

    written: list[tuple[int, ...]] = field(default_factory=list)
    doubtful: list[tuple[int, ...]] = field(default_factory=list)
    absent: list[tuple[int, ...]] = field(default_factory=list)
    not_restored: set[str] = field(default_factory=set)

    @contextmanager
    def of(self, rollback: Callable[[], None], *numbers: int) -> Iterator[None]:
        """Note what comes of these rows; roll back what was lost."""
        try:
            yield
        except (FailoverSuccessError, TransactionResolutionUnknownError) as error:
            self.not_restored.update(error.not_restored)
            (self.doubtful if error.may_have_run else self.absent).append(numbers)
            if error.transaction == "rolled_back":
                rollback()
        else:
            self.written.append(numbers)

    def check(self, found: Counter[int]) -> None:
        """Compare with the rows that there are."""
        assert self.not_restored == set()
        assert [numbers for numbers in self.written if any(found[number] != 1 for number in numbers)] == [], "lost"
        assert [numbers for numbers in self.absent if any(found[number] for number in numbers)] == [], (
            "was said not to be"
        )
        halves = [numbers for numbers in self.doubtful if len({found[number] for number in numbers}) > 1]
        assert halves == [], "half a transaction"
        assert [number for number, times in found.items() if times > 1] == [], "doubled"


class Worker:
    """One user of the app, with one session after the other, and what it must be."""

    def __init__(self, driver: DriverUnderTest, site: Any, table: str, name: str) -> None:
        self.driver, self.site, self.table, self.name = driver, site, table, name
        self.outcomes, self.steps, self.stops = Outcomes(), 0, False
        self.may_go_on = Event()
        self.may_go_on.set()
        self.tenant = site.shows_tenant.removeprefix("SELECT ")

    def begin(self, connection: Any) -> None:
        """Say whose session it is: again where the connection is lost in the middle of that."""
        for _ in range(3):
            try:
                self.driver.execute(connection, self.site.sets_tenant.replace("acme", self.name))
            except FailoverSuccessError:
                self.driver.rollback(connection)
            else:
                return

    def step(self, connection: Any) -> None:
        """Write a row alone, then two in a transaction, and look at the session."""
        number, first, second = next(NUMBERS), next(NUMBERS), next(NUMBERS)
        of = partial(self.outcomes.of, partial(self.driver.rollback, connection))
        self.may_go_on.wait()
        with of(number):
            self._insert(connection, number)
        with of(first, second), self.driver.block(connection):
            self._insert(connection, first)
            self._insert(connection, second)
        with of():
            assert self.driver.execute(connection, self.site.shows_tenant) == [(self.name,)]
        self.steps += 1

    def _insert(self, connection: Any, number: int) -> None:
        self.driver.execute(connection, f"INSERT INTO {self.table} VALUES ({number}, {self.tenant})")

    def hold(self, connection: Any) -> None:
        """Have one connection all the time."""
        self.begin(connection)
        while not self.stops:
            self.step(connection)

    def borrow(self, pool: Any) -> None:
        """Take a connection from a pool for a step or two, and give it back."""
        while not self.stops:
            connection = self.driver.take(pool)
            of = partial(self.outcomes.of, partial(self.driver.rollback, connection))
            try:
                with of():
                    self.driver.set(connection, "autocommit", True)
                with of():
                    assert self.driver.execute(connection, self.site.shows_tenant) != [(self.name,)], "of the last one"
                with of():
                    self.begin(connection)
                    self.step(connection)
                    self.step(connection)
            finally:
                self.driver.give_back(pool, connection)


@pytest.fixture
def synchronous(cluster: Any) -> Iterator[Any]:
    """Servers whose commits wait for the standby."""
    cluster.synchronise()
    yield cluster
    cluster.restore()
    cluster.synchronise(False)


def test_crashes_under_load(driver: DriverUnderTest, connect, pool, site, synchronous) -> None:
    table = site.make_table()
    site.sql(f"ALTER TABLE {table} ADD COLUMN tenant varchar(40)")
    held = [connect(autocommit=True) for _ in range(WORKERS)]
    pools = [pool() for _ in range(WORKERS if driver.has("pools") else 0)]
    workers = [Worker(driver, site, table, f"worker_{number}") for number in range(len(held) + len(pools))]
    jobs: list[tuple[Callable[[Any], None], Any]] = []
    jobs += [(worker.hold, connection) for worker, connection in zip(workers, held, strict=False)]
    jobs += [(worker.borrow, pool) for worker, pool in zip(workers[len(held) :], pools, strict=True)]
    with ThreadPoolExecutor(len(jobs)) as threads:
        running = [threads.submit(job, what) for job, what in jobs]
        try:
            go_on(workers, running)
            tallied = tally(driver, site)
            for _ in range(CRASHES):
                synchronous.failover()
                go_on(workers, running)
                with paused(workers):  # a copy of the files takes MySQL down once more, which answers cold then
                    synchronous.rejoin()
                    synchronous.synchronise()
        finally:
            for worker in workers:
                worker.stops = True
        for each in running:
            each.result(PATIENCE)
    rows = [(int(number or 0), tenant) for number, tenant in site.sql(f"SELECT id, tenant FROM {table}")]
    found = Counter(number for number, _ in rows)
    for worker in workers:
        worker.outcomes.check(found)
        mine = {number for numbers in (*worker.outcomes.written, *worker.outcomes.doubtful) for number in numbers}
        assert {tenant for number, tenant in rows if number in mine} == {worker.name}
    assert not any(driver.is_closed(connection) for connection in held)
    assert guard.wait_until(no_attempt_is_under_way, PATIENCE)
    nothing_more = lambda: all(a <= b for a, b in zip(tally(driver, site)[2:], tallied[2:], strict=True))  # noqa: E731
    assert guard.wait_until(nothing_more, PATIENCE), (tally(driver, site), tallied)
    print({name: sum(len(getattr(w.outcomes, name)) for w in workers) for name in ("written", "doubtful", "absent")})


@contextmanager
def paused(workers: list[Worker]) -> Iterator[None]:
    """While inside, the workers write nothing."""
    for worker in workers:
        worker.may_go_on.clear()
    try:
        yield
    finally:
        for worker in workers:
            worker.may_go_on.set()


def go_on(workers: list[Worker], running: list[Any]) -> None:
    """Wait until each worker has made some steps more."""
    before = [worker.steps for worker in workers]

    def moved() -> bool:
        ended = any(each.done() for each in running)
        return ended or all(worker.steps >= was + STEPS for worker, was in zip(workers, before, strict=True))

    assert guard.wait_until(moved, PATIENCE)
    for each in running:
        if each.done():
            each.result()
