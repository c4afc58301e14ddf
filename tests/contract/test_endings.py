"""Section 4: after every end of a transaction, cut at every step, driver and server agree on whether one is open."""

from typing import Any

import pytest

from instrumented_wrapper import FailoverError
from servers import Proxy, guard

from .driver import DriverUnderTest
from .endings import ENDINGS, Ending
from .rows import PATIENCE, insert, session

IS_ABOUT_SERVERS = True

MOMENTS = ("before", "on its way", "before the answer", "in the answer")


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("ending", ENDINGS, ids=str)
def test_end(driver: DriverUnderTest, connect, site, table, proxy: Proxy, ending: Ending, moment: str) -> None:
    for what in ending.needs:
        driver.needs(what)
    connection = connect(site.dsn(proxy, site.cluster.primary), autocommit=ending.autocommit)
    for do in ending.before:
        do(driver, connection, site)
    cut(proxy, moment, ending.sent_by(driver), site)
    news = outcome_of(ending, driver, connection, site)
    check_rows(ending, news, site.ids(table))
    if news is not None and news.transaction == "rolled_back":
        with pytest.raises(driver.aborted_error):
            driver.execute(connection, insert(table, 7))
        driver.rollback(connection)
    goes_on(driver, connection, site, table, news, ending)


def cut(proxy: Proxy, moment: str, sent: bytes, site: Any) -> None:
    """Cut the connection now, or have it cut when the end is sent or answered."""
    if moment == "before":
        proxy.cut()
    else:
        part = site.part_of_answer if moment == "in the answer" else 0
        proxy.cut_when(sent, forward=moment != "on its way", answered=part)


def outcome_of(ending: Ending, driver: DriverUnderTest, connection: Any, site: Any) -> FailoverError | None:
    try:
        ending.end(driver, connection, site)
    except FailoverError as error:
        return error
    return None


def check_rows(ending: Ending, news: FailoverError | None, ids: list[int]) -> None:
    """What the app is told, or not told, of the first row is right: only a rollback is ever silent."""
    if news is None or news.transaction != "unknown":
        assert ids == [1] * ending.committed


def goes_on(
    driver: DriverUnderTest, connection: Any, site: Any, table: str, news: FailoverError | None, ending: Ending
) -> None:
    """Write a row and roll back, write one and commit; compare what the driver knows with what the server says."""
    opened = ending.chains and news is None
    driver.execute(connection, insert(table, 8))
    inside = driver.in_transaction(connection)
    number = session(driver, connection, site)
    if inside is not None:
        comes_to_be(site, number, "idle in transaction" if inside else "idle")
    driver.execute(connection, "ROLLBACK") if opened else driver.rollback(connection)
    comes_to_be(site, number, "idle")
    survives = driver.get(connection, "autocommit") and not opened
    if not (ending.after_text and driver.name == "psycopg2"):  # its own way, without a loss, too
        assert (8 in site.ids(table)) == survives
    driver.rollback(connection)
    driver.execute(connection, insert(table, 9))
    driver.commit(connection)
    comes_to_be(site, number, "idle")
    assert 9 in site.ids(table)


def comes_to_be(site: Any, number: int, state: str) -> None:
    """Check the state of a session; what the server tells of transactions may be a tenth of a second old."""
    assert guard.wait_until(lambda: site.state_of(number) == state, PATIENCE)
