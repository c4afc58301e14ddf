"""Section 4, "Security state": what decides whose data a statement sees is never missing by accident."""

from contextlib import suppress
from typing import Any

import pytest

from instrumented_wrapper import FailoverError, FailoverSuccessError
from servers import Proxy, guard

from .driver import DriverUnderTest
from .rows import PATIENCE, insert, rolled_back, told, usable

IS_ABOUT_SERVERS = True


@pytest.fixture
def tenantless(driver: DriverUnderTest, connect, site, proxy: Proxy) -> Any:
    """A connection that was lost while its tenant was being set."""

    def tenantless(**keywords: Any) -> Any:
        connection = connect(site.dsn(proxy, site.cluster.primary), autocommit=True, **keywords)
        lose_tenant(driver, connection, site, proxy)
        return connection

    return tenantless


def lose_tenant(driver: DriverUnderTest, connection: Any, site: Any, proxy: Proxy) -> None:
    proxy.cut_when(b"acme", forward=False)
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute(connection, site.sets_tenant)
    error = told(caught.value, FailoverSuccessError, driver)
    assert (error.transaction, error.may_have_run, error.not_restored) == ("none", True, (site.tenant,))
    assert f"set {site.tenant} again" in str(error)
    assert "reset_session()" in str(error)


def refused(driver: DriverUnderTest, call: Any, *arguments: Any) -> FailoverSuccessError:
    with pytest.raises(FailoverSuccessError) as caught:
        call(*arguments)
    assert caught.value.transaction == "none"
    return told(caught.value, FailoverSuccessError, driver)


def test_no_statement_runs(driver: DriverUnderTest, site, table, tenantless) -> None:
    connection = tenantless()
    for _ in range(2):
        assert refused(driver, driver.execute, connection, insert(table, 1)).not_restored == (site.tenant,)
    refused(driver, driver.execute, connection, "SELECT 1")
    refused(driver, driver.execute_many, driver.cursor(connection), f"INSERT INTO {table} VALUES (%s)", [(1,), (2,)])
    driver.rollback(connection)
    refused(driver, driver.execute, connection, insert(table, 1))
    assert site.ids(table) == []


def test_commit_does_not_end_it(driver: DriverUnderTest, site, table, tenantless) -> None:
    connection = tenantless()
    refused(driver, driver.execute, connection, insert(table, 1))
    refused(driver, driver.commit, connection)
    refused(driver, driver.execute, connection, "COMMIT")
    driver.rollback(connection)
    driver.execute(connection, site.sets_tenant)
    driver.commit(connection)
    usable(driver, connection)


def test_code_under_way(driver: DriverUnderTest, connect, site, table, proxy) -> None:
    """Nobody knows whether it has set another tenant: the one that the app had set is not used meanwhile."""
    connection = connect(site.dsn(proxy, site.cluster.primary), autocommit=True)
    driver.execute(connection, site.sets_tenant)
    driver.execute(connection, site.prepares_code)
    proxy.cut_when(b"EXECUTE code", forward=True)
    with pytest.raises(FailoverError) as caught:
        driver.execute(connection, "EXECUTE code")
    assert site.tenant in caught.value.not_restored
    for _ in range(2):
        with pytest.raises(FailoverSuccessError):
            driver.execute(connection, insert(table, 1))
    driver.execute(connection, site.sets_tenant)
    assert driver.execute(connection, site.shows_tenant) == [("acme",)]
    assert site.ids(table) == []


def test_a_block(driver: DriverUnderTest, site, table, tenantless) -> None:
    connection = tenantless()
    with pytest.raises(FailoverSuccessError), driver.block(connection):
        driver.execute(connection, insert(table, 1))
    with pytest.raises(FailoverSuccessError), driver.block(connection), suppress(FailoverSuccessError):
        driver.execute(connection, insert(table, 2))  # an app that swallows it is told by the end of the block
    with driver.block(connection):
        driver.execute(connection, site.sets_tenant)
        driver.execute(connection, insert(table, 3))
    assert site.ids(table) == [3]
    usable(driver, connection)


def test_setting_it_ends_it(driver: DriverUnderTest, site, table, tenantless) -> None:
    connection = tenantless()
    for statement in site.sets_other:
        driver.execute(connection, statement)
        refused(driver, driver.execute, connection, insert(table, 1))
    driver.execute(connection, site.sets_tenant)
    driver.execute(connection, insert(table, 1))
    assert driver.execute(connection, site.shows_tenant) == [("acme",)]
    assert site.ids(table) == [1]


