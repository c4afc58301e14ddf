"""Section 2: `reset_session`, `mark_pristine` and `switch`, each with its async twin."""

import pytest

from instrumented_wrapper import FailoverFailedError, FailoverSuccessError, session_state
from servers import Proxy, guard
from servers.server import free_port

from .driver import DriverUnderTest

VERBS = ("reset_session", "mark_pristine", "switch")


@pytest.mark.parametrize("name", VERBS)
def test_the_wrong_kind_of_connection_is_refused(driver: DriverUnderTest, connect, site, name: str) -> None:
    connection = connect()
    session = driver.execute(connection, site.session_id)
    driver.rollback(connection)
    with pytest.raises(TypeError):
        driver.verb(name, wrong=True)(connection)
    for thing in (None, object()):
        with pytest.raises(TypeError):
            driver.verb(name)(thing)
    assert driver.execute(connection, site.session_id) == session


def test_reset_session(driver: DriverUnderTest, connect, site) -> None:
    connection = connect()
    for setting, value in driver.changed.items():
        driver.set(connection, setting, value)
    driver.verb("reset_session")(connection)
    assert {name: driver.get(connection, name) for name in driver.default} == driver.default
    assert all(state.is_pristine for state in session_state(connection).values())
    assert tuple(driver.execute(connection, site.in_effect)[0]) == site.default_in_effect


def test_mark_pristine(driver: DriverUnderTest, connect) -> None:
    connection = connect()
    driver.set(connection, "read_only", True)
    driver.verb("mark_pristine")(connection)
    assert session_state(connection)["read_only"].is_pristine
    driver.set(connection, "read_only", False)
    driver.verb("reset_session")(connection)
    assert driver.get(connection, "read_only") is True


# --- switch -----------------------------------------------------------------------------------------------------


def test_switch_takes_over_configured_and_closes_the_old_session(driver: DriverUnderTest, connect, site) -> None:
    connection = connect()
    cursor = driver.cursor(connection)
    for setting, value in {"autocommit": True, **driver.changed}.items():
        driver.set(connection, setting, value)
    ((old,),) = driver.execute_on(cursor, site.session_id)
    driver.verb("switch")(connection)
    ((new,),) = driver.execute_on(cursor, site.session_id)
    assert new != old
    assert site.only_session_is(new)
    assert {name: driver.get(connection, name) for name in driver.changed} == driver.changed
    driver.set(connection, "autocommit", False)
    assert tuple(driver.execute(connection, site.in_effect)[0]) == site.changed_in_effect


def test_switch_to_a_host(driver: DriverUnderTest, connect, site, proxy: Proxy) -> None:
    connection = connect(site.dsn(site.cluster.primary))
    driver.set(connection, "autocommit", True)
    driver.verb("switch")(connection, proxy.host, proxy.port)
    proxy.clear()
    driver.execute(connection, "SELECT 'through the proxy'")
    assert b"through the proxy" in proxy.seen("client")
    driver.verb("switch")(connection, host=site.cluster.standby.host, port=site.cluster.standby.port)
    assert driver.execute(connection, site.is_standby) == [(True,)]
    assert driver.get(connection, "autocommit") is True


def test_switch_is_for_outside_a_transaction(driver: DriverUnderTest, connect, site, table) -> None:
    connection = connect()
    driver.execute(connection, f"SELECT id FROM {table}")
    session = driver.execute(connection, site.session_id)
    with pytest.raises(driver.programming_error):
        driver.verb("switch")(connection)
    assert driver.execute(connection, site.session_id) == session
    driver.rollback(connection)
    driver.verb("switch")(connection)
    assert driver.execute(connection, site.session_id) != session


def test_switch_names_what_it_could_not_carry(driver: DriverUnderTest, connect, site) -> None:
    connection = connect(autocommit=True)
    ((old,),) = driver.execute(connection, site.session_id)
    statement, left = next(iter(site.leaving.items()))
    driver.execute(connection, statement)
    with pytest.raises(FailoverSuccessError) as caught:
        driver.verb("switch")(connection)
    assert caught.value.not_restored == (left,)
    assert (caught.value.transaction, caught.value.may_have_run) == ("none", False)
    ((new,),) = driver.execute(connection, site.session_id)
    assert new != old
    assert site.only_session_is(new)


def test_a_switch_that_finds_nobody_leaves_the_connection(driver: DriverUnderTest, connect, site) -> None:
    connection = connect(autocommit=True, instrumented_wrapper={"failover_timeout": 0.3})
    driver.set(connection, "read_only", True)
    session = driver.execute(connection, site.session_id)
    with pytest.raises(FailoverFailedError):
        driver.verb("switch")(connection, port=free_port())
    assert not driver.is_closed(connection)
    assert driver.execute(connection, site.session_id) == session
    assert driver.get(connection, "read_only") is True


def test_switch_to_a_server_that_refuses_to_log_in(driver: DriverUnderTest, connect, site, spans) -> None:
    connection = connect(site.dsn(**site.make_account("old")), autocommit=True)
    session = driver.execute(connection, site.session_id)
    site.change_password("new")
    with pytest.raises(FailoverFailedError):
        driver.verb("switch")(connection)
    assert driver.execute(connection, site.session_id) == session
    assert guard.wait_until(lambda: len(site.sessions()) == 1, 10)
