"""Section 4, COMMIT with ``resolve_commits=on``: what is found out is compared with what the server has."""

from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError, TransactionResolutionUnknownError, session_state
from servers import Proxy

from .driver import DriverUnderTest
from .rows import insert, rolled_back, usable

IS_ABOUT_SERVERS = True
pytestmark = pytest.mark.databases("postgresql")

RESOLVING = {"failover": "on", "resolve_commits": "on"}
OURS = "instrumented_wrapper."
WAYS = ("method", "block", "text 0", "text 1")
lost_or_answered = pytest.mark.parametrize("forward", [False, True], ids=["lost", "answer lost"])
by_every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture
def proxied(connect, site, proxy: Proxy) -> Any:
    """A connection through the proxy; the primary itself is its other host."""
    dsn = site.dsn(proxy, site.cluster.primary)
    return lambda **keywords: connect(dsn, instrumented_wrapper=RESOLVING, **keywords)


def text_of(site: Any, way: str) -> str:
    return f"{site.commits[int(way[-1])]} /* cut here */" if way.startswith("text") else ""


def commit(driver: DriverUnderTest, connection: Any, site: Any, table: str, way: str) -> None:
    if way == "block":
        with driver.block(connection):
            driver.execute(connection, insert(table, 1))
        return
    driver.execute(connection, insert(table, 1))
    driver.commit(connection) if way == "method" else driver.execute(connection, text_of(site, way))


def transaction_of(spans: Any) -> str:
    (span,) = spans.named("failover")
    return str(span.attributes[OURS + "transaction"])


# --- the session alone is lost ----------------------------------------------------------------------------------


@by_every_way
def test_it_was_committed(driver: DriverUnderTest, proxied, site, table, proxy: Proxy, spans, way: str) -> None:
    connection = proxied()
    proxy.cut_when(text_of(site, way).encode() or driver.commit_sent, forward=True)
    commit(driver, connection, site, table, way)
    assert site.ids(table) == [1]
    assert transaction_of(spans) == "committed"
    usable(driver, connection)
    driver.execute(connection, insert(table, 2))
    driver.commit(connection)
    assert site.ids(table) == [1, 2]


@by_every_way
def test_it_was_not_sent(driver: DriverUnderTest, proxied, site, table, proxy: Proxy, spans, way: str) -> None:
    connection = proxied()
    proxy.cut_when(text_of(site, way).encode() or driver.commit_sent, forward=False)
    with pytest.raises(FailoverSuccessError) as caught:
        commit(driver, connection, site, table, way)
    rolled_back(caught.value, driver)
    assert site.ids(table) == []
    assert transaction_of(spans) == "rolled_back"
    usable(driver, connection)  # a COMMIT has ended the transaction: nothing is left to be rolled back
    driver.execute(connection, insert(table, 2))
    driver.commit(connection)
    assert site.ids(table) == [2]


@lost_or_answered
def test_settings_are_those_after_it(driver: DriverUnderTest, proxied, site, table, proxy: Proxy, forward) -> None:
    connection = proxied()
    driver.execute(connection, "SET lock_timeout = '1s'")
    driver.commit(connection)
    driver.execute(connection, "SET lock_timeout = '2s'")
    driver.execute(connection, "SET LOCAL statement_timeout = '3s'")
    driver.execute(connection, insert(table, 1))
    proxy.cut_when(driver.commit_sent, forward=forward)
    if forward:
        driver.commit(connection)
    else:
        with pytest.raises(FailoverSuccessError):
            driver.commit(connection)
    shown = [driver.execute(connection, f"SHOW {name}")[0][0] for name in ("lock_timeout", "statement_timeout")]
    assert shown == ["2s" if forward else "1s", "0"]
    assert session_state(connection)["lock_timeout"].value == shown[0]


def test_off_by_default(driver: DriverUnderTest, connect, site, table, proxy: Proxy) -> None:
    connection = connect(site.dsn(proxy, site.cluster.primary))
    proxy.cut_when(driver.commit_sent, forward=True)
    driver.execute(connection, insert(table, 1))
    with pytest.raises(TransactionResolutionUnknownError):
        driver.commit(connection)
    assert b"pg_current_xact_id" not in proxy.seen("client")
