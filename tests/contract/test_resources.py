"""What many switches, and searches that find nobody, leave behind: no session, descriptor, thread or task."""

import asyncio
import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from servers import Proxy, guard

from .driver import DriverUnderTest
from .rows import PATIENCE, error_of, no_attempt_is_under_way

IS_ABOUT_SERVERS = True
SWITCHES = 30
# One search asks a host about every 20 ms at first and more rarely later; ten of their own would ask ten times that.
ATTEMPTS_OF_ONE_SEARCH = 150


async def tasks() -> int:
    return len(asyncio.all_tasks())


def tally(driver: DriverUnderTest, site: Any) -> tuple[int, ...]:
    """Count descriptors, threads, sessions and tasks."""
    gc.collect()
    open_files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    counted = (open_files, threading.active_count(), len(site.sessions()))
    return (*counted, driver.call(tasks)) if driver.is_async else counted


@pytest.mark.parametrize("how", ["planned", "lost"])
def test_many_switches_leave_one_session(driver: DriverUnderTest, connect, site, how: str) -> None:
    connection = connect(autocommit=True)
    driver.execute(connection, site.sets_tenant)

    def switch() -> None:
        if how == "planned":
            driver.verb("switch")(connection)
        else:
            site.end_sessions()
        assert driver.execute(connection, site.shows_tenant) == [("acme",)]

    switch()  # what is made only once is made now
    assert guard.wait_until(no_attempt_is_under_way, PATIENCE)
    before, seen = tally(driver, site), {*site.sessions()}
    for _ in range(SWITCHES):
        switch()
        seen.update(site.sessions())
    assert len(seen) > SWITCHES * 0.9  # numbers of sessions may come again
    no_more = lambda: all(now <= was for now, was in zip(tally(driver, site), before, strict=True))  # noqa: E731
    assert guard.wait_until(no_more, PATIENCE), (tally(driver, site), before)
    assert before[2] == 1


def test_a_search_that_finds_nobody_ends_for_all(driver: DriverUnderTest, connect, site, proxy: Proxy) -> None:
    options = {"failover": "on", "failover_timeout": 1}
    many = [connect(site.dsn(proxy), autocommit=True, instrumented_wrapper=options) for _ in range(10)]
    proxy.retarget("127.0.0.1", 1)  # nobody listens there: each attempt is counted, and fails
    proxy.cut()
    proxy.clear()
    with ThreadPoolExecutor(len(many)) as threads:
        calls = [threads.submit(driver.execute, connection, "SELECT 1") for connection in many]
        errors = [error_of(call) for call in calls]
    assert 0 < proxy.connections <= ATTEMPTS_OF_ONE_SEARCH
    assert all(isinstance(error, driver.operational_error) for error in errors)
    assert all(driver.is_closed(connection) for connection in many)


def test_other_tasks_run_while_no_server_answers(driver: DriverUnderTest, connect, site, proxy, background) -> None:
    if not driver.is_async:
        pytest.skip(f"{driver.name} has no tasks")
    connection, other = connect(site.dsn(proxy), autocommit=True, instrumented_wrapper={"failover": "on"}), connect()
    proxy.hold()
    proxy.cut()
    proxy.clear()
    under_way = background(driver.execute, connection, "SELECT 1")
    assert guard.wait_until(lambda: proxy.connections > 0, PATIENCE)
    for _ in range(20):
        assert driver.execute(other, "SELECT 1") == [(1,)]
    assert not under_way.done()
    proxy.release()
    assert error_of(under_way) is None
