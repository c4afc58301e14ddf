"""Section 4, the table: a loss with no transaction, in one, in rollback(). COMMIT has a file of its own."""

from typing import Any

import pytest

from instrumented_wrapper import FailoverError, FailoverSuccessError, session_state
from servers import Proxy

from .driver import DriverUnderTest
from .rows import error_of, insert, refuses_until_rollback, rolled_back, session, told, usable

IS_ABOUT_SERVERS = True

# --- no transaction open, nothing sent yet ----------------------------------------------------------------------


def test_idle_primary_killed(driver: DriverUnderTest, connect, site, table) -> None:
    connection = connect(autocommit=True)
    cursor = driver.cursor(connection)
    driver.set(connection, "isolation_level", driver.changed["isolation_level"])
    kind = type(connection)
    site.cluster.wait_streaming()
    site.cluster.failover()
    driver.execute(connection, insert(table, 1))
    driver.execute_on(cursor, insert(table, 2))
    assert site.ids(table) == [1, 2]  # on the new primary
    assert type(connection) is kind
    assert driver.get(connection, "isolation_level") == driver.changed["isolation_level"]
    assert not session_state(connection)["isolation_level"].is_pristine
    assert site.only_session_is(session(driver, connection, site))


@pytest.mark.parametrize("autocommit", [True, False])
def test_idle_session_ended(driver: DriverUnderTest, connect, site, table, autocommit: bool) -> None:
    connection = connect(autocommit=autocommit)
    old = session(driver, connection, site)
    driver.rollback(connection)
    site.end_sessions()
    driver.execute(connection, insert(table, 1))
    driver.commit(connection)
    assert site.ids(table) == [1]
    assert session(driver, connection, site) != old


def test_idle_before_a_block(driver: DriverUnderTest, connect, site, table) -> None:
    connection = connect(autocommit=True)
    site.end_sessions()
    with driver.block(connection):
        driver.execute(connection, insert(table, 1))
        assert site.ids(table) == []
    assert site.ids(table) == [1]


def test_idle_planned_stop(driver: DriverUnderTest, connect, site, table) -> None:
    connection = connect(autocommit=True)
    site.cluster.switchover()
    driver.execute(connection, insert(table, 1))
    assert site.ids(table) == [1]


def test_idle_with_state_that_is_not_carried(driver: DriverUnderTest, connect, site, table) -> None:
    connection = connect(autocommit=True)
    for statement, left in site.leaving.items():
        driver.execute(connection, statement)
        site.end_sessions()
        with pytest.raises(FailoverSuccessError) as caught:
            driver.execute(connection, insert(table, 1))
        error = told(caught.value, FailoverSuccessError, driver)
        assert (error.transaction, error.may_have_run, error.not_restored) == ("none", False, (left,))
        assert site.ids(table) == []  # nothing was sent
        usable(driver, connection)


def test_idle_for_too_long(driver: DriverUnderTest, connect, site, table, spans) -> None:
    connection = connect(site.dsn(**site.ends_idle_sessions), autocommit=True)
    assert site.none_left()
    driver.execute(connection, insert(table, 1))
    assert site.ids(table) == [1]
    (span,) = spans.named("failover")
    assert span.attributes["instrumented_wrapper.trigger"] == "session_ended"


# --- a statement in autocommit ----------------------------------------------------------------------------------


@pytest.mark.parametrize("killed", [False, True])
def test_autocommit_in_flight(driver: DriverUnderTest, connect, site, background, killed: bool) -> None:
    connection = connect(autocommit=True)
    driver.set(connection, "read_only", True)
    site.cluster.wait_streaming()
    under_way = background(driver.execute, connection, site.slow)
    site.wait_running()
    site.cluster.failover() if killed else site.end_sessions()
    error = told(error_of(under_way), FailoverSuccessError, driver)
    assert (error.transaction, error.may_have_run, error.not_restored) == ("none", True, ())
    assert error.server == (site.cluster.primary.host, site.cluster.primary.port)
    usable(driver, connection)
    assert (driver.get(connection, "autocommit"), driver.get(connection, "read_only")) == (True, True)
    assert site.state_of(session(driver, connection, site)) == "idle"


