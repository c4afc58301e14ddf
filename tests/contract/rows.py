"""What several rows of the contract's table have in common. Knows drivers and sites by their protocols only."""

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from instrumented_wrapper import FailoverError, FailoverSuccessError

from .driver import DriverUnderTest

PATIENCE = 60  # seconds


def insert(table: str, number: int) -> str:
    return f"INSERT INTO {table} VALUES ({number})"


def session(driver: DriverUnderTest, connection: Any, site: Any) -> int:
    ((number,),) = driver.execute(connection, site.session_id)
    return number


def told(error: BaseException | None, kind: type[FailoverError], driver: DriverUnderTest) -> FailoverError:
    """Return the error if it is of our kind, of the driver's, and of no sibling."""
    assert isinstance(error, kind)
    assert isinstance(error, driver.operational_error)
    assert [k for k in FailoverError.__subclasses__() if isinstance(error, k)] == [kind]
    assert error.blocked_seconds >= 0
    return error


def error_of(call: "Future[Any]") -> BaseException | None:
    return call.exception(timeout=PATIENCE)


def rolled_back(error: BaseException | None, driver: DriverUnderTest) -> FailoverError:
    error = told(error, FailoverSuccessError, driver)
    assert (error.transaction, error.may_have_run) == ("rolled_back", False)
    return error


def refuses_until_rollback(driver: DriverUnderTest, connection: Any, table: str) -> None:
    """Check that a lost transaction is not gone on with; then roll back and go on."""
    with pytest.raises(driver.aborted_error):
        driver.execute(connection, insert(table, 666))
    with pytest.raises(FailoverSuccessError) as caught:
        driver.commit(connection)
    rolled_back(caught.value, driver)
    with pytest.raises(driver.aborted_error):
        driver.execute(connection, "SELECT 1")
    driver.rollback(connection)
    usable(driver, connection)


def usable(driver: DriverUnderTest, connection: Any) -> None:
    assert not driver.is_closed(connection)
    assert driver.execute(connection, "SELECT 1") == [(1,)]
    driver.rollback(connection)


def no_attempt_is_under_way() -> bool:
    """Tell whether all attempts have ended: drivers that block make theirs in threads, which may outlast the search."""
    return all(thread.name != "failover" for thread in threading.enumerate())
