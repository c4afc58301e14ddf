"""Section 4, the row of a demoted server: a write that a standby refuses moves the connection to a primary."""

from collections.abc import Iterator
from typing import Any

import pytest

from instrumented_wrapper import FailoverFailedError, FailoverSuccessError
from servers import guard

from .driver import DriverUnderTest
from .endpoint import DemotedAtEachWrite, Endpoint
from .rows import PATIENCE, error_of, insert, refuses_until_rollback, rolled_back, session

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


def test_write_in_a_transaction_that_began_before_its_standby_was_promoted(
    driver: DriverUnderTest, connect, site, table
) -> None:
    """PostgreSQL refuses it, though the server is a primary by now."""
    driver.needs("pg_settings")
    site.cluster.wait_streaming()
    connection = connect(on_standby_first(site))
    driver.execute(connection, f"SELECT id FROM {table}")
    site.cluster.failover()
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute(connection, insert(table, 1))
    rolled_back(caught.value, driver)
    driver.rollback(connection)
    driver.execute(connection, insert(table, 2))
    driver.commit(connection)
    assert site.ids(table) == [2]


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


@pytest.mark.parametrize("forward", [False, True])
def test_the_primary_is_lost_while_the_write_runs_there(
    driver: DriverUnderTest, connect, site, table, proxy, forward: bool
) -> None:
    """The standby refuses the write, the primary gets it, and is lost: a statement that was under way."""
    site.cluster.wait_streaming()
    connection = connect(site.dsn(site.cluster.standby, proxy), autocommit=True)
    proxy.cut_when(b"INSERT INTO", forward=forward)
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute(connection, insert(table, 1))
    assert (caught.value.transaction, caught.value.may_have_run) == ("none", True)
    assert site.ids(table) == [1] * forward
    driver.execute(connection, insert(table, 2))
    assert site.ids(table) == [*[1] * forward, 2]


@pytest.fixture
def demoted(site: Any) -> Iterator[DemotedAtEachWrite]:
    with DemotedAtEachWrite(site) as proxy:
        yield proxy
    site.takes_writes(True)


def test_each_server_that_takes_over_is_demoted_at_once(
    driver: DriverUnderTest, connect, site, table, demoted: DemotedAtEachWrite, spans
) -> None:
    """All attempts at one statement together have the time of one failover."""
    connection = connect(
        site.dsn(demoted, site.cluster.standby), autocommit=True, instrumented_wrapper={"failover_timeout": 0.5}
    )
    with pytest.raises(FailoverFailedError, match="no server took over") as caught:
        driver.execute(connection, insert(table, 1))
    assert (caught.value.transaction, caught.value.may_have_run, caught.value.server) == ("none", False, None)
    assert isinstance(caught.value, driver.operational_error)
    assert driver.is_closed(connection)
    *moved, last = spans.named("failover")
    assert demoted.writes == len(moved) + 1 > 2
    assert {span.attributes["instrumented_wrapper.outcome"] for span in moved} == {"success"}
    assert last.attributes["instrumented_wrapper.outcome"] == "failed"
    assert site.ids(table) == []


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


# --- a standby that the app connected to on purpose, or that refuses more than writes -----------------------------


@pytest.mark.parametrize("attrs", ["any", "standby", "prefer-standby"])
def test_write_of_an_app_that_asked_for_any_server(driver: DriverUnderTest, connect, site, table, attrs: str) -> None:
    """It was a standby when the app connected, and the app said that it may be: nobody has demoted it."""
    site.cluster.wait_streaming()
    connection = connect(on_standby_first(site, **driver.wish_for(attrs)), autocommit=True)
    before = session(driver, connection, site)
    with pytest.raises(driver.read_only_error):
        driver.execute(connection, insert(table, 1))
    assert driver.execute(connection, site.is_standby) == [(True,)]
    assert site.sessions(site.cluster.standby) == [before]
    assert site.sessions() == []


