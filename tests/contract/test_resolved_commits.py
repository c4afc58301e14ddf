"""Section 4, COMMIT with ``resolve_commits=on``: what is found out is compared with what the server has."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError, TransactionResolutionUnknownError, session_state
from servers import Proxy, guard, pgbouncer
from servers.pgbouncer import PgBouncer

from .driver import DriverUnderTest
from .rows import error_of, insert, rolled_back, told, usable

IS_ABOUT_SERVERS = True
pytestmark = pytest.mark.databases("postgresql")

RESOLVING = {"failover": "on", "resolve_commits": "on"}
OURS = "instrumented_wrapper."
SECONDS = 20  # for what takes no time on an idle machine
WAYS = ("method", "block", *(f"text {number}" for number in range(3)))
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


def test_the_next_transaction_begins_alike(driver: DriverUnderTest, proxied, site, table, proxy: Proxy) -> None:
    connection = proxied(autocommit=True)
    driver.execute(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ DEFERRABLE")
    driver.execute(connection, insert(table, 1))
    proxy.cut_when(b"COMMIT AND CHAIN", forward=True)
    driver.execute(connection, "COMMIT AND CHAIN")
    assert driver.execute(connection, site.in_effect) == [("off", "repeatable read", "on")]
    driver.execute(connection, insert(table, 2))
    driver.execute(connection, "ROLLBACK")
    assert site.ids(table) == [1]


def test_state_that_cannot_be_carried_is_told_later(driver, proxied, site, table, proxy: Proxy) -> None:
    connection = proxied()
    driver.execute(connection, "CREATE TEMP TABLE scratch (id int)")
    driver.execute(connection, insert(table, 1))
    proxy.cut_when(driver.commit_sent, forward=True)
    driver.commit(connection)
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute(connection, insert(table, 2))
    error = caught.value
    assert (error.transaction, error.may_have_run, error.not_restored) == ("none", False, ("temporary tables",))
    usable(driver, connection)
    assert site.ids(table) == [1]


def test_off_by_default(driver: DriverUnderTest, connect, site, table, proxy: Proxy) -> None:
    connection = connect(site.dsn(proxy, site.cluster.primary))
    proxy.cut_when(driver.commit_sent, forward=True)
    driver.execute(connection, insert(table, 1))
    with pytest.raises(TransactionResolutionUnknownError):
        driver.commit(connection)
    assert b"pg_current_xact_id" not in proxy.seen("client")


# --- another server takes over, or the same one after a crash ---------------------------------------------------


@pytest.fixture
def behind(site: Any) -> Iterator[Proxy]:
    """A proxy in front of the standby, which lets nobody through yet."""
    with Proxy(site.cluster.standby.host, site.cluster.standby.port) as proxy:
        proxy.refuse()
        yield proxy


@pytest.fixture
def losing(driver: DriverUnderTest, connect, site, table, proxy: Proxy, behind: Proxy, background: Any) -> Any:
    """Send a COMMIT whose answer, or itself, is lost, and let the connection find no server until told so."""

    def lose(forward: bool = True, before: str = "") -> "Future[Any]":
        connection = connect(site.dsn(proxy, behind), instrumented_wrapper=RESOLVING)
        if before:
            driver.execute(connection, before)
        driver.execute(connection, insert(table, 1))
        proxy.cut_when(driver.commit_sent, forward=forward)
        proxy.refuse()
        call: Future[Any] = background(driver.commit, connection)
        if forward:
            assert guard.wait_until(lambda: site.ids(table) == [1], SECONDS)
        assert guard.wait_until(lambda: not site.sessions(), SECONDS)
        return call

    return lose


def cut_off(site: Any) -> None:
    """Ship nothing more to the standby: the primary's processes that do so stand still until they are killed."""
    site.cluster.wait_streaming()
    for (process,) in site.sql("SELECT pid FROM pg_stat_replication"):
        os.kill(int(process), signal.SIGSTOP)


def next_id(site: Any) -> int:
    return int(site.sql("SELECT pg_snapshot_xmax(pg_current_snapshot())")[0][0])


def give_out(site: Any, xid: int) -> None:
    """Have other transactions be committed until one had this id."""
    while int(site.sql("SELECT pg_current_xact_id()")[0][0]) < xid:
        pass
    assert site.sql(f"SELECT pg_xact_status('{xid}')") == [("committed",)]


