"""Section 4: no server took over, or the new session could not be configured. It is closed for good then."""

import pytest

from instrumented_wrapper import FailoverError, FailoverFailedError, FailoverSuccessError
from servers import Proxy, guard

from .driver import DriverUnderTest
from .rows import PATIENCE, error_of, insert, no_attempt_is_under_way, session, told, usable

IS_ABOUT_SERVERS = True

SOON = {"failover_timeout": 0.4}


@pytest.fixture
def proxied(connect, site, proxy: Proxy, other_proxy: Proxy):
    """A connection whose two hosts are proxies to the primary."""
    return lambda **keywords: connect(site.dsn(proxy, other_proxy), **{"instrumented_wrapper": SOON, **keywords})


@pytest.fixture
def go_away(proxy: Proxy, other_proxy: Proxy):
    """Let nobody in any more, and end what is there."""

    def go_away(cut: bool = True) -> None:
        for one in (proxy, other_proxy):
            one.refuse()
            one.cut() if cut else None

    return go_away


def failed(error: BaseException | None, driver: DriverUnderTest, transaction: str) -> FailoverError:
    error = told(error, FailoverFailedError, driver)
    assert (error.transaction, error.server) == (transaction, None)
    return error


def test_nobody_takes_over(driver: DriverUnderTest, proxied, go_away, proxy: Proxy, other_proxy: Proxy) -> None:
    connection = proxied(autocommit=True)
    cursor = driver.cursor(connection)
    go_away()
    with pytest.raises(FailoverFailedError) as caught:
        driver.execute(connection, "SELECT 1")
    assert failed(caught.value, driver, "none").may_have_run is False
    assert guard.wait_until(no_attempt_is_under_way, PATIENCE)
    for one in (proxy, other_proxy):
        one.accept()
        one.clear()
    assert driver.is_closed(connection)
    with pytest.raises(driver.closed_error):
        driver.execute(connection, "SELECT 1")
    with pytest.raises(driver.closed_error):
        driver.execute_on(cursor, "SELECT 1")
    assert (proxy.connections, other_proxy.connections) == (0, 0)  # closed for good: nobody looked again


def test_nobody_takes_over_in_autocommit_in_flight(driver: DriverUnderTest, proxied, go_away, site) -> None:
    connection = proxied(autocommit=True)
    go_away(cut=False)
    with pytest.raises(FailoverFailedError) as caught:
        driver.execute(connection, site.suicide)
    assert failed(caught.value, driver, "none").may_have_run is True


def test_nobody_takes_over_in_a_transaction(driver: DriverUnderTest, proxied, go_away, site, table) -> None:
    connection = proxied()
    driver.execute(connection, insert(table, 1))
    go_away()
    with pytest.raises(FailoverFailedError) as caught:
        driver.execute(connection, insert(table, 2))
    assert failed(caught.value, driver, "rolled_back").may_have_run is False
    assert driver.is_closed(connection)
    assert site.ids(table) == []


def test_nobody_takes_over_in_a_block(driver: DriverUnderTest, proxied, go_away, site, table) -> None:
    connection = proxied(autocommit=True)
    with pytest.raises(FailoverFailedError) as caught, driver.block(connection):
        driver.execute(connection, insert(table, 1))
        go_away()
        with pytest.raises(FailoverFailedError):
            driver.execute(connection, insert(table, 2))
    failed(caught.value, driver, "rolled_back")
    assert driver.is_closed(connection)
    assert site.ids(table) == []


def test_nobody_takes_over_in_commit(driver: DriverUnderTest, proxied, go_away, site, table, proxy: Proxy) -> None:
    connection = proxied()
    driver.execute(connection, insert(table, 1))
    proxy.cut_when(driver.commit_sent, forward=True)
    go_away(cut=False)
    with pytest.raises(FailoverFailedError) as caught:
        driver.commit(connection)
    assert failed(caught.value, driver, "unknown").may_have_run is True
    assert driver.is_closed(connection)
    assert site.ids(table) == [1]


def test_only_a_standby_is_left(driver: DriverUnderTest, connect, site) -> None:
    connection = connect(autocommit=True, instrumented_wrapper=SOON)
    site.cluster.primary.kill()
    with pytest.raises(FailoverFailedError):
        driver.execute(connection, "SELECT 1")
    assert driver.is_closed(connection)
    assert site.none_left(site.cluster.standby)


# --- answers that will not change, and those that may -----------------------------------------------------------


def test_a_wrong_password_ends_it_at_once(driver: DriverUnderTest, connect, site, proxy, other_proxy, caplog) -> None:
    dsn = site.dsn(proxy, other_proxy, **site.make_account("old-secret"))
    connection = connect(dsn, autocommit=True, instrumented_wrapper={"failover_timeout": PATIENCE})
    site.change_password("new-secret")
    site.end_sessions()
    proxy.cut()  # also what the server's end has not reached yet
    proxy.clear()
    with pytest.raises(FailoverFailedError) as caught:
        driver.execute(connection, "SELECT 1")
    failed(caught.value, driver, "none")
    assert max(proxy.connections, other_proxy.connections) <= 1
    assert driver.is_closed(connection)


