"""Section 2, `verify_session`: what the server says is compared with what is tracked, and nothing is changed."""

from typing import Any

import pytest

from instrumented_wrapper import session_state
from instrumented_wrapper.drivers.registry import tracked
from instrumented_wrapper.owners import thread_of, unwrapped

from .driver import DriverUnderTest
from .measured import Measured


def behind(driver: DriverUnderTest, connection: Any, text: str) -> None:
    """Send a text on the same session, past all that is patched."""
    known = unwrapped(connection)
    found = tracked(known)
    assert found is not None
    if (in_thread := thread_of(connection)) is not None:
        driver.call(in_thread, found[0].query, known, text)
    elif driver.is_async:
        driver.call(found[0].query, known, text)
    else:
        found[0].query(known, text)


def verified(driver: DriverUnderTest, connection: Any) -> dict[str, tuple[Any, Any]]:
    """Verify, and see that it changes nothing of what is tracked."""
    before = dict(session_state(connection))
    found = driver.verb("verify_session")(connection)
    assert dict(session_state(connection)) == before
    return found


def test_nothing_was_changed(driver: DriverUnderTest, connect: Any) -> None:
    assert verified(driver, connect()) == {}


def test_all_is_as_it_is_tracked(driver: DriverUnderTest, connect: Any) -> None:
    connection = connect()
    for setting, value in driver.changed.items():
        driver.set(connection, setting, value)
    driver.rollback(connection)
    assert verified(driver, connection) == {}


def test_each_spelling_is_understood(driver: DriverUnderTest, connect: Any, site: Any) -> None:
    connection = connect()
    for text in site.sets_in_many_ways:
        driver.execute(connection, text)
        driver.execute(connection, "SELECT 1")  # asks what is in doubt, where the answer did not say all
        driver.commit(connection)
        assert verified(driver, connection) == {}, text
        assert verified(driver, connection) == {}, text  # asking has changed nothing


def test_a_change_that_nobody_saw(driver: DriverUnderTest, connect: Any, site: Any, measured: Measured) -> None:
    for name, sets, changes, difference in site.unseen_changes:
        connection = connect()
        driver.execute(connection, sets)
        driver.commit(connection)
        behind(driver, connection, changes)
        state = session_state(connection).get(name)  # where the server reports a change, nothing is unseen
        expected = {} if state is not None and state.value == difference else {name: difference}
        found = verified(driver, connection)
        assert {key: actual for key, (_, actual) in found.items()} == expected, changes


def test_each_difference_is_counted(driver: DriverUnderTest, connect: Any, site: Any, measured: Measured) -> None:
    connection = connect()
    name, sets, changes, _ = next(one for one in site.unseen_changes if one[0] in (site.tenant, "foreign_keys"))
    driver.execute(connection, sets)
    driver.commit(connection)
    behind(driver, connection, changes)
    differs = verified(driver, connection) != {}
    family = "custom" if name == site.tenant else name
    told = {"operation": "drift", "setting": family, "outcome": "tracked"}
    counted = {frozenset((f"instrumented_wrapper.{key}", value) for key, value in told.items()): 1}
    assert {
        key: n for key, n in measured.new("settings").items() if ("instrumented_wrapper.operation", "drift") in key
    } == (counted if differs else {})


def test_it_is_one_round_trip(driver: DriverUnderTest, connect: Any, site: Any, proxy: Any) -> None:
    connection = connect(site.dsn(proxy))
    driver.execute(connection, site.setting)
    driver.execute(connection, site.sets_tenant)
    driver.commit(connection)
    proxy.clear()
    assert verified(driver, connection) == {}
    assert site.round_trips(proxy) == 1
    assert not driver.in_transaction(connection)


def test_the_baseline_is_what_is_expected(driver: DriverUnderTest, connect: Any, site: Any) -> None:
    connection = connect()
    driver.execute(connection, site.sets_tenant)
    driver.commit(connection)
    driver.verb("mark_pristine")(connection)
    assert verified(driver, connection) == {}


def test_after_a_reset(driver: DriverUnderTest, connect: Any, site: Any) -> None:
    connection = connect()
    for _, sets, _, _ in site.unseen_changes:
        driver.execute(connection, sets)
    driver.commit(connection)
    assert driver.verb("reset_session")(connection)
    assert verified(driver, connection) == {}


def test_after_a_rollback(driver: DriverUnderTest, connect: Any, site: Any) -> None:
    connection = connect()
    for _, sets, _, _ in site.unseen_changes:
        driver.execute(connection, sets)
        driver.rollback(connection)
        assert verified(driver, connection) == {}, sets


def test_after_a_failover(driver: DriverUnderTest, connect: Any, site: Any) -> None:
    connection = connect(site.dsn(), instrumented_wrapper={"failover": "on"})
    for _, sets, _, _ in site.unseen_changes:
        driver.execute(connection, sets)
    driver.commit(connection)
    site.cluster.wait_streaming()
    site.cluster.failover()
    driver.execute(connection, "SELECT 1")
    driver.commit(connection)
    assert verified(driver, connection) == {}


def test_in_a_transaction(driver: DriverUnderTest, connect: Any, site: Any, table: str) -> None:
    connection = connect()
    with driver.block(connection):
        driver.execute(connection, f"INSERT INTO {table} VALUES (1)")
        with pytest.raises(Exception, match="outside a transaction") as caught:
            driver.verb("verify_session")(connection)
        assert isinstance(caught.value, (driver.programming_error, driver.closed_error))
    assert verified(driver, connection) == {}
    assert site.ids(table) == [1]


def test_a_closed_connection(driver: DriverUnderTest, connect: Any) -> None:
    connection = connect()
    driver.close(connection)
    with pytest.raises((driver.operational_error, driver.closed_error, ValueError)):  # the last is aiosqlite's own
        driver.verb("verify_session")(connection)


def test_a_session_that_has_ended(driver: DriverUnderTest, connect: Any, site: Any) -> None:
    """It starts no switch; the next statement does."""
    connection = connect()
    driver.execute(connection, site.setting)
    driver.commit(connection)
    site.end_sessions()
    with pytest.raises(driver.operational_error):
        driver.verb("verify_session")(connection)
    driver.execute(connection, "SELECT 1")
    driver.commit(connection)
    assert verified(driver, connection) == {}


def test_what_is_no_connection(driver: DriverUnderTest, connect: Any) -> None:
    for thing in (None, object(), "connection"):
        with pytest.raises(TypeError):
            driver.verb("verify_session")(thing)
    with pytest.raises(TypeError, match="_async"):
        driver.verb("verify_session", wrong=True)(connect())
