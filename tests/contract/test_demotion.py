"""Section 4, the row of a demoted server: a write that a standby refuses moves the connection to a primary."""

from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError

from .driver import DriverUnderTest
from .rows import insert, refuses_until_rollback, rolled_back, session

IS_ABOUT_SERVERS = True


def on_standby_first(site: Any, **extra: Any) -> str:
    return site.dsn(site.cluster.standby, site.cluster.primary, **extra)


def test_write_on_a_standby(driver: DriverUnderTest, connect, site, table, spans) -> None:
    site.cluster.wait_streaming()
    connection = connect(on_standby_first(site), autocommit=True)
    assert driver.execute(connection, site.is_standby) == [(True,)]
    driver.execute(connection, insert(table, 1))
    assert site.ids(table) == [1]
    assert driver.execute(connection, site.is_standby) == [(False,)]
    (span,) = spans.named("failover")
    assert span.attributes["instrumented_wrapper.trigger"] == "demoted"
    assert site.none_left(site.cluster.standby)


def test_write_on_a_standby_in_a_transaction(driver: DriverUnderTest, connect, site, table) -> None:
    site.cluster.wait_streaming()
    connection = connect(on_standby_first(site))
    driver.execute(connection, f"SELECT id FROM {table}")
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute(connection, insert(table, 1))
    rolled_back(caught.value, driver)
    refuses_until_rollback(driver, connection, table)
    assert driver.execute(connection, site.is_standby) == [(False,)]


def test_write_on_a_standby_with_state_that_is_not_carried(driver: DriverUnderTest, connect, site, table) -> None:
    site.cluster.wait_streaming()
    connection = connect(on_standby_first(site), autocommit=True)
    statement, left = next(iter(site.leaving.items()))
    driver.execute(connection, statement)
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute(connection, insert(table, 1))
    assert (caught.value.transaction, caught.value.may_have_run) == ("none", False)
    assert caught.value.not_restored == (left,)
    assert site.ids(table) == []
    driver.execute(connection, insert(table, 1))
    assert site.ids(table) == [1]


@pytest.mark.parametrize("how", ["setting", "text", "session", "attrs"])
def test_write_of_an_app_that_asked_for_read_only(driver: DriverUnderTest, connect, site, table, how: str) -> None:
    site.cluster.wait_streaming()
    attrs = driver.wish_for("standby") if how == "attrs" else {}
    connection = connect(on_standby_first(site, **attrs), autocommit=how != "setting")
    if how == "setting":
        driver.set(connection, "read_only", True)
    elif how == "text":
        driver.execute(connection, site.begin_read_only)
    elif how == "session":
        driver.execute(connection, site.read_only_session)
    before = session(driver, connection, site)
    with pytest.raises(driver.read_only_error):
        driver.execute(connection, insert(table, 1))
    assert site.sessions(site.cluster.standby) == [before]
    assert site.sessions() == []


def test_write_in_the_apps_own_read_only_transaction(driver: DriverUnderTest, connect, site, table, spans) -> None:
    connection = connect()
    driver.set(connection, "read_only", True)
    before = session(driver, connection, site)
    with pytest.raises(driver.read_only_error):
        driver.execute(connection, insert(table, 1))
    assert spans.named("failover") == []
    assert site.sessions() == [before]
