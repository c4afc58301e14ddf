"""Section 4 in a pool: its objects stay, its health checks see the same rules within their own time limits."""

import pytest

from instrumented_wrapper import FailoverSuccessError
from servers import Proxy

from .driver import DriverUnderTest
from .rows import insert, session, usable

IS_ABOUT_SERVERS = True


@pytest.mark.parametrize("checked", [False, True])
def test_idle_in_a_pool(driver: DriverUnderTest, pool, site, table, checked: bool) -> None:
    if checked:
        driver.needs("pool checks")
    opened = pool(check=driver.pool_check if checked else None)
    connection = driver.take(opened)
    driver.give_back(opened, connection)
    site.cluster.wait_streaming()
    site.cluster.failover()
    assert driver.take(opened) is connection
    driver.execute(connection, insert(table, 1))
    driver.commit(connection)
    driver.give_back(opened, connection)
    assert site.ids(table) == [1]


def test_a_health_check_lasts_no_longer_than_the_pool_waits(driver: DriverUnderTest, pool, site, proxy: Proxy) -> None:
    driver.needs("pool timeouts")
    options = {"failover": "on", "failover_timeout": 60}
    opened = pool(site.dsn(proxy), check=driver.pool_check, kwargs={"instrumented_wrapper": options})
    proxy.refuse()
    proxy.cut()
    with pytest.raises(driver.pool_timeout):
        driver.take(opened, 1.0)  # nobody can be reached before it ends
    proxy.accept()
    connection = driver.take(opened)
    usable(driver, connection)
    driver.give_back(opened, connection)


def test_lost_in_a_transaction_and_given_back(driver: DriverUnderTest, pool, site, table, caplog) -> None:
    opened = pool()
    connection = driver.take(opened)
    driver.execute(connection, insert(table, 1))
    with pytest.raises(FailoverSuccessError):
        driver.execute(connection, site.suicide)
    driver.give_back(opened, connection)
    following = driver.take(opened)
    usable(driver, following)
    driver.execute(following, insert(table, 2))
    driver.commit(following)
    assert site.ids(table) == [2]
    number = session(driver, following, site)
    driver.give_back(opened, following)
    assert site.only_session_is(number)


def test_settings_that_a_switch_carried_are_reset_on_return(driver: DriverUnderTest, pool, site) -> None:
    opened = pool()
    connection = driver.take(opened)
    for setting, value in driver.changed.items():
        driver.set(connection, setting, value)
    site.end_sessions()
    assert driver.execute(connection, "SELECT 1") == [(1,)]
    assert driver.get(connection, "isolation_level") == driver.changed["isolation_level"]
    driver.give_back(opened, connection)
    assert driver.take(opened) is connection
    assert {name: driver.get(connection, name) for name in driver.default} == driver.default
    driver.give_back(opened, connection)


def test_what_was_discarded_is_replaced_on_the_server_that_took_over(
    driver: DriverUnderTest, pool, site, table
) -> None:
    opened = pool(kwargs={"instrumented_wrapper": {"reset_on_return": "close"}})
    connection = driver.take(opened)
    driver.execute(connection, site.sets_tenant)
    driver.commit(connection)
    site.cluster.wait_streaming()
    site.cluster.failover()
    driver.execute(connection, "SELECT 1")
    driver.commit(connection)
    driver.give_back(opened, connection)
    following = driver.take(opened)
    driver.execute(following, insert(table, 1))
    driver.commit(following)
    driver.give_back(opened, following)
    assert site.ids(table) == [1]
