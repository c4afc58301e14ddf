"""Sections 1 and 2: what is recorded of a session, and what its baseline is."""

from collections.abc import Mapping
from typing import Any

import pytest

from instrumented_wrapper import SettingState, session_state

from .driver import Callback, DriverUnderTest


def test_nothing_is_known_at_first(driver: DriverUnderTest, connect: Any) -> None:
    state = session_state(connect())
    assert isinstance(state, Mapping)
    assert dict(state) == {}


def test_each_setting_is_kept_with_what_it_was_before(driver: DriverUnderTest, connect: Any, site: Any) -> None:
    connection = connect()
    for setting, value in driver.changed.items():
        driver.set(connection, setting, value)
    assert driver.known(connection) == {name: (driver.default[name], value) for name, value in driver.changed.items()}
    assert not any(state.is_pristine for state in session_state(connection).values())
    if driver.has("autocommit"):
        driver.set(connection, "autocommit", False)
    assert tuple(driver.execute(connection, site.in_effect)[0]) == site.changed_in_effect


def test_the_pristine_value_is_fetched_once(driver: DriverUnderTest, connect: Any, spans: Any) -> None:
    connection = connect()
    for value in (True, False, True):
        driver.set(connection, "read_only", value)
    assert len(spans.named("session_state.pristine_fetch")) == 1
    assert driver.known(connection) == {"read_only": (driver.default["read_only"], True)}


def test_a_change_that_fails_leaves_the_state(driver: DriverUnderTest, connect: Any) -> None:
    connection = connect()
    driver.set(connection, "read_only", True)
    driver.execute(connection, "SELECT 1")
    for setting, value in driver.refused.items():
        with pytest.raises((driver.programming_error, ValueError)):
            driver.set(connection, setting, value)
    driver.rollback(connection)
    assert driver.known(connection)["read_only"] == (driver.default["read_only"], True)
    assert all(before == after for name, (before, after) in driver.known(connection).items() if name != "read_only")


def test_the_default_is_a_value(driver: DriverUnderTest, connect: Any) -> None:
    connection = connect()
    setting, default = "isolation_level", driver.default["isolation_level"]
    driver.set(connection, setting, driver.changed[setting])
    driver.set(connection, setting, default)
    assert driver.known(connection) == {setting: (default, default)}
    assert session_state(connection)[setting].is_pristine


def test_entries_stay_after_a_reset(driver: DriverUnderTest, connect: Any) -> None:
    connection = connect()
    default = driver.default["read_only"]
    driver.set(connection, "read_only", True)
    driver.verb("reset_session")(connection)
    assert driver.known(connection) == {"read_only": (default, default)}


def test_it_is_a_snapshot_that_can_be_read(driver: DriverUnderTest, connect: Any) -> None:
    connection = connect()
    default = driver.default["read_only"]
    driver.set(connection, "read_only", True)
    state = session_state(connection)["read_only"]
    driver.set(connection, "read_only", False)
    assert isinstance(state, SettingState)
    assert str(state) == f"{state.name}: {state.pristine_value} -> {state.value}"
    assert (state.name, state.is_pristine) == (driver.named("read_only"), False)
    assert (state.pristine_value, state.value) == (driver.told("read_only", default), driver.told("read_only", True))


def test_what_is_no_connection_is_refused(driver: DriverUnderTest, connect: Any) -> None:
    for thing in (None, object(), "connection", driver.cursor(connect())):
        with pytest.raises(TypeError):
            session_state(thing)


# --- the baseline -----------------------------------------------------------------------------------------------


def test_keywords_of_connect_are_the_baseline(driver: DriverUnderTest, connect: Any) -> None:
    driver.needs("autocommit as a setting")
    connection = connect(autocommit=True)
    assert driver.known(connection) == {}
    driver.set(connection, "autocommit", False)
    assert driver.known(connection) == {"autocommit": (True, False)}


def test_what_a_class_of_the_app_does_in_connect_is_the_baseline(driver: DriverUnderTest, site: Any) -> None:
    driver.needs("classes whose connect configures")
    connection = driver.connect_subclass(site.dsn(), autocommit=True, read_only=True)
    assert driver.known(connection) == {}
    site.end_sessions()
    driver.execute(connection, "SELECT 1")
    assert (driver.get(connection, "autocommit"), driver.get(connection, "read_only")) == (True, True)
    driver.set(connection, "read_only", False)
    assert driver.known(connection) == {"read_only": (True, False)}
    driver.close(connection)


def test_what_a_pool_configures_is_the_baseline(driver: DriverUnderTest, pool: Any, site: Any) -> None:
    driver.needs("autocommit as a setting")
    pool = pool(configure=Callback({"autocommit": True}))
    connection = driver.take(pool)
    assert driver.known(connection) == {}
    for _ in range(2):
        site.end_sessions()
        driver.execute(connection, "SELECT 1")
        assert driver.get(connection, "autocommit") is True
    driver.set(connection, "autocommit", False)
    driver.give_back(pool, connection)
    assert driver.take(pool) is connection
    assert driver.get(connection, "autocommit") is True
    driver.give_back(pool, connection)


def test_a_switch_never_changes_what_is_pristine(driver: DriverUnderTest, connect: Any, site: Any) -> None:
    connection = connect(autocommit=True)
    driver.set(connection, "read_only", True)
    before = driver.known(connection)
    site.end_sessions()
    driver.execute(connection, "SELECT 1")
    assert driver.known(connection) == before == {"read_only": (driver.default["read_only"], True)}
    driver.verb("reset_session")(connection)
    assert driver.get(connection, "read_only") == driver.default["read_only"]
    assert driver.get(connection, "autocommit") is True
