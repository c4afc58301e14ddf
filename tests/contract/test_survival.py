"""Section 6, `instrumented_wrapper.sessions`: how many sessions would survive a loss, and what keeps the others."""

import gc
import os
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from instrumented_wrapper import session_state
from instrumented_wrapper.drivers.engine.survival import survey

from .driver import DriverUnderTest
from .measured import OURS, Measured
from .rows import insert

IS_ABOUT_SERVERS = True
NAMES = {
    "temporary tables": "temporary_table",
    "advisory locks": "advisory_lock",
    "locks": "advisory_lock",
    "locked tables": "advisory_lock",
    "prepared statements": "prepared_statement",
    "held cursors": "held_cursor",
    "handlers": "held_cursor",
    "LISTEN": "listen",
}
ON = {"instrumented_wrapper": {"failover": "on"}}


BEFORE: Counter[str] = Counter()  # the sessions that tests before have left, such as those of a pool


@pytest.fixture(autouse=True)
def left_by_others(measured: Measured, driver: DriverUnderTest) -> Iterator[None]:
    BEFORE.clear()
    BEFORE.update(_all(measured, driver))
    yield
    BEFORE.clear()


def counted(measured: Measured, driver: DriverUnderTest) -> dict[str, int]:
    """Return the number of sessions by reason, those of the driver under test that were made by this test."""
    return dict(_all(measured, driver) - BEFORE)


def _all(measured: Measured, driver: DriverUnderTest) -> Counter[str]:
    gc.collect()
    metric = measured.metrics().get(OURS + "sessions")
    points = metric.data.data_points if metric is not None else ()
    found: Counter[str] = Counter()
    for point in points:
        where = point.attributes[OURS + "driver"], point.attributes["db.system.name"]
        if where == (driver.name, driver.site.system) and point.value:
            reason = point.attributes[OURS + "reason"]
            assert point.attributes[OURS + "restorable"] == ("true" if reason == "none" else "false")
            found[reason] += point.value
    return found


def test_a_new_session(driver: DriverUnderTest, connect: Any, measured: Measured) -> None:
    before = counted(measured, driver)
    connection = connect(**ON)
    assert counted(measured, driver) == {**before, "none": before.get("none", 0) + 1}
    driver.close(connection)
    assert counted(measured, driver) == before


def test_changed_settings_survive(driver: DriverUnderTest, connect: Any, site: Any, measured: Measured) -> None:
    connection = connect(**ON)
    driver.execute(connection, site.setting)
    driver.execute(connection, site.sets_tenant)
    driver.commit(connection)
    assert counted(measured, driver) == {"none": 1}


def test_failover_is_off(driver: DriverUnderTest, connect: Any, measured: Measured) -> None:
    _connection = connect(instrumented_wrapper={"failover": "off"})
    assert counted(measured, driver) == {"failover_off": 1}


def test_without_metrics(driver: DriverUnderTest, connect: Any, measured: Measured) -> None:
    _connection = connect(instrumented_wrapper={"failover": "on", "metrics": False})
    assert counted(measured, driver) == {}


@pytest.mark.parametrize("commits", [True, False])
def test_a_transaction(driver: DriverUnderTest, connect: Any, measured, table, commits: bool) -> None:
    connection = connect(**ON)
    for number in (1, 2):
        with driver.block(connection):
            driver.execute(connection, insert(table, number))
            assert counted(measured, driver) == {"transaction": 1}
        assert counted(measured, driver) == {"none": 1}
        if commits:
            driver.commit(connection)


def test_a_transaction_that_no_text_begins(driver: DriverUnderTest, connect: Any, measured, table) -> None:
    driver.needs("autocommit")
    connection = connect(**ON)
    driver.set(connection, "autocommit", True)
    if driver.in_transaction(connection) is not None:  # otherwise a loss now would count as one in a transaction, too
        driver.execute(connection, "SELECT 1")
    assert counted(measured, driver) == {"none": 1}
    driver.set(connection, "autocommit", False)
    assert counted(measured, driver) == {"none": 1}
    for end in (driver.commit, driver.rollback):
        driver.execute(connection, insert(table, 1))
        assert counted(measured, driver) == {"transaction": 1}
        driver.execute(connection, insert(table, 2))
        assert counted(measured, driver) == {"transaction": 1}
        end(connection)
        assert counted(measured, driver) == {"none": 1}