def test_no_such_database_ends_it_at_once(driver: DriverUnderTest, connect, site, spans) -> None:
    dsn = site.dsn(**site.make_database())
    connection = connect(dsn, autocommit=True, instrumented_wrapper={"failover_timeout": PATIENCE})
    site.end_sessions()
    site.drop_database()
    with pytest.raises(FailoverFailedError) as caught:
        driver.execute(connection, "SELECT 1")
    failed(caught.value, driver, "none")
    (span,) = spans.named("failover")
    assert span.attributes["instrumented_wrapper.attempts"] <= 2  # one for each host


def test_who_is_away_is_asked_again(driver: DriverUnderTest, connect, site, table, background) -> None:
    connection = connect(autocommit=True, instrumented_wrapper={"failover_timeout": PATIENCE})
    site.cluster.wait_streaming()
    site.cluster.primary.kill()
    under_way = background(driver.execute, connection, insert(table, 1))
    assert not guard.wait_until(under_way.done, 0.3)  # there is no primary now
    site.cluster.standby.promote()
    assert error_of(under_way) is None
    site.cluster.restore()
    assert site.ids(table) == [1]


def test_a_server_that_is_killed_and_starts_again(
    driver: DriverUnderTest, connect, site, proxy: Proxy, background, spans
) -> None:
    one = site.cluster.primary
    keywords = {"failover": "on", "failover_timeout": PATIENCE}
    # A starting MySQL refuses logins without TLS until each account has logged in once: nobody gets there before.
    place = proxy if site.refuses_when_cold else one
    connection = connect(site.dsn(place), autocommit=True, instrumented_wrapper=keywords)
    proxy.refuse()
    one.kill()
    proxy.cut()  # the end of the server may not have come through yet
    under_way = background(driver.execute, connection, "SELECT 1")
    one.start()
    proxy.accept()
    assert error_of(under_way) is None
    (span,) = spans.named("failover")
    assert span.attributes["instrumented_wrapper.trigger"] == "session_ended"


def test_connections_lost_together_share_one_search(driver: DriverUnderTest, connect, site, background, spans) -> None:
    cluster, number = site.cluster, 9
    with Proxy(cluster.standby.host, cluster.standby.port) as asked, Proxy("127.0.0.1", cluster.primary.port) as home:
        many = [connect(site.dsn(home, asked), autocommit=True) for _ in range(number)]
        home.refuse()
        home.cut()
        calls = [background(driver.execute, connection, "SELECT 1") for connection in many]
        assert guard.wait_until(lambda: asked.connections >= number, PATIENCE)
        home.clear()
        home.accept()
        assert [error_of(call) for call in calls] == [None] * number
        assert home.connections == number  # each connects once, to where the search has led
        failovers = spans.named("failover")
        searched = {span.context.span_id for span in failovers if not span.links}
        assert len(searched) <= number / 3  # who came when the first search was over had one of its own
        assert {link.context.span_id for span in failovers for link in span.links} <= searched


# --- the app's own close ----------------------------------------------------------------------------------------


def test_closed_meanwhile_it_stays_closed(driver: DriverUnderTest, connect, site, proxy, background) -> None:
    with Proxy(site.cluster.standby.host, site.cluster.standby.port) as asked:
        connection = connect(site.dsn(proxy, asked), autocommit=True)
        proxy.refuse()
        proxy.cut()
        under_way = background(driver.execute, connection, "SELECT 1")
        assert guard.wait_until(lambda: asked.connections > 0, PATIENCE)
        driver.close(connection)
        proxy.accept()
        assert isinstance(error_of(under_way), driver.operational_error)
        assert driver.is_closed(connection)
        assert site.none_left()


@pytest.mark.parametrize("lost", [False, True])
def test_use_after_the_apps_close_is_no_loss(
    driver: DriverUnderTest, connect, site, spans, background, lost: bool
) -> None:
    connection = connect()
    driver.execute(connection, "SELECT 1")
    cursor = driver.cursor(connection)
    if lost:
        site.end_sessions()
    driver.close(connection)
    uses = ((driver.execute, connection, "SELECT 1"), (driver.execute_on, cursor, "SELECT 1"))
    for use in (*uses, (driver.commit, connection), (driver.rollback, connection), *uses):
        assert not isinstance(error_of(background(*use)), FailoverError)
    assert spans.named("failover") == []
    assert driver.is_closed(connection)
    assert site.none_left()


