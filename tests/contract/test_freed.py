"""A connection that nobody holds any more goes at once, and its server session with it, as the driver's own do."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from instrumented_wrapper import (
    FailoverError,
    FailoverFailedError,
    FailoverSuccessError,
    SessionStateTransferHandlers,
    TransactionResolutionUnknownError,
)
from servers import Proxy

from .driver import DriverUnderTest
from .loop import others_done
from .rows import insert

IS_ABOUT_SERVERS = True
SOON = {"failover_timeout": 0.4}

After = Callable[[DriverUnderTest, Any, Any, Proxy], None]


@pytest.fixture(scope="module", autouse=True)
def without_collector() -> Iterator[None]:
    """Leave the collector off: what is freed here is freed without it. To call it for each test takes minutes."""
    gc.disable()
    yield
    gc.enable()


def nothing(driver: DriverUnderTest, connection: Any, site: Any, proxy: Proxy) -> None:
    driver.execute(connection, "SELECT 1")


def error_of_the_server(driver: DriverUnderTest, connection: Any, site: Any, proxy: Proxy) -> None:
    with pytest.raises(driver.programming_error):
        driver.execute(connection, "SELECT 1 FROM no_such_table")


def silent_switch(driver: DriverUnderTest, connection: Any, site: Any, proxy: Proxy) -> None:
    proxy.cut()
    driver.execute(connection, "SELECT 1")


def first_statement(driver: DriverUnderTest, connection: Any, site: Any, proxy: Proxy) -> None:
    with pytest.raises(FailoverSuccessError):
        driver.execute(connection, site.suicide)


def statement(driver: DriverUnderTest, connection: Any, site: Any, proxy: Proxy) -> None:
    driver.execute(connection, insert(f"rows_of_{site.name}", 1))
    with pytest.raises(FailoverSuccessError):
        driver.execute(connection, site.suicide)


def refusal(driver: DriverUnderTest, connection: Any, site: Any, proxy: Proxy) -> None:
    statement(driver, connection, site, proxy)
    with pytest.raises(driver.aborted_error):
        driver.execute(connection, "SELECT 1")
    with pytest.raises(FailoverSuccessError):
        driver.commit(connection)


def found_dead(driver: DriverUnderTest, connection: Any, site: Any, proxy: Proxy) -> None:
    driver.execute(connection, insert(f"rows_of_{site.name}", 1))
    proxy.cut()
    with pytest.raises(FailoverSuccessError):
        driver.execute(connection, "SELECT 1")
    driver.rollback(connection)


def commit(driver: DriverUnderTest, connection: Any, site: Any, proxy: Proxy) -> None:
    driver.execute(connection, insert(f"rows_of_{site.name}", 1))
    proxy.cut_when(driver.commit_sent, forward=True)
    with pytest.raises(TransactionResolutionUnknownError):
        driver.commit(connection)


def rollback(driver: DriverUnderTest, connection: Any, site: Any, proxy: Proxy) -> None:
    driver.execute(connection, insert(f"rows_of_{site.name}", 1))
    proxy.cut_when(driver.rollback_sent)
    driver.rollback(connection)


def block(driver: DriverUnderTest, connection: Any, site: Any, proxy: Proxy) -> None:
    with pytest.raises(FailoverError), driver.block(connection):
        driver.execute(connection, site.suicide)


def failed_switch(driver: DriverUnderTest, connection: Any, site: Any, proxy: Proxy) -> None:
    driver.execute(connection, insert(f"rows_of_{site.name}", 1))
    proxy.refuse()
    proxy.cut()
    with pytest.raises(FailoverFailedError):
        driver.execute(connection, "SELECT 1")


def handler_that_raises(driver: DriverUnderTest, connection: Any, site: Any, proxy: Proxy) -> None:
    def handler(state: Any, connection: Any) -> bool:
        raise LookupError

    SessionStateTransferHandlers.set_transfer_session_state_on_switch_func(handler)
    proxy.cut()
    with pytest.raises(FailoverFailedError):
        driver.execute(connection, "SELECT 1")


def reset(driver: DriverUnderTest, connection: Any, site: Any, proxy: Proxy) -> None:
    driver.set(connection, "read_only", True)
    driver.execute(connection, "SELECT 1")
    driver.rollback(connection)
    driver.verb("reset_session")(connection)


def reset_that_fails(driver: DriverUnderTest, connection: Any, site: Any, proxy: Proxy) -> None:
    def handler(state: Any, connection: Any) -> bool:
        raise LookupError

    SessionStateTransferHandlers.set_reset_session_state_on_close_func(handler)
    driver.verb("reset_session")(connection)


def planned_switch(driver: DriverUnderTest, connection: Any, site: Any, proxy: Proxy) -> None:
    driver.verb("switch")(connection)


AFTER = [value for value in list(globals().values()) if getattr(value, "__annotations__", {}).get("proxy") is Proxy]


@pytest.mark.parametrize("after", AFTER, ids=lambda after: after.__name__)
def test_without_a_close(driver: DriverUnderTest, site, table, proxy: Proxy, after: After, caplog) -> None:
    driver.needs("connections without cycles")
    connection = driver.connect(site.dsn(proxy, proxy), instrumented_wrapper=SOON)
    after(driver, connection, site, proxy)
    kept = weakref.ref(connection)
    transport = None if driver.has("finaliser") else connection._transport  # bare, the event loop keeps it as well
    caplog.clear()
    del connection
    for thread in threading.enumerate():
        if thread.name == "failover":  # an attempt at another server, which nobody waits for any more
            thread.join()
    if driver.is_async:
        driver.call(others_done)
    assert kept() is None
    if transport is not None:
        driver.call(transport.close)
    assert site.none_left()
