"""Writers of several drivers that write into one table of a cluster at the same time."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import MappingProxyType
from typing import Any

from contract.driver import DriverUnderTest
from contract.writers import Worker, at_work, compare, make_table


def driver_of(module: str, number: int) -> DriverUnderTest | None:
    """Return the driver under test with one of its databases; None where it is not installed."""
    try:
        driver: DriverUnderTest = copy.copy(import_module(module).DRIVER)
    except ImportError:  # the contract suite skips it, and says so
        return None
    driver.site = driver.sites[number]
    return driver


Options = Mapping[str, Any]
NONE: Options = MappingProxyType({})


class Crew:
    """The writers of one test, and the table into which they write."""

    def __init__(self, site: Any) -> None:
        self.site, self.table = site, make_table(site)
        self.worker: type[Worker] = Worker  # of those who are added next
        self.workers: list[Worker] = []
        self.jobs: list[tuple[Callable[[Any], None], Any]] = []
        self._ends = ExitStack()

    def hold(self, driver: DriverUnderTest, name: str, dsn: Any, options: Options = NONE, **keywords: Any) -> None:
        """Add a writer who has one connection all the time."""
        connection = driver.connect(dsn, autocommit=True, instrumented_wrapper={**options}, **keywords)
        self._ends.callback(driver.close, connection)
        self._add(driver, name, self.worker.hold, connection)

    def borrow(self, driver: DriverUnderTest, name: str, dsn: Any, options: Options = NONE, **keywords: Any) -> None:
        """Add a writer who takes a connection from a pool for each two steps."""
        pool = driver.pool(dsn, kwargs={"instrumented_wrapper": {**options}, **keywords})
        self._ends.callback(driver.close_pool, pool)
        self._add(driver, f"{name}_pool", self.worker.borrow, pool)

    def both(self, driver: DriverUnderTest, name: str, dsn: Any, options: Options = NONE, **keywords: Any) -> None:
        """Add one of each; the second only where the driver has pools."""
        self.hold(driver, name, dsn, options, **keywords)
        if driver.has("pools"):
            self.borrow(driver, name, dsn, options, **keywords)

    def _add(self, driver: DriverUnderTest, name: str, job: Callable[[Worker, Any], None], what: Any) -> None:
        worker = self.worker(driver, self.site, self.table, f"{type(driver).__name__}_{name}".lower())
        self.workers.append(worker)
        self.jobs.append((lambda what: job(worker, what), what))

    @contextmanager
    def at_work(self) -> Iterator[Callable[[], None]]:
        """Have all write; yield what waits until each has made some steps more. Afterwards compare all rows."""
        with at_work(self.workers, self.jobs) as go_on:
            go_on()
            yield go_on
        print(f"{len(self.workers)} writers:", compare(self.workers, self.site, self.table))

    def close(self) -> None:
        """Close all connections and pools."""
        self._ends.close()