@pytest.mark.parametrize("what", ["close", "reset", "getters", "mark"])
def test_what_never_starts_a_switch(driver: DriverUnderTest, connect, site, spans, what: str) -> None:
    connection = connect()
    driver.set(connection, "read_only", True)
    site.end_sessions()
    if what == "close":
        driver.close(connection)
    elif what in ("reset", "mark"):
        _whatever_it_says(driver.verb("reset_session" if what == "reset" else "mark_pristine"), connection, driver)
    elif what == "getters":
        driver.use_getters(connection)
    assert spans.named("failover") == []
    assert site.sessions() == []


def _whatever_it_says(verb, connection, driver: DriverUnderTest) -> None:
    said = None
    try:
        verb(connection)
    except driver.operational_error as error:  # the driver's own is the app's business
        said = error
    assert not isinstance(said, FailoverError)


def test_a_return_to_a_pool_never_starts_a_switch(driver: DriverUnderTest, pool, site, spans) -> None:
    opened = pool()
    connection = driver.take(opened)
    driver.set(connection, "read_only", True)
    driver.execute(connection, "SELECT 1")
    site.end_sessions()
    driver.give_back(opened, connection)
    assert spans.named("failover") == []
    again = driver.take(opened)
    assert driver.get(again, "read_only") == driver.default["read_only"]
    usable(driver, again)
    driver.give_back(opened, again)


# --- which server -----------------------------------------------------------------------------------------------


def test_a_primary_stays_a_primary(driver: DriverUnderTest, connect, site) -> None:
    connection = connect(autocommit=True)
    driver.set(connection, "read_only", True)  # says nothing of the server
    for _ in range(3):
        site.end_sessions()
        assert driver.execute(connection, site.is_standby) == [(False,)]
    assert site.none_left(site.cluster.standby)


def test_a_standby_stays_a_standby(driver: DriverUnderTest, connect, site) -> None:
    standby = site.cluster.standby
    connection = connect(site.dsn(standby, site.cluster.primary), autocommit=True)
    for _ in range(3):
        site.end_sessions(standby)
        assert driver.execute(connection, site.is_standby) == [(True,)]
    assert site.none_left()


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [("standby", True), ("read-only", True), ("prefer-standby", True), ("read-write", False), ("primary", False)],
)
def test_the_apps_own_wish(driver: DriverUnderTest, connect, site, attrs: str, expected: bool) -> None:
    connection = connect(site.dsn(**driver.wish_for(attrs)), autocommit=True)
    assert driver.execute(connection, site.is_standby) == [(expected,)]
    old = session(driver, connection, site)
    site.end_sessions()
    site.end_sessions(site.cluster.standby)
    assert driver.execute(connection, site.is_standby) == [(expected,)]
    assert session(driver, connection, site) != old


def test_a_wish_for_any_server(driver: DriverUnderTest, connect, site) -> None:
    connection = connect(site.dsn(**driver.wish_for("any")), autocommit=True)
    site.cluster.primary.kill()
    assert driver.execute(connection, site.is_standby) == [(True,)]


def test_a_failover_with_the_new_primary_first_in_the_list(driver: DriverUnderTest, connect, site) -> None:
    wish = driver.wish_for("read-write")
    connection = connect(site.dsn(site.cluster.standby, site.cluster.primary, **wish))
    site.cluster.failover()
    with pytest.raises(FailoverSuccessError):
        driver.execute(connection, site.suicide)
    driver.rollback(connection)
    assert driver.execute(connection, site.is_standby) == [(False,)]


# --- the end of a transaction whose switch has failed -------------------------------------------------------------


def lost_idle(driver: DriverUnderTest, connection, table: str) -> None:
    with pytest.raises(FailoverFailedError):
        driver.execute(connection, "SELECT 1")


def lost_in_a_transaction(driver: DriverUnderTest, connection, table: str) -> None:
    with pytest.raises(FailoverFailedError):
        driver.execute(connection, insert(table, 2))


def lost_in_commit(driver: DriverUnderTest, connection, table: str) -> None:
    with pytest.raises(FailoverFailedError):
        driver.commit(connection)


def lost_in_rollback(driver: DriverUnderTest, connection, table: str) -> None:
    with pytest.raises(FailoverFailedError):
        driver.rollback(connection)


@pytest.mark.parametrize("lost", [lost_idle, lost_in_a_transaction, lost_in_commit, lost_in_rollback])
def test_commit_after_a_failed_switch(driver: DriverUnderTest, proxied, go_away, table, lost) -> None:
    """Whoever commits did not notice: a closed connection says less than what became of the transaction."""
    connection = proxied()
    cursor = driver.cursor(connection)
    if lost is not lost_idle:
        driver.execute_on(cursor, insert(table, 1))
    go_away()
    lost(driver, connection, table)
    for by_text in (False, True, False, True):
        with pytest.raises(FailoverFailedError) as caught:
            driver.execute_on(cursor, "COMMIT") if by_text else driver.commit(connection)
        assert caught.value.transaction == ("none" if lost is lost_idle else "rolled_back")
    assert driver.is_closed(connection)
    driver.close(connection)  # says nothing
