"""A search lasts as long as it promises: endpoints that take logins and serve nobody, many at once, the app's close."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from instrumented_wrapper import FailoverFailedError
from servers import guard

from .driver import DriverUnderTest
from .rows import PATIENCE, error_of, no_attempt_is_under_way

IS_ABOUT_SERVERS = True

AT_ONCE = 8
FORGIVING = {"failover": "on", "failover_timeout": PATIENCE}
WITHOUT_END = {"failover": "on", "failover_timeout": 10 * PATIENCE}


def test_a_host_without_a_port_has_the_port_of_the_connection(driver, connect, site, endpoint) -> None:
    one = endpoint()
    options = {**FORGIVING, "failover_hosts": one.host}
    connection = connect(site.dsn(one), autocommit=True, instrumented_wrapper=options)
    one.cut()
    one.clear()
    assert driver.execute(connection, "SELECT 1") == [(1,)]
    assert one.connections == 1


def test_a_host_that_does_not_answer_keeps_no_other_from_being_asked(driver, connect, site, endpoint) -> None:
    one = endpoint()
    connection = connect(site.dsn(one, site.cluster.primary), autocommit=True, instrumented_wrapper=FORGIVING)
    one.hold()
    one.cut()
    assert driver.execute(connection, "SELECT 1") == [(1,)]


# --- endpoints that take a login and serve nobody -----------------------------------------------------------------


def test_an_endpoint_that_refuses_the_first_statement_is_asked_again(driver, connect, site, endpoint, table) -> None:
    one = endpoint()
    connection = connect(site.dsn(one), autocommit=True, instrumented_wrapper=FORGIVING)
    one.ends_at, one.times = site.first_question, 20
    one.cut()
    driver.execute(connection, f"INSERT INTO {table} VALUES (1)")
    assert one.hits == 21
    assert site.ids(table) == [1]


def test_an_endpoint_that_refuses_what_configures_a_session_is_asked_again(driver, connect, site, endpoint) -> None:
    one = endpoint()
    connection = connect(site.dsn(one), autocommit=True, instrumented_wrapper=FORGIVING)
    driver.execute(connection, site.setting)
    one.ends_at, one.times = site.setting_sent, 12
    one.cut()
    assert driver.execute(connection, "SELECT 1") == [(1,)]
    assert one.hits == 13


def test_another_host_is_taken_before_one_that_serves_nobody(driver, connect, site, endpoint) -> None:
    one, other = endpoint(), endpoint()
    connection = connect(site.dsn(one, other), autocommit=True, instrumented_wrapper=FORGIVING)
    one.ends_at = site.first_question
    one.cut()
    other.clear()
    assert driver.execute(connection, "SELECT 1") == [(1,)]
    assert other.connections == 1


def test_an_endpoint_that_serves_nobody_is_asked_with_pauses_until_the_time_is_up(
    driver, connect, site, endpoint
) -> None:
    one = endpoint()
    options = {"failover": "on", "failover_timeout": 1}
    connection = connect(site.dsn(one), autocommit=True, instrumented_wrapper=options)
    one.ends_at = site.first_question
    one.cut()
    one.clear()
    with pytest.raises(FailoverFailedError):
        driver.execute(connection, "SELECT 1")
    assert 5 < one.connections < 100  # the pauses grow with what has passed, whatever the machine does
    assert driver.is_closed(connection)


def test_where_nobody_answers_it_ends_when_the_time_is_up(driver: DriverUnderTest, connect, site, endpoint) -> None:
    one = endpoint()
    connection = connect(site.dsn(one), autocommit=True, instrumented_wrapper={**FORGIVING, "failover_timeout": 1})
    one.hold()
    one.cut()
    with pytest.raises(FailoverFailedError, match="no server took over"):
        driver.execute(connection, "SELECT 1")
    assert guard.wait_until(no_attempt_is_under_way, PATIENCE)  # psycopg2's connect_timeout is two seconds at least
    one.release()
    assert site.none_left()


def test_a_server_that_stops_answering_while_it_is_configured_fails_the_switch(
    driver: DriverUnderTest, connect, site, endpoint
) -> None:
    one = endpoint()
    connection = connect(site.dsn(one), autocommit=True, instrumented_wrapper={**FORGIVING, "failover_timeout": 1})
    driver.execute(connection, site.setting)
    one.holds_at = site.setting_sent
    one.cut()
    with pytest.raises(FailoverFailedError, match="could not be configured") as caught:
        driver.execute(connection, "SELECT 1")
    assert one.hits
    assert isinstance(caught.value, driver.operational_error)
    one.release()
    assert site.none_left()


# --- many at once -------------------------------------------------------------------------------------------------


def test_lost_together_they_connect_a_few_at_a_time(driver: DriverUnderTest, connect, site, endpoint) -> None:
    one, number = endpoint(), 20
    many = [connect(site.dsn(one), autocommit=True, instrumented_wrapper=FORGIVING) for _ in range(number)]
    one.refuse()
    one.cut()
    with ThreadPoolExecutor(number) as threads:
        calls = [threads.submit(driver.execute, connection, "SELECT 1") for connection in many]
        one.holds_at, one.spares, one.times = site.first_question, 1, 1  # the leader goes on
        one.clear()
        one.accept()
        assert guard.wait_until(lambda: one.connections == 1 + AT_ONCE, PATIENCE)
        assert not guard.wait_until(lambda: one.connections > 1 + AT_ONCE, 0.3)
        one.release()
        assert [error_of(call) for call in calls] == [None] * number


# --- the app's own close ------------------------------------------------------------------------------------------


def test_close_ends_a_search_where_nobody_answers(driver: DriverUnderTest, connect, site, endpoint, background) -> None:
    one = endpoint()
    connection = connect(site.dsn(one), autocommit=True, instrumented_wrapper=WITHOUT_END)
    one.hold()
    one.cut()
    one.clear()
    under_way = background(driver.execute, connection, "SELECT 1")
    assert guard.wait_until(lambda: one.connections > 0, PATIENCE)
    driver.close(connection)
    assert isinstance(error_of(under_way), FailoverFailedError)
    assert driver.is_closed(connection)
    one.release()
    with pytest.raises(driver.closed_error):
        driver.execute(connection, "SELECT 'reached'")
    assert b"reached" not in one.seen("client")
    assert site.none_left()


def test_close_ends_a_search_that_follows_another(driver: DriverUnderTest, connect, site, endpoint, background) -> None:
    one = endpoint()
    leader, *followers = [connect(site.dsn(one), autocommit=True, instrumented_wrapper=WITHOUT_END) for _ in range(3)]
    one.hold()
    one.cut()
    one.clear()
    leading = background(driver.execute, leader, "SELECT 1")
    assert guard.wait_until(lambda: one.connections > 0, PATIENCE)
    following = [background(driver.execute, connection, "SELECT 1") for connection in followers]
    for connection in followers:
        driver.close(connection)
    assert [type(error_of(call)) for call in following] != [type(None)] * 2
    assert all(isinstance(error_of(call), driver.operational_error | driver.closed_error) for call in following)
    assert not leading.done()
    driver.close(leader)
    assert isinstance(error_of(leading), FailoverFailedError)


def test_close_ends_a_switch_that_configures_a_session(driver: DriverUnderTest, connect, site, endpoint, background):
    one = endpoint()
    connection = connect(site.dsn(one), autocommit=True, instrumented_wrapper=WITHOUT_END)
    driver.execute(connection, site.setting)
    one.holds_at = site.setting_sent
    one.cut()
    under_way = background(driver.execute, connection, "SELECT 1")
    assert guard.wait_until(lambda: one.hits > 0, PATIENCE)
    driver.close(connection)
    assert isinstance(error_of(under_way), FailoverFailedError)
    one.release()
    assert site.none_left()