def test_a_promoted_standby_has_it(site, table, losing, behind: Proxy, spans) -> None:
    call = losing()
    site.cluster.wait_streaming()
    site.cluster.failover()
    behind.accept()
    assert error_of(call) is None
    assert site.ids(table) == [1]
    assert transaction_of(spans) == "committed"


def test_a_promoted_standby_has_not_received_it(driver, site, table, losing, behind: Proxy) -> None:
    cut_off(site)
    call = losing()
    site.cluster.failover()
    behind.accept()
    rolled_back(error_of(call), driver)
    assert site.ids(table) == []


def test_the_id_was_given_out_again(driver, site, table, losing, behind: Proxy) -> None:
    """The new primary has committed a transaction with the same id: another one."""
    cut_off(site)
    xid = next_id(site)
    call = losing()
    site.cluster.failover()
    give_out(site, xid)
    behind.accept()
    rolled_back(error_of(call), driver)
    assert site.ids(table) == []


def test_after_two_promotions(driver, site, table, losing, behind: Proxy) -> None:
    """The end of the replay is then that of the second one: it proves nothing about the first."""
    call = losing()
    site.cluster.wait_streaming()
    site.cluster.switchover()
    site.cluster.switchover()
    proxy_of(behind, site.cluster.primary)
    assert_unknown(error_of(call), driver)
    assert site.ids(table) == [1]


def test_the_promoted_standby_crashes(driver, site, table, losing, behind: Proxy) -> None:
    """The end of the replay is then that of the crash."""
    call = losing()
    site.cluster.wait_streaming()
    site.cluster.failover()
    site.cluster.primary.kill()
    site.cluster.primary.start()
    behind.accept()
    assert_unknown(error_of(call), driver)


@pytest.mark.parametrize("forward", [False, True], ids=["lost", "answer lost"])
@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "killed"])
def test_the_same_server_restarts(driver, site, table, losing, proxy: Proxy, crash: bool, forward: bool) -> None:
    call = losing(forward)
    site.cluster.primary.kill() if crash else site.cluster.primary.stop()
    site.cluster.primary.start()
    proxy.accept()
    error = error_of(call)
    assert error is None if forward else rolled_back(error, driver)
    assert site.ids(table) == [1] * forward


def test_the_same_server_gives_out_the_id_again(driver, site, table, losing, proxy: Proxy) -> None:
    """The WAL with the id was not written when the server was killed."""
    site.sql("ALTER SYSTEM SET wal_writer_delay = '10s'")
    site.sql("SELECT pg_reload_conf()")
    xid = next_id(site)
    call = losing(forward=True, before="SET synchronous_commit = off")
    site.cluster.primary.kill()
    site.cluster.primary.start()
    give_out(site, xid)
    proxy.accept()
    rolled_back(error_of(call), driver)
    assert site.ids(table) == []


def proxy_of(proxy: Proxy, server: Any) -> None:
    proxy.retarget(server.host, server.port)
    proxy.accept()


def assert_unknown(error: BaseException | None, driver: DriverUnderTest) -> None:
    assert told(error, TransactionResolutionUnknownError, driver).transaction == "unknown"


# --- the old session goes on ------------------------------------------------------------------------------------


def test_the_old_session_still_waits_for_its_client(driver, proxied, site, table, proxy: Proxy) -> None:
    """It is ended: only then nothing can be committed any more."""
    connection = proxied()
    driver.execute(connection, insert(table, 1))
    old = site.sessions()
    proxy.strand_when(driver.commit_sent)
    with pytest.raises(FailoverSuccessError) as caught:
        driver.commit(connection)
    rolled_back(caught.value, driver)
    assert not {*old} & {*site.sessions()}
    usable(driver, connection)
    assert site.ids(table) == []


def test_the_old_session_waits_for_a_standby(driver, proxied, site, table, proxy: Proxy, background) -> None:
    """It is waited for: to end it would commit what no standby has."""
    connection = proxied()
    driver.execute(connection, "SET synchronous_commit = on")
    driver.execute(connection, insert(table, 1))
    site.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    site.sql("SELECT pg_reload_conf()")
    try:
        call = background(driver.commit, connection)
        assert guard.wait_until(lambda: count(site, "wait_event = 'SyncRep'") == 1, SECONDS)
        proxy.cut()
        assert guard.wait_until(lambda: count(site, "query LIKE '%pg_xact_status%'") == 1, SECONDS)
        assert count(site, "wait_event = 'SyncRep'") == 1
        assert not call.done()
    finally:
        site.sql("ALTER SYSTEM RESET synchronous_standby_names")
        site.sql("SELECT pg_reload_conf()")
    assert error_of(call) is None
    assert site.ids(table) == [1]