def test_every_spelling_ends_it(driver: DriverUnderTest, connect, site, proxy, tenantless) -> None:
    for statement in site.sets_tenant_too:
        connection = tenantless()
        driver.execute(connection, statement)
        assert driver.execute(connection, site.shows_tenant) in ([("acme",)], [("",)], [(None,)]), statement


def test_in_a_transaction(driver: DriverUnderTest, site, table, tenantless) -> None:
    connection = tenantless()
    driver.set(connection, "autocommit", False)
    driver.execute(connection, site.sets_tenant)
    driver.execute(connection, insert(table, 1))
    driver.rollback(connection)
    if driver.has("transactional settings"):
        refused(driver, driver.execute, connection, insert(table, 2))
        driver.rollback(connection)
        driver.execute(connection, site.sets_tenant)
    driver.execute(connection, insert(table, 3))
    driver.commit(connection)
    driver.execute(connection, insert(table, 4))
    driver.commit(connection)
    assert site.ids(table) == [3, 4]


@pytest.mark.parametrize("verb", ["reset_session", "mark_pristine"])
def test_the_app_takes_the_session_as_it_is(driver: DriverUnderTest, site, table, tenantless, verb: str) -> None:
    connection = tenantless()
    driver.verb(verb)(connection)
    driver.execute(connection, insert(table, 1))
    assert site.ids(table) == [1]


def test_after_a_transaction(driver: DriverUnderTest, connect, site, table, proxy) -> None:
    """The rollback ends the refusal of what was lost with the transaction, not this one."""
    connection = connect(site.dsn(proxy, site.cluster.primary), autocommit=True)
    lose_tenant(driver, connection, site, proxy)
    driver.execute(connection, site.begin)
    site.end_sessions()
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute(connection, site.sets_tenant)
    assert rolled_back(caught.value, driver).not_restored == (site.tenant,)
    with pytest.raises(driver.aborted_error):
        driver.execute(connection, insert(table, 1))
    driver.rollback(connection)
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute(connection, insert(table, 1))
    assert rolled_back(caught.value, driver).not_restored == (site.tenant,)
    driver.execute(connection, site.sets_tenant)
    driver.execute(connection, insert(table, 2))
    assert site.ids(table) == [2]


def test_close_closes(driver: DriverUnderTest, site, tenantless) -> None:
    connection = tenantless()
    driver.close(connection)
    assert driver.is_closed(connection)
    with pytest.raises(driver.closed_error):
        driver.execute(connection, "SELECT 1")


def has_a_session(site: Any) -> bool:
    """Return True if one session is there, once those are gone that were only tried."""
    return bool(guard.wait_until(lambda: len(site.sessions()) == 1, PATIENCE))


def end_session(site: Any) -> None:
    assert has_a_session(site)
    site.end_sessions()


def is_replaced(driver: DriverUnderTest, connection: Any, site: Any, table: str) -> bool:
    """Send what is refused until the lost connection is replaced; the end of the session may take a while to arrive."""

    def refused_by_a_session() -> bool:
        error = refused(driver, driver.execute, connection, insert(table, 1))
        return error.not_restored == (site.tenant,) and len(site.sessions()) == 1

    return bool(guard.wait_until(refused_by_a_session, PATIENCE))


def test_a_second_loss(driver: DriverUnderTest, site, table, tenantless) -> None:
    """Found by a statement that is refused anyway, or by the one that sets it, which then was not sent."""
    connection = tenantless()
    end_session(site)
    assert is_replaced(driver, connection, site, table)
    refused(driver, driver.execute, connection, insert(table, 2))
    end_session(site)
    with suppress(FailoverSuccessError):
        driver.execute(connection, site.sets_tenant)
        driver.execute(connection, "SELECT 1")
    driver.execute(connection, site.sets_tenant)
    driver.execute(connection, insert(table, 3))
    assert driver.execute(connection, site.shows_tenant) == [("acme",)]
    assert site.ids(table) == [3]


def test_a_second_loss_ends_with_a_commit(driver: DriverUnderTest, site, table, tenantless) -> None:
    connection = tenantless()
    refused(driver, driver.execute, connection, insert(table, 1))
    end_session(site)
    refused(driver, driver.commit, connection)
    driver.rollback(connection)
    assert is_replaced(driver, connection, site, table)
    driver.rollback(connection)
    driver.execute(connection, site.sets_tenant)
    driver.execute(connection, insert(table, 2))
    assert site.ids(table) == [2]