def test_write_on_the_only_server_that_is_known(driver: DriverUnderTest, connect, site, table, spans) -> None:
    """There is no other one: a search would end with the connection closed."""
    site.cluster.wait_streaming()
    connection = connect(site.dsn(site.cluster.standby), autocommit=True, instrumented_wrapper={"failover": "on"})
    before = session(driver, connection, site)
    with pytest.raises(driver.read_only_error):
        driver.execute(connection, insert(table, 1))
    assert site.sessions(site.cluster.standby) == [before]
    assert spans.named("failover") == []


def test_write_through_an_address_that_leads_to_a_standby_for_now(
    driver: DriverUnderTest, connect, site, table, proxy, background, spans
) -> None:
    """A proxy, or a name that moves: the app names it as the place where to look for the server."""
    site.cluster.wait_streaming()
    primary, standby = site.cluster.primary, site.cluster.standby
    proxy.retarget(standby.host, standby.port)
    options = {"failover": "on", "failover_hosts": f"{proxy.host}:{proxy.port}"}
    connection = connect(site.dsn(proxy), autocommit=True, instrumented_wrapper=options)
    assert driver.execute(connection, site.is_standby) == [(True,)]
    proxy.clear()
    call = background(driver.execute, connection, insert(table, 1))
    assert guard.wait_until(lambda: proxy.connections > 0, PATIENCE)
    proxy.retarget(primary.host, primary.port)
    assert error_of(call) is None
    assert site.ids(table) == [1]
    (span,) = spans.named("failover")
    assert span.attributes["instrumented_wrapper.trigger"] == "demoted"


def test_write_on_a_standby_that_the_app_has_moved_to(driver: DriverUnderTest, connect, site, table) -> None:
    site.cluster.wait_streaming()
    standby = site.cluster.standby
    connection = connect(autocommit=True)
    driver.verb("switch")(connection, standby.host, standby.port)
    site.end_sessions(standby)  # nor after a loss, in which it stays a standby
    assert driver.execute(connection, site.is_standby) == [(True,)]
    with pytest.raises(driver.read_only_error):
        driver.execute(connection, insert(table, 1))
    assert driver.execute(connection, site.is_standby) == [(True,)]


@pytest.mark.parametrize("how", ["session", "text", "driver"])
def test_a_serializable_transaction_on_a_standby(driver: DriverUnderTest, connect, site, spans, how: str) -> None:
    """A standby refuses it with "feature not supported" (0A000), also where it only reads."""
    driver.needs("refusal of serializable transactions on a standby")
    site.cluster.wait_streaming()
    connection = connect(on_standby_first(site), autocommit=how != "driver")
    if how == "session":
        driver.execute(connection, "SET default_transaction_isolation = serializable")
    elif how == "driver":
        driver.needs("settings of the driver")
        driver.set(connection, "isolation_level", driver.changed["isolation_level"])
    else:
        driver.execute(connection, "BEGIN ISOLATION LEVEL SERIALIZABLE")
    assert driver.execute(connection, site.is_standby) == [(False,)]
    assert driver.execute(connection, "SHOW transaction_isolation") == [("serializable",)]
    (span,) = spans.named("failover")
    assert span.attributes["instrumented_wrapper.trigger"] == "demoted"


def test_a_serializable_transaction_of_an_app_that_asked_for_any_server(driver: DriverUnderTest, connect, site) -> None:
    driver.needs("refusal of serializable transactions on a standby")
    connection = connect(on_standby_first(site, **driver.wish_for("any")), autocommit=True)
    driver.execute(connection, "SET default_transaction_isolation = serializable")
    with pytest.raises(Exception) as caught:
        driver.execute(connection, "SELECT 1")
    assert driver.state_of(caught.value) == "0A000"
    assert len(site.sessions(site.cluster.standby)) == 1


def test_a_session_that_ends_when_it_is_asked_whether_it_was_demoted(
    driver: DriverUnderTest, connect, site, table, cluster
) -> None:
    """The write was refused all the same: it runs on the primary."""
    cluster.wait_streaming()
    with Endpoint(cluster.standby.host, cluster.standby.port) as standby:
        connection = connect(site.dsn(standby, cluster.primary), autocommit=True)
        standby.ends_at, standby.times = site.is_standby.removeprefix("SELECT ").encode(), 1
        driver.execute(connection, insert(table, 1))
        assert site.ids(table) == [1]
        assert driver.execute(connection, site.is_standby) == [(False,)]
