"""Section 4, the row of COMMIT: sent, and the answer never came. What really happened is asked of the server."""

from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError, TransactionResolutionUnknownError
from servers import Proxy

from .driver import DriverUnderTest
from .rows import insert, rolled_back, told, usable

IS_ABOUT_SERVERS = True

WAYS = ("method", "block", *(f"text {number}" for number in range(3)))
lost_or_answered = pytest.mark.parametrize("forward", [False, True], ids=["lost", "answer lost"])


@pytest.fixture
def proxied(connect, site, proxy: Proxy) -> Any:
    """A connection through the proxy; the primary itself is its other host."""
    return lambda **keywords: connect(site.dsn(proxy, site.cluster.primary), **keywords)


def unknown(error: BaseException, driver: DriverUnderTest) -> None:
    error = told(error, TransactionResolutionUnknownError, driver)
    assert (error.transaction, error.may_have_run) == ("unknown", True)


@lost_or_answered
@pytest.mark.parametrize("way", WAYS)
def test_commit(driver: DriverUnderTest, proxied, site, table, proxy: Proxy, way: str, forward: bool) -> None:
    connection = proxied()
    by_text = way.startswith("text")
    text = f"{site.commits[int(way[-1])]} /* cut here */" if by_text else ""
    proxy.cut_when(text.encode() or driver.commit_sent, forward=forward)
    with pytest.raises(TransactionResolutionUnknownError) as caught:
        _commit(driver, connection, table, way, text)
    unknown(caught.value, driver)
    usable(driver, connection)  # nothing to roll back
    assert site.ids(table) == [1] * forward
    driver.execute(connection, insert(table, 2))
    driver.commit(connection)
    assert site.ids(table) == [1] * forward + [2]


def _commit(driver: DriverUnderTest, connection: Any, table: str, way: str, text: str) -> None:
    if way == "block":
        with driver.block(connection):
            driver.execute(connection, insert(table, 1))
        return
    driver.execute(connection, insert(table, 1))
    driver.commit(connection) if way == "method" else driver.execute(connection, text)


@lost_or_answered
def test_prepare_transaction(driver: DriverUnderTest, proxied, site, table, proxy: Proxy, forward: bool) -> None:
    connection = proxied()
    *before, last = site.two_phase(insert(table, 1))
    for statement in before:
        driver.execute(connection, statement)
    proxy.cut_when(last.encode(), forward=forward)
    with pytest.raises(TransactionResolutionUnknownError) as caught:
        driver.execute(connection, last)
    unknown(caught.value, driver)
    usable(driver, connection)
    assert site.prepared() == forward


@lost_or_answered
def test_two_phase_commit(driver: DriverUnderTest, proxied, site, table, proxy: Proxy, forward: bool) -> None:
    connection = proxied()
    driver.prepare(connection, site.name, insert(table, 1))
    proxy.cut_when(driver.sent_last(site.commits_prepared), forward=forward)
    with pytest.raises(TransactionResolutionUnknownError) as caught:
        driver.commit_prepared(connection, site.name)
    unknown(caught.value, driver)
    usable(driver, connection)
    assert site.ids(table) == [1] * forward
    assert site.prepared() == (not forward)


@lost_or_answered
def test_two_phase_prepare(driver: DriverUnderTest, proxied, site, table, proxy: Proxy, forward: bool) -> None:
    connection = proxied()
    proxy.cut_when(driver.sent_last(site.two_phase()[-1].partition("'")[0].encode()), forward=forward)
    with pytest.raises(TransactionResolutionUnknownError) as caught:
        driver.prepare(connection, site.name, insert(table, 1))
    unknown(caught.value, driver)
    usable(driver, connection)
    assert site.prepared() == forward


def test_two_phase_transaction_lost_before_it_is_prepared(driver: DriverUnderTest, proxied, site, table) -> None:
    connection = proxied()
    with pytest.raises(FailoverSuccessError) as caught:
        driver.prepare(connection, site.name, insert(table, 1), site.suicide)
    rolled_back(caught.value, driver)
    with pytest.raises(driver.aborted_error):
        driver.execute(connection, insert(table, 2))
    driver.rollback_two_phase(connection, site.name)
    usable(driver, connection)
    assert site.ids(table) == []


def test_commit_while_the_primary_dies(driver: DriverUnderTest, connect, site, table, proxy: Proxy) -> None:
    connection = connect(site.dsn(proxy, site.cluster.standby))
    driver.set(connection, "isolation_level", driver.changed["isolation_level"])
    driver.execute(connection, insert(table, 1))
    site.cluster.wait_streaming()
    proxy.cut_when(driver.commit_sent, forward=False)
    proxy.refuse()
    site.cluster.standby.promote()
    with pytest.raises(TransactionResolutionUnknownError) as caught:
        driver.commit(connection)
    unknown(caught.value, driver)
    assert caught.value.server == (site.cluster.standby.host, site.cluster.standby.port)
    usable(driver, connection)
    assert driver.get(connection, "isolation_level") == driver.changed["isolation_level"]


def test_commit_of_a_transaction_that_had_failed(driver: DriverUnderTest, proxied, site, table, proxy: Proxy) -> None:
    """The server can only have rolled it back: nothing is unknown about that."""
    driver.needs("aborted transactions")
    connection = proxied()
    driver.execute(connection, insert(table, 1))
    with pytest.raises(driver.programming_error):
        driver.execute(connection, "SELECT no_such_column")
    proxy.cut_when(driver.commit_sent, forward=True)
    with pytest.raises(FailoverSuccessError) as caught:
        driver.commit(connection)
    rolled_back(caught.value, driver)
    driver.rollback(connection)
    usable(driver, connection)
    assert site.ids(table) == []


def test_statement_and_commit_in_one_text(driver: DriverUnderTest, proxied, site, table, proxy: Proxy) -> None:
    connection = proxied(autocommit=True, **driver.for_several)
    proxy.cut_when(b"/* cut here */", forward=True)
    with pytest.raises(TransactionResolutionUnknownError):
        driver.execute(connection, f"BEGIN; {insert(table, 1)}; COMMIT /* cut here */")
    usable(driver, connection)
    assert site.ids(table) == [1]
