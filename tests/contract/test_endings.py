"""Section 4: after every end of a transaction, cut at every step, driver and server agree on whether one is open."""

import os
from contextlib import nullcontext
from typing import Any

import pytest

from instrumented_wrapper import FailoverError
from servers import Proxy, guard

from .driver import DriverUnderTest
from .endings import ENDINGS, Ending
from .rows import PATIENCE, insert, session

IS_ABOUT_SERVERS = True

MOMENTS = ("before", "on its way", "before the answer", "in the answer")
# Each end at one moment, in turn; with ALL_ENDINGS=1 each at every moment, which takes four times as long.
CASES = [
    pytest.param(ending, moment, id=f"{ending}-{moment}")
    for number, ending in enumerate(ENDINGS)
    for turn, moment in enumerate(MOMENTS)
    if "ALL_ENDINGS" in os.environ or turn == number % len(MOMENTS)
]


@pytest.mark.parametrize(("ending", "moment"), CASES)
def test_an_end_that_is_cut_has_the_outcome_of_its_moment(
    driver: DriverUnderTest, connect, site, table, proxy: Proxy, ending: Ending, moment: str
) -> None:
    for what in ending.needs:
        driver.needs(what)
    connection = connect(site.dsn(proxy, site.cluster.primary), autocommit=ending.autocommit)
    for do in ending.before:
        do(driver, connection, site)
    cut(proxy, moment, ending.sent_by(driver, site), site)
    news = outcome_of(ending, driver, connection, site)
    check_rows(ending, news, site.ids(table))
    if news is not None and news.transaction == "rolled_back":
        with pytest.raises(driver.aborted_error):
            driver.execute(connection, insert(table, 7))
        driver.rollback(connection)
    opened = ending.chains and news is None
    goes_on(driver, connection, site, table, opened, ending.after_text and driver.name == "psycopg2")


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("nested", [False, True], ids=["outermost", "nested"])
@pytest.mark.parametrize("fails", [False, True], ids=["well", "by an error"])
@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transactions"])
def test_exit_of_a_block(
    driver: DriverUnderTest,
    connect,
    site,
    table,
    proxy: Proxy,
    moment: str,
    nested: bool,
    fails: bool,
    autocommit: bool,
) -> None:
    if nested:
        driver.needs("nested blocks")
    connection = connect(site.dsn(proxy, site.cluster.primary), autocommit=autocommit)
    sent = (b"RELEASE", b"ROLLBACK TO")[fails] if nested else (driver.commit_sent, driver.rollback_sent)[fails]
    news: Exception | None = None
    try:
        with driver.block(connection):
            driver.execute(connection, insert(table, 1))
            with driver.block(connection) if nested else nullcontext():
                driver.execute(connection, insert(table, 2))
                cut(proxy, moment, sent, site)
                if fails:
                    raise ZeroDivisionError
    except (FailoverError, ZeroDivisionError) as error:
        news = error
    assert isinstance(news, ZeroDivisionError if fails else FailoverError)
    if not (isinstance(news, FailoverError) and news.transaction == "unknown"):
        assert site.ids(table) == []
    goes_on(driver, connection, site, table)


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
    """What the app is told, or not told, of the first row is right: a rollback is silent, or what is prepared ends."""
    if news is None or news.transaction != "unknown":
        assert ids == [1] * (ending.committed or (news is None and ending.sent == "commits_prepared"))


def goes_on(
    driver: DriverUnderTest, connection: Any, site: Any, table: str, opened: bool = False, unsaid: bool = False
) -> None:
    """Write a row and roll back, write one and commit; compare what the driver knows with what the server says.

    `opened`: a transaction is open. `unsaid`: psycopg2 begins none after a text, without a loss, too.
    """
    driver.execute(connection, insert(table, 8))
    inside = driver.in_transaction(connection)
    number = session(driver, connection, site)
    if inside is not None:
        comes_to_be(site, number, "idle in transaction" if inside else "idle")
    driver.execute(connection, "ROLLBACK") if opened else driver.rollback(connection)
    comes_to_be(site, number, "idle")
    survives = driver.get(connection, "autocommit") and not opened
    assert (8 in site.ids(table)) == survives or unsaid
    driver.rollback(connection)
    driver.execute(connection, insert(table, 9))
    driver.commit(connection)
    comes_to_be(site, number, "idle")
    assert 9 in site.ids(table)


def comes_to_be(site: Any, number: int, state: str) -> None:
    """Check the state of a session, which may still be ending its statement."""
    assert guard.wait_until(lambda: site.state_of(number) == state, PATIENCE)