def count(site: Any, condition: str) -> int:
    mine = f"application_name = '{site.name}'"
    return int(site.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {mine} AND {condition}")[0][0])


# --- not to be proved -------------------------------------------------------------------------------------------


def test_no_right_to_know_the_server(driver, proxied, site, table, proxy: Proxy) -> None:
    site.sql("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    try:
        connection = proxied()
        driver.execute(connection, insert(table, 1))
        driver.commit(connection)  # undisturbed
        driver.execute(connection, insert(table, 2))
        proxy.cut_when(driver.commit_sent, forward=True)
        with pytest.raises(TransactionResolutionUnknownError) as caught:
            driver.commit(connection)
    finally:
        site.sql("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")
    assert_unknown(caught.value, driver)
    usable(driver, connection)
    assert site.ids(table) == [1, 2]


def test_no_right_to_ask_afterwards(driver, proxied, site, table, proxy: Proxy) -> None:
    site.sql("REVOKE EXECUTE ON FUNCTION pg_xact_status(xid8) FROM PUBLIC")
    try:
        connection = proxied()
        driver.execute(connection, insert(table, 1))
        proxy.cut_when(driver.commit_sent, forward=True)
        with pytest.raises(TransactionResolutionUnknownError) as caught:
            driver.commit(connection)
    finally:
        site.sql("GRANT EXECUTE ON FUNCTION pg_xact_status(xid8) TO PUBLIC")
    assert_unknown(caught.value, driver)
    usable(driver, connection)


@lost_or_answered
def test_temporary_tables_are_not_in_the_wal(driver, site, table, losing, behind: Proxy, forward: bool) -> None:
    """Where nothing else shows that the id is known to the new server."""
    call = losing(forward, before="CREATE TEMP TABLE scratch (id int)")
    site.cluster.wait_streaming()
    site.cluster.failover()
    behind.accept()
    error = error_of(call)
    assert_unknown(error, driver) if forward else rolled_back(error, driver)


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_behind_a_pooler(driver, connect, site, table, proxy: Proxy, mode: Any) -> None:
    if not pgbouncer.available():
        pytest.skip("PgBouncer is not installed")
    with PgBouncer(site.cluster.primary, mode) as pooler:
        proxy.retarget(pooler.host, pooler.port)
        connection = connect(site.dsn(proxy), instrumented_wrapper=RESOLVING)
        driver.execute(connection, insert(table, 1))
        proxy.cut_when(driver.commit_sent, forward=True)
        with pytest.raises(TransactionResolutionUnknownError) as caught:
            driver.commit(connection)
        assert_unknown(caught.value, driver)


def test_an_aborted_transaction_is_left_alone(driver, proxied, site, table, proxy: Proxy) -> None:
    connection = proxied()
    driver.execute(connection, insert(table, 1))
    with suppress(Exception):
        driver.execute(connection, "SELECT 1 / 0")
    with suppress(Exception):  # some drivers say that nothing was committed
        driver.commit(connection)
    assert b"pg_current_xact_id" not in proxy.seen("client")
    driver.rollback(connection)
    usable(driver, connection)
    assert site.ids(table) == []


@pytest.mark.parametrize("number", [1, 2])
def test_several_statements_in_one_text(driver, proxied, site, table, proxy: Proxy, number: int) -> None:
    """The id of the transaction is not known before its COMMIT."""
    connection = proxied(autocommit=True)
    texts = [f"{insert(table, 1)}; COMMIT /* cut here */", f"BEGIN; {insert(table, 1)}; COMMIT /* cut here */"]
    if number == 1:
        driver.execute(connection, "BEGIN")
    proxy.cut_when(b"/* cut here */", forward=True)
    with pytest.raises(TransactionResolutionUnknownError) as caught:
        driver.execute(connection, texts[number - 1])
    assert_unknown(caught.value, driver)
    assert site.ids(table) == [1]
