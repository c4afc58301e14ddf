"""MariaDB and MySQL: ends of transactions that only they have, on a session that was lost and replaced."""

from contextlib import suppress
from typing import Any

import pytest

from instrumented_wrapper import FailoverFailedError, FailoverSuccessError, TransactionResolutionUnknownError
from servers import Proxy

from .app import App
from .driver import DriverUnderTest
from .rows import insert

pytestmark = pytest.mark.databases("mariadb", "mysql")

MOMENTS = ("before", "on its way", "before the answer")


def cut(proxy: Proxy, moment: str, sent: bytes) -> None:
    """Cut the connection now, or have it cut when the end is sent or answered."""
    if moment == "before":
        proxy.cut()
        return
    proxy.cut_when(sent, forward=moment != "on its way")


def prepare(connection: App, table: str) -> str:
    """Prepare a transaction; return its name."""
    for text in (f"XA START '{table}'", insert(table, 1), f"XA END '{table}'", f"XA PREPARE '{table}'"):
        connection.ask(text)
    return table


@pytest.mark.parametrize(
    ("autocommit", "looks", "verb"),
    [(True, True, "COMMIT"), (True, False, "ROLLBACK"), (False, True, "ROLLBACK"), (False, False, "COMMIT")],
)
def test_a_prepared_transaction_of_a_session_that_was_lost_is_ended(
    app, site, table, autocommit: bool, looks: bool, verb: str
) -> None:
    """The end was not sent when the loss was found: it is done on the new session."""
    connection = app(autocommit=autocommit)
    name = prepare(connection, table)
    site.end_sessions()
    if looks:
        connection.ask("SET @looks = 1")
    connection.ask(f"XA {verb} '{name}'")
    assert site.ids(table) == [1] * (verb == "COMMIT")
    assert site.prepared() == 0
    assert connection.ask("SELECT @@autocommit") == [(int(autocommit),)]
    connection.ask(insert(table, 2))
    connection.rollback()
    assert (2 in site.ids(table)) == autocommit


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_transaction_that_was_not_prepared_is_rolled_back_already(app, site, table, autocommit: bool) -> None:
    connection = app(autocommit=autocommit)
    connection.ask(f"XA START '{table}'")
    connection.ask(insert(table, 1))
    site.end_sessions()
    with pytest.raises(FailoverSuccessError) as caught:
        connection.ask(f"XA END '{table}'")
    assert caught.value.transaction == "rolled_back"
    connection.ask(f"XA ROLLBACK '{table}'")
    connection.ask(insert(table, 2))
    connection.commit()
    assert site.ids(table) == [2]


# --- completion_type ----------------------------------------------------------------------------------------------


@pytest.fixture
def chained(app, site, proxy: Proxy, table: str) -> App:
    """A connection in autocommit with a row in a transaction, whose end begins the next one."""
    connection: App = app(proxy, site.cluster.primary)
    connection.ask("SET completion_type = CHAIN")
    connection.ask("BEGIN")
    connection.ask(insert(table, 1))
    return connection


def is_in_transaction(connection: App, site: Any, table: str) -> None:
    """Check that a row is not committed, and that a loss is one of a transaction."""
    connection.ask(insert(table, 2))
    assert 2 not in site.ids(table)
    connection.lose()
    with pytest.raises(FailoverSuccessError) as caught:
        connection.ask("SELECT 1")
    assert caught.value.transaction == "rolled_back"
    connection.rollback()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_silent_rollback_begins_the_next_transaction(
    driver: DriverUnderTest, chained: App, site, table, proxy: Proxy, moment: str
) -> None:
    cut(proxy, moment, driver.rollback_sent)
    chained.rollback()
    is_in_transaction(chained, site, table)
    assert site.ids(table) == []


def test_a_rollback_that_is_lost_on_each_server_gives_up(driver: DriverUnderTest, app, table, endpoint) -> None:
    first, second = endpoint(), endpoint()
    connection = app(first, second, options={"failover_timeout": 0.5})
    for text in ("SET completion_type = CHAIN", "BEGIN", insert(table, 1)):
        connection.ask(text)
    first.ends_at = second.ends_at = driver.rollback_sent
    with pytest.raises(FailoverFailedError):
        connection.rollback()
    assert first.hits + second.hits > 2
    assert driver.is_closed(connection.connection)


@pytest.mark.parametrize("how", ["commit()", "rollback()", "COMMIT", "ROLLBACK"])
def test_an_end_begins_the_next_transaction(chained: App, site, table, how: str) -> None:
    chained.ask(how) if how.isupper() else getattr(chained, how.removesuffix("()"))()
    is_in_transaction(chained, site, table)
    assert site.ids(table) == [1] * how.lower().startswith("commit")


@pytest.mark.parametrize("text", ["COMMIT AND NO CHAIN", "CREATE TABLE IF NOT EXISTS made (i int)"])
def test_an_end_that_says_otherwise_begins_none(chained: App, site, table, text: str) -> None:
    chained.ask(text)
    chained.ask(insert(table, 2))
    assert site.ids(table) == [1, 2]
    chained.lose()
    lost = None
    try:
        assert chained.ask("SELECT 1") == [(1,)]
    except FailoverSuccessError as error:  # sent before the end of the session had come
        lost = error
    assert lost is None or lost.transaction == "none"


@pytest.mark.parametrize("moment", MOMENTS[1:])
def test_a_commit_whose_outcome_is_not_known_begins_none(
    driver: DriverUnderTest, chained: App, site, table, proxy: Proxy, moment: str
) -> None:
    cut(proxy, moment, driver.commit_sent)
    with pytest.raises(TransactionResolutionUnknownError):
        chained.commit()
    chained.ask(insert(table, 2))
    assert 2 in site.ids(table)


@pytest.mark.parametrize(
    ("verb", "moment"), [("commit", "never"), *(("rollback", moment) for moment in (*MOMENTS, "never"))]
)
def test_an_end_that_releases_the_session(
    driver: DriverUnderTest, app, site, table, proxy: Proxy, verb: str, moment: str
) -> None:
    """The server ends the session after its answer, perhaps while the next statement is on its way."""
    connection = app(proxy, site.cluster.primary)
    connection.ask("SET completion_type = 2")
    connection.ask("BEGIN")
    connection.ask(insert(table, 1))
    if moment != "never":
        cut(proxy, moment, driver.rollback_sent)
    getattr(connection, verb)()
    with suppress(FailoverSuccessError):
        connection.ask("SELECT 1")
    connection.ask(insert(table, 2))
    assert site.ids(table) == [1] * (verb == "commit") + [2]
    assert connection.ask("SELECT @@completion_type") == [("RELEASE",)]
