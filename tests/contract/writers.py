"""Writers: users of an app who write rows, each with a number of its own, while servers fail, and what they are told.

A test over clusters starts them, does something to the servers, and compares the rows with what the writers were
told: no row is lost or doubled, none exists that was said not to, and each was written in the right session.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from threading import Event
from typing import Any

from instrumented_wrapper import FailoverSuccessError, TransactionResolutionUnknownError
from servers import guard

from .driver import DriverUnderTest
from .rows import PATIENCE

STEPS = 6  # of each worker between two failures
NUMBERS = count(1)


@dataclass
class Outcomes:
    """What the app was told of the rows that it wrote, in one transaction or alone."""

    written: list[tuple[int, ...]] = field(default_factory=list)
    doubtful: list[tuple[int, ...]] = field(default_factory=list)
    absent: list[tuple[int, ...]] = field(default_factory=list)
    not_restored: set[str] = field(default_factory=set)
    in_doubt: Callable[[Exception], bool] = lambda error: False  # of the driver's own errors, which leave all open

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
        except Exception as error:
            if not self.in_doubt(error):
                raise
            self.doubtful.append(numbers)
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
        codes = getattr(site, "in_doubt", ())
        self.outcomes = Outcomes(in_doubt=lambda error: driver.code_of(error) in codes)
        self.steps, self.stops = 0, False
        self.may_go_on = Event()
        self.may_go_on.set()
        self.tenant = site.shows_tenant.removeprefix("SELECT ")

    def begin(self, connection: Any) -> None:
        """Say whose session it is."""
        self._again(connection, self.driver.execute, self.site.sets_tenant.replace("acme", self.name))

    def _again(self, connection: Any, change: Callable[..., Any], *arguments: Any) -> None:
        """Change the session: again where the connection is lost in the middle of that."""
        for _ in range(3):
            try:
                change(connection, *arguments)
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
            self.look(connection)
        self.steps += 1

    def look(self, connection: Any) -> None:
        """Check that the session is this user's."""
        assert self.driver.execute(connection, self.site.shows_tenant) == [(self.name,)]

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
            connection = self._taken(pool)
            of = partial(self.outcomes.of, partial(self.driver.rollback, connection))
            try:
                with of():
                    self._again(connection, self.driver.set, "autocommit", True)
                with of():
                    assert self.driver.execute(connection, self.site.shows_tenant) != [(self.name,)], "of the last one"
                with of():
                    self.begin(connection)
                    self.step(connection)
                    self.step(connection)
            finally:
                self.driver.give_back(pool, connection)

    def _taken(self, pool: Any) -> Any:
        """Take a connection, again where the pool gives up: psycopg2's does while it holds its lock."""
        driver, end = self.driver, time.monotonic() + PATIENCE
        while True:
            try:
                return driver.take(pool)
            except (driver.operational_error, driver.pool_timeout):
                if time.monotonic() > end:
                    raise


class LocalWorker(Worker):
    """One who says in each transaction whose it is, as behind a pooler that lends a session for a transaction."""

    def begin(self, connection: Any) -> None:
        """Say nothing: the next transaction may be in another session."""

    def look(self, connection: Any) -> None:
        """Check that nothing of a transaction is left in the session."""
        assert self.driver.execute(connection, self.site.shows_tenant) != [(self.name,)]

    def _insert(self, connection: Any, number: int) -> None:
        local = f"set_config('{self.site.tenant}', '{self.name}', true)"
        self.driver.execute(connection, f"INSERT INTO {self.table} VALUES ({number}, {local})")


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


@contextmanager
def at_work(workers: list[Worker], jobs: Sequence[tuple[Callable[[Any], None], Any]]) -> Iterator[Callable[[], None]]:
    """Run a job of each worker in a thread of its own; yield what waits until each has made some steps more."""
    with ThreadPoolExecutor(len(jobs)) as threads:
        running = [threads.submit(job, what) for job, what in jobs]
        try:
            yield partial(go_on, workers, running)
        finally:
            for worker in workers:
                worker.stops = True
        for each in running:
            each.result(PATIENCE)


def go_on(workers: list[Worker], running: Sequence["Future[None]"]) -> None:
    """Wait until each worker has made some steps more."""
    before = [worker.steps for worker in workers]

    def behind() -> list[str]:
        return [worker.name for worker, was in zip(workers, before, strict=True) if worker.steps < was + STEPS]

    moved = guard.wait_until(lambda: any(each.done() for each in running) or not behind(), PATIENCE)
    for each in running:
        if each.done():
            each.result()
    assert moved, f"do not go on: {behind()}"


def compare(workers: list[Worker], site: Any, table: str) -> dict[str, int]:
    """Compare all rows with what the workers were told; return how many operations had which outcome."""
    rows = [(int(number or 0), tenant) for number, tenant in site.sql(f"SELECT id, tenant FROM {table}")]
    found = Counter(number for number, _ in rows)
    for worker in workers:
        worker.outcomes.check(found)
        mine = {number for numbers in (*worker.outcomes.written, *worker.outcomes.doubtful) for number in numbers}
        assert {tenant for number, tenant in rows if number in mine} == {worker.name}, "wrong session"
    return {name: sum(len(getattr(w.outcomes, name)) for w in workers) for name in ("written", "doubtful", "absent")}


def make_table(site: Any) -> str:
    """Make a table for rows that say what the session was."""
    table: str = site.make_table()
    site.sql(f"ALTER TABLE {table} ADD COLUMN tenant varchar(40)")
    return table