@pytest.mark.parametrize("sql", ["CREATE TABLE made_by_{} (id int)", "ALTER TABLE rows_of_{} COMMENT 'changed'"])
def test_a_statement_that_commits_by_itself(driver: DriverUnderTest, connect, site, table, proxy: Proxy, sql) -> None:
    """It is no first statement of a transaction, also outside autocommit: nobody can roll it back."""
    driver.needs("implicit commits")
    connection = connect(site.dsn(proxy, site.cluster.primary), autocommit=False)
    proxy.cut_when(b"the end", forward=True)
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute(connection, sql.format(site.name) + " /* the end */")
    assert (caught.value.transaction, caught.value.may_have_run) == ("none", True)
    driver.execute(connection, insert(table, 1))
    driver.commit(connection)
    assert site.ids(table) == [1]


@pytest.mark.parametrize("forward", [False, True])
def test_autocommit_never_runs_twice(driver: DriverUnderTest, connect, site, table, proxy: Proxy, forward) -> None:
    connection = connect(site.dsn(proxy, site.cluster.primary), autocommit=True)
    proxy.cut_when(b"INSERT INTO", forward=forward)
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute(connection, insert(table, 1))
    assert (caught.value.transaction, caught.value.may_have_run) == ("none", True)
    usable(driver, connection)
    assert site.ids(table) == [1] * forward


def test_a_statement_that_is_cancelled_is_no_loss(driver: DriverUnderTest, connect, site, spans) -> None:
    connection = connect(site.dsn(**site.ends_statements), autocommit=True)
    before = session(driver, connection, site)
    with pytest.raises(driver.ended_error) as caught:
        driver.execute(connection, site.limited)
    assert not isinstance(caught.value, FailoverError)
    assert session(driver, connection, site) == before
    assert spans.named("failover") == []


# --- in a transaction -------------------------------------------------------------------------------------------


def begun(driver: DriverUnderTest, connection: Any, table: str) -> None:
    driver.execute(connection, insert(table, 1))


def test_transaction_in_flight(driver: DriverUnderTest, connect, site, table, background) -> None:
    connection = connect()
    begun(driver, connection, table)
    under_way = background(driver.execute, connection, site.slow)
    site.wait_running()
    site.end_sessions()
    rolled_back(error_of(under_way), driver)
    refuses_until_rollback(driver, connection, table)
    assert site.ids(table) == []


def test_transaction_killed_in_flight(driver: DriverUnderTest, connect, site, table, background) -> None:
    connection = connect()
    site.cluster.wait_streaming()
    begun(driver, connection, table)
    under_way = background(driver.execute, connection, site.slow)
    site.wait_running()
    site.cluster.failover()
    rolled_back(error_of(under_way), driver)
    refuses_until_rollback(driver, connection, table)
    assert site.ids(table) == []


def test_first_statement_of_a_transaction(driver: DriverUnderTest, connect, site, table) -> None:
    connection = connect()
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute(connection, site.suicide)
    rolled_back(caught.value, driver)
    refuses_until_rollback(driver, connection, table)


def test_idle_in_transaction(driver: DriverUnderTest, connect, site, table) -> None:
    connection = connect()
    begun(driver, connection, table)
    site.end_sessions()
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute(connection, insert(table, 2))
    rolled_back(caught.value, driver)
    refuses_until_rollback(driver, connection, table)
    assert site.ids(table) == []


def test_idle_in_a_transaction_begun_by_text(driver: DriverUnderTest, connect, site, table) -> None:
    connection = connect(autocommit=True)
    driver.execute(connection, site.begin)
    begun(driver, connection, table)
    site.end_sessions()
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute(connection, insert(table, 2))
    rolled_back(caught.value, driver)
    refuses_until_rollback(driver, connection, table)
    assert site.ids(table) == []


def test_idle_in_transaction_for_too_long(driver: DriverUnderTest, connect, site, table) -> None:
    connection = connect(site.dsn(**site.ends_idle_transactions))
    begun(driver, connection, table)
    assert site.none_left()
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute(connection, insert(table, 2))
    rolled_back(caught.value, driver)  # an OperationalError, whatever the driver makes of such an end
    driver.rollback(connection)
    usable(driver, connection)
    assert site.ids(table) == []


@pytest.mark.parametrize("by_text", [False, True])
def test_commit_found_dead_before_it_was_sent(driver: DriverUnderTest, connect, site, table, by_text: bool) -> None:
    connection = connect()
    begun(driver, connection, table)
    site.end_sessions()
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute(connection, "COMMIT") if by_text else driver.commit(connection)
    rolled_back(caught.value, driver)
    refuses_until_rollback(driver, connection, table)
    assert site.ids(table) == []


