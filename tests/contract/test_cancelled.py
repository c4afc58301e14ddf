"""A task that is cancelled in a switch: its connection is closed for good, and no session is left."""

import asyncio
from concurrent.futures import CancelledError
from typing import Any

import pytest

from servers import Proxy, guard

from .driver import DriverUnderTest
from .loop import cancel_calls, cancelled_at
from .rows import PATIENCE, error_of, insert

IS_ABOUT_SERVERS = True
ON = {"failover": "on", "failover_timeout": PATIENCE}


@pytest.fixture(autouse=True)
def needs_tasks(driver: DriverUnderTest) -> None:
    if not driver.is_async:
        pytest.skip(f"{driver.name} has no tasks")


def loop_of(driver: DriverUnderTest) -> Any:
    return driver.call(asyncio.get_running_loop)


def closed_for_good(driver: DriverUnderTest, connection: Any, cursor: Any, table: str) -> None:
    assert driver.is_closed(connection)
    with pytest.raises(driver.closed_error):
        driver.execute(connection, insert(table, 3))
    with pytest.raises(driver.closed_error):
        driver.execute_on(cursor, insert(table, 3))


@pytest.mark.parametrize("autocommit", [True, False])
def test_in_a_search_it_passes_at_once(
    driver: DriverUnderTest, connect, site, proxy: Proxy, table, background, autocommit: bool
) -> None:
    connection = connect(site.dsn(proxy), autocommit=autocommit, instrumented_wrapper=ON)
    cursor = driver.cursor(connection)
    driver.execute_on(cursor, insert(table, 1))
    proxy.hold()
    proxy.cut()
    proxy.clear()
    under_way = background(driver.execute_on, cursor, insert(table, 2))
    assert guard.wait_until(lambda: proxy.connections > 0, PATIENCE)
    driver.call(cancel_calls)
    assert isinstance(error_of(under_way), CancelledError)  # while nobody answers
    proxy.release()
    closed_for_good(driver, connection, cursor, table)
    assert site.none_left()
    assert site.ids(table) == ([1] if autocommit else [])


def test_while_a_demoted_server_is_left_the_session_there_ends_too(
    driver: DriverUnderTest, connect, site, proxy: Proxy, table, background
) -> None:
    standby = site.cluster.standby
    site.cluster.wait_streaming()
    options = {**ON, "failover_hosts": f"{proxy.host}:{proxy.port}"}
    connection = connect(site.dsn(standby), autocommit=True, instrumented_wrapper=options)
    cursor = driver.cursor(connection)
    driver.execute_on(cursor, "SELECT 1")
    proxy.hold()
    under_way = background(driver.execute, connection, insert(table, 1))
    assert guard.wait_until(lambda: proxy.connections > 0, PATIENCE)
    driver.call(cancel_calls)
    assert isinstance(error_of(under_way), CancelledError)
    proxy.release()
    closed_for_good(driver, connection, cursor, table)
    assert site.none_left(standby)
    assert site.ids(table) == []


def cancelled(driver: DriverUnderTest, number: int, function: Any, *arguments: Any) -> bool:
    """Cancel a call at its wait of that number; return False if it has waited less often."""
    try:
        with cancelled_at(loop_of(driver), number):
            function(*arguments)
    except CancelledError:
        return True
    return False


def closed_or_as_it_was(driver: DriverUnderTest, connection: Any, site: Any) -> bool:
    """Check that the connection is one or the other, with all sessions that there are; return True if it is closed."""
    if driver.is_closed(connection):
        assert site.none_left()
        return True
    assert driver.execute(connection, site.shows_tenant) == [("acme",)]
    ((session,),) = driver.execute(connection, site.session_id)
    assert site.only_session_is(session)
    return False


def test_a_switch_that_is_cancelled_anywhere_leaves_no_session(driver: DriverUnderTest, connect, site) -> None:
    closed = 0
    for number in range(1, 100):
        connection = connect(autocommit=True)
        cursor = driver.cursor(connection)
        driver.execute_on(cursor, site.sets_tenant)
        site.end_sessions()
        was_cancelled = cancelled(driver, number, driver.execute_on, cursor, "SELECT 1")
        closed += closed_or_as_it_was(driver, connection, site)
        driver.close(connection)
        if not was_cancelled:
            break
    assert number < 99
    assert closed > 3


def test_a_planned_switch_that_is_cancelled_anywhere_leaves_one_session_at_most(
    driver: DriverUnderTest, connect, site
) -> None:
    for number in range(1, 100):
        connection = connect(autocommit=True)
        driver.execute(connection, site.sets_tenant)
        was_cancelled = cancelled(driver, number, driver.verb("switch"), connection)
        closed_or_as_it_was(driver, connection, site)
        driver.close(connection)
        assert site.none_left()
        if not was_cancelled:
            break
    assert number < 99