def test_a_transaction_that_has_failed(driver: DriverUnderTest, connect: Any, measured) -> None:
    driver.needs("aborted transactions")
    connection = connect(**ON)
    driver.execute(connection, "BEGIN") if not driver.has("autocommit") else None
    with pytest.raises(Exception, match="no_such_table"):
        driver.execute(connection, "SELECT * FROM no_such_table")
    assert counted(measured, driver) == {"transaction": 1}
    driver.execute(connection, "ROLLBACK")
    assert counted(measured, driver) == {"none": 1}


def test_what_a_switch_cannot_carry(driver: DriverUnderTest, connect: Any, site: Any, measured: Measured) -> None:
    for text, kind in site.leaving.items():
        connection = connect(**ON)
        driver.execute(connection, text)
        driver.commit(connection)
        assert counted(measured, driver) == {NAMES.get(kind, "doubt"): 1}, text
        driver.close(connection)
        assert counted(measured, driver) == {}


def test_what_was_ended_survives(driver: DriverUnderTest, connect: Any, site: Any, measured: Measured) -> None:
    lock, unlock = next(texts for texts in site.ended if "LOCK(" in texts[0].upper() and len(texts) == 2)
    connection = connect(**ON)
    driver.execute(connection, lock)
    assert counted(measured, driver) == {"advisory_lock": 1}
    driver.execute(connection, unlock)
    driver.commit(connection)
    assert counted(measured, driver) == {"none": 1}


def test_what_is_in_doubt(driver: DriverUnderTest, connect: Any, site: Any, measured: Measured) -> None:
    connection = connect(**ON)
    for text in site.sets_unnamed:
        driver.execute(connection, text)
    driver.commit(connection)
    assert counted(measured, driver) in ({"doubt": 1}, {"none": 1})
    assert (counted(measured, driver) == {"none": 1}) <= bool(session_state(connection))


def test_after_a_failover(driver: DriverUnderTest, connect: Any, site: Any, measured: Measured) -> None:
    connection = connect(**ON)
    driver.execute(connection, site.setting)
    driver.commit(connection)
    site.end_sessions()
    driver.execute(connection, "SELECT 1")
    driver.commit(connection)
    assert counted(measured, driver) == {"none": 1}


def test_a_connection_that_is_gone(driver: DriverUnderTest, connect: Any, site: Any, measured: Measured) -> None:
    connection = driver.connect(site.dsn(), **ON)
    assert counted(measured, driver) == {"none": 1}
    driver.close(connection)
    del connection
    assert counted(measured, driver) == {}


def test_a_forked_child_has_none(driver: DriverUnderTest, connect: Any) -> None:
    before = sum(survey().values())
    _connection = connect(**ON)
    assert sum(survey().values()) == before + 1
    if (child := os.fork()) == 0:
        os._exit(sum(survey().values()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_any_thread_may_ask(driver: DriverUnderTest, connect: Any, site: Any) -> None:
    """It reads what the app's thread changes: nothing breaks, and nothing is counted that is not there."""
    done, counts = threading.Event(), set[int]()

    def ask() -> None:
        while not done.is_set():
            counts.add(sum(survey().values()))

    asking = threading.Thread(target=ask)
    before = sum(survey().values())
    connection = connect(**ON)
    asking.start()
    for number in range(100):
        driver.execute(
            connection, site.setting if number % 3 else next(iter(site.leaving)).replace("plan", f"p{number}")
        )
        if not number % 10:
            driver.close(driver.connect(site.dsn(), **ON))
    done.set()
    asking.join()
    assert counts <= {before + 1, before + 2}
    assert before + 1 in counts


def test_it_sends_nothing(driver: DriverUnderTest, connect: Any, site: Any, proxy: Any, measured: Measured) -> None:
    _connection = connect(site.dsn(proxy), **ON)
    proxy.clear()
    assert counted(measured, driver) == {"none": 1}
    assert proxy.seen("client") == b""