def test_block_found_dead_at_its_end(driver: DriverUnderTest, connect, site, table) -> None:
    connection = connect(autocommit=True)
    with pytest.raises(FailoverSuccessError) as caught, driver.block(connection):
        begun(driver, connection, table)
        site.end_sessions()
    rolled_back(caught.value, driver)
    usable(driver, connection)
    with driver.block(connection):
        driver.execute(connection, insert(table, 2))
    assert site.ids(table) == [2]


@pytest.mark.parametrize("autocommit", [True, False])
def test_inner_block_whose_error_is_swallowed(driver: DriverUnderTest, connect, site, table, autocommit) -> None:
    driver.needs("nested blocks")
    connection = connect(autocommit=autocommit)
    with pytest.raises(FailoverSuccessError) as caught, driver.block(connection):
        begun(driver, connection, table)
        with pytest.raises(FailoverSuccessError), driver.block(connection):
            driver.execute(connection, site.suicide)
        with pytest.raises(driver.aborted_error):
            driver.execute(connection, insert(table, 2))
    rolled_back(caught.value, driver)
    usable(driver, connection)
    assert site.ids(table) == []


def test_block_whose_error_is_swallowed_inside(driver: DriverUnderTest, connect, site, table) -> None:
    connection = connect(autocommit=True)
    with pytest.raises(FailoverSuccessError), driver.block(connection):
        begun(driver, connection, table)
        with pytest.raises(FailoverSuccessError):
            driver.execute(connection, site.suicide)
    usable(driver, connection)
    assert site.state_of(session(driver, connection, site)) == "idle"
    assert site.ids(table) == []


def test_settings_are_carried_past_a_lost_transaction(driver: DriverUnderTest, connect, site, table) -> None:
    connection = connect()
    for setting, value in driver.changed.items():
        if setting != "autocommit":
            driver.set(connection, setting, value)
    driver.execute(connection, f"SELECT id FROM {table}")
    site.end_sessions()
    with pytest.raises(FailoverSuccessError):
        driver.execute(connection, "SELECT 1")
    driver.rollback(connection)
    assert tuple(driver.execute(connection, site.in_effect)[0]) == site.changed_in_effect


# --- rollback() -------------------------------------------------------------------------------------------------


def test_rollback_after_a_loss(driver: DriverUnderTest, connect, site, table) -> None:
    connection = connect()
    begun(driver, connection, table)
    site.end_sessions()
    driver.rollback(connection)
    driver.execute(connection, insert(table, 2))
    driver.commit(connection)
    assert site.ids(table) == [2]


@pytest.mark.parametrize("verb", ["commit", "rollback"])
def test_the_end_of_no_transaction(driver: DriverUnderTest, connect, site, table, verb: str) -> None:
    connection = connect()
    site.end_sessions()
    getattr(driver, verb)(connection)
    driver.execute(connection, insert(table, 1))
    driver.commit(connection)
    assert site.ids(table) == [1]


def test_rollback_by_text_ends_the_refusal(driver: DriverUnderTest, connect, site, table) -> None:
    connection = connect()
    begun(driver, connection, table)
    with pytest.raises(FailoverSuccessError):
        driver.execute(connection, site.suicide)
    driver.execute(connection, "ROLLBACK")
    driver.execute(connection, insert(table, 2))
    driver.commit(connection)
    assert site.ids(table) == [2]


def test_rollback_whose_answer_is_lost(driver: DriverUnderTest, connect, site, table, proxy: Proxy) -> None:
    connection = connect(site.dsn(proxy, site.cluster.primary))
    begun(driver, connection, table)
    proxy.cut_when(driver.rollback_sent)
    driver.rollback(connection)
    usable(driver, connection)
    assert site.ids(table) == []


def test_block_that_the_app_leaves_by_an_error(driver: DriverUnderTest, connect, site, table) -> None:
    connection = connect(autocommit=True)
    with pytest.raises(ZeroDivisionError), driver.block(connection):
        begun(driver, connection, table)
        site.end_sessions()
        raise ZeroDivisionError
    usable(driver, connection)
    assert site.ids(table) == []


def test_rollback_is_never_a_silent_switch_of_half_a_session(driver: DriverUnderTest, connect, site, table) -> None:
    connection = connect()
    statement, left = next(iter(site.leaving.items()))
    driver.execute(connection, statement)
    driver.commit(connection)
    begun(driver, connection, table)
    site.end_sessions()
    driver.rollback(connection)
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute(connection, insert(table, 2))
    assert (caught.value.transaction, caught.value.not_restored) == ("none", (left,))
    usable(driver, connection)
    assert site.ids(table) == []