def test_a_second_loss_and_a_reset(driver: DriverUnderTest, site, table, tenantless, caplog) -> None:
    """A reset never starts a switch: it fails and says what to do, which the next statement does in part."""
    connection = tenantless()
    driver.execute(connection, site.sets_other[0])
    end_session(site)
    for _ in range(2):
        assert driver.verb("reset_session")(connection) is False
        assert site.sessions() == []
        assert "call reset_session() after it" in caplog.text
    assert refused(driver, driver.execute, connection, insert(table, 1)).not_restored == (site.tenant,)
    assert driver.verb("reset_session")(connection) is True
    driver.execute(connection, insert(table, 2))
    assert site.ids(table) == [2]


def test_a_second_loss_and_a_planned_switch(driver: DriverUnderTest, site, table, tenantless) -> None:
    connection = tenantless()
    driver.execute(connection, site.sets_other[0])
    end_session(site)
    assert driver.verb("reset_session")(connection) is False
    assert refused(driver, driver.verb("switch"), connection).not_restored == (site.tenant,)
    assert has_a_session(site)
    refused(driver, driver.execute, connection, insert(table, 1))
    driver.execute(connection, site.sets_tenant)
    driver.execute(connection, insert(table, 2))
    assert site.ids(table) == [2]


@pytest.mark.parametrize("is_known", [False, True])
def test_a_second_loss_and_a_new_baseline(driver: DriverUnderTest, site, table, tenantless, is_known: bool) -> None:
    connection = tenantless()
    driver.set(connection, "autocommit", True)
    driver.execute(connection, site.sets_other[0])
    end_session(site)
    assert not (is_known and driver.verb("reset_session")(connection))
    driver.verb("mark_pristine")(connection)
    with suppress(FailoverSuccessError):  # the end of the session may arrive after the statement was sent
        driver.execute(connection, "SELECT 1")
    driver.execute(connection, insert(table, 1))
    assert site.ids(table) == [1]
    assert has_a_session(site)


def test_a_loss_without_failover(driver: DriverUnderTest, site, table, connect, proxy) -> None:
    """The driver's own error says that the connection is gone, not the refusal."""
    connection = connect(site.dsn(proxy), autocommit=True, instrumented_wrapper={"failover": "off"})
    for statement in site.sets_unnamed:
        driver.execute(connection, statement)
    try:
        driver.verb("switch")(connection)
    except FailoverSuccessError as error:
        lacking = error.not_restored
    else:
        lacking = ()
    if not {*lacking} - {"prepared statements", "user variables"}:
        pytest.skip("all that the texts set is carried over, and nothing else is known to be set")
    refused(driver, driver.execute, connection, insert(table, 1))
    end_session(site)

    def is_gone() -> bool:
        with pytest.raises((driver.operational_error, driver.closed_error)) as caught:
            driver.execute(connection, insert(table, 1))
        return not isinstance(caught.value, FailoverSuccessError)

    assert guard.wait_until(is_gone, PATIENCE)
    assert site.ids(table) == []


def test_a_planned_switch(driver: DriverUnderTest, site, table, tenantless) -> None:
    connection = tenantless()
    refused(driver, driver.verb("switch"), connection)
    refused(driver, driver.execute, connection, insert(table, 1))
    driver.execute(connection, site.sets_tenant)
    driver.verb("switch")(connection)
    driver.execute(connection, insert(table, 2))
    assert driver.execute(connection, site.shows_tenant) == [("acme",)]


def test_a_pool_discards_it(driver: DriverUnderTest, site, pool, proxy, table) -> None:
    driver.needs("pools")
    opened = pool(site.dsn(proxy, site.cluster.primary))
    connection = driver.take(opened)
    driver.set(connection, "autocommit", True)
    lose_tenant(driver, connection, site, proxy)
    before = site.sessions()
    driver.give_back(opened, connection)
    connection = driver.take(opened)
    driver.execute(connection, insert(table, 1))
    driver.commit(connection)
    assert site.ids(table) == [1]
    assert not {*before} & {*site.sessions()}
    driver.give_back(opened, connection)


def test_what_the_app_does_not_want_to_be_carried(driver: DriverUnderTest, site, table, connect, proxy) -> None:
    options = {"transfer_session_state_on_switch": False}
    connection = connect(site.dsn(proxy, site.cluster.primary), autocommit=True, **options)
    proxy.cut_when(b"acme", forward=False)
    with pytest.raises(FailoverSuccessError):
        driver.execute(connection, site.sets_tenant)
    driver.execute(connection, insert(table, 1))
    assert site.ids(table) == [1]
