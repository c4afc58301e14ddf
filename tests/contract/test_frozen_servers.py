"""A frozen server answers the network: only a probe finds it, while a statement lasts longer than `probe_after`."""

from collections.abc import Callable
from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError
from instrumented_wrapper.drivers.engine import probing
from instrumented_wrapper.drivers.registry import tracked_as
from servers import Proxy, guard

from .driver import DriverUnderTest
from .rows import PATIENCE, error_of, insert, session, told, usable

IS_ABOUT_SERVERS = True
SECONDS = 20
PROBED = {"probe_after": 0.2}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen server is given less time to answer."""
    monkeypatch.setattr(probing, "INTERVAL", 0.2)
    monkeypatch.setattr(probing, "PROBE_TIMEOUT", 0.5)


@pytest.fixture
def probed(connect, site):
    """A connection whose server is probed."""
    return lambda **more: connect(autocommit=True, instrumented_wrapper={**PROBED, **more})


def test_a_statement_under_way(driver: DriverUnderTest, probed, site, table, background) -> None:
    connection = probed()
    driver.set(connection, "isolation_level", driver.changed["isolation_level"])
    site.cluster.wait_streaming()
    call = background(driver.execute, connection, site.slow)
    site.wait_running()
    with site.frozen():
        site.cluster.standby.promote()
        error = told(error_of(call), FailoverSuccessError, driver)
        assert error.may_have_run
        assert driver.get(connection, "isolation_level") == driver.changed["isolation_level"]
        usable(driver, connection)
        driver.execute(connection, insert(table, 1))
        assert site.cluster.standby.sql(f"SELECT id FROM {table}", "app") == [("1",)]


def test_a_call_is_taken_for_lost_once(driver: DriverUnderTest, connect, site, cluster, background, caplog) -> None:
    """The failover that follows may last long: nothing is reported of it, and no server is probed for it."""
    with Proxy(cluster.standby.host, cluster.standby.port) as standby:
        connection = connect(site.dsn(cluster.primary, standby), autocommit=True, instrumented_wrapper=PROBED)
        cluster.wait_streaming()
        call = background(driver.execute, connection, site.slow)
        site.wait_running()
        with site.frozen():
            assert guard.wait_until(lambda: "taken for lost" in caplog.text, SECONDS)
            searched = standby.connections
            assert guard.wait_until(lambda: standby.connections > searched + 12, PATIENCE)  # it has lasted long
            cluster.standby.promote()
            told(error_of(call), FailoverSuccessError, driver)
    assert caplog.text.count("taken for lost") == 1


@pytest.fixture
def lock(driver: DriverUnderTest, connect, site) -> tuple[str, Callable[[], Any]]:
    """A statement that waits until the test calls the function."""
    name = repr(site.lock)
    holder = connect(instrumented_wrapper={"failover": "off"}, autocommit=True)
    driver.execute(holder, site.locks[0] % name)
    wait = (site.locks[0] % name).replace(", 0)", ", 60)")
    return wait, lambda: driver.execute(holder, site.locks[1] % name)


def answers(proxy: Proxy, number: int) -> bool:
    """Tell whether so many probes come to be answered in the session of the prober."""
    return guard.wait_until(lambda: proxy.seen("client").count(b"SELECT 1") >= number, SECONDS)


def test_a_long_statement_on_a_healthy_server(
    driver: DriverUnderTest, connect, site, proxy, background, lock, spans
) -> None:
    statement, release = lock
    connection = connect(
        site.dsn(proxy), autocommit=True, instrumented_wrapper={**PROBED, "failover_hosts": site.cluster.hosts()}
    )
    before = session(driver, connection, site)
    call = background(driver.execute, connection, statement)
    assert answers(proxy, 5)
    release()
    assert error_of(call) is None
    assert session(driver, connection, site) == before
    assert not spans.named("failover")


def test_many_statements_are_one_probe(driver: DriverUnderTest, connect, site, proxy, other_proxy, background) -> None:
    """A transaction that is idle waits for nobody, and without failover nothing is probed."""
    options = {**PROBED, "failover_hosts": site.cluster.hosts()}
    waiting = [connect(site.dsn(proxy), autocommit=True, instrumented_wrapper=options) for _ in range(4)]
    idle = connect(site.dsn(other_proxy), instrumented_wrapper=options)
    driver.execute(idle, site.session_id)
    alone = connect(site.dsn(other_proxy), autocommit=True, instrumented_wrapper={**PROBED, "failover": "off"})
    calls = [background(driver.execute, each, site.slow) for each in (*waiting, alone)]
    assert answers(proxy, 5)
    assert (proxy.connections, other_proxy.connections) == (len(waiting) + 1, 2)
    site.end_sessions()
    assert all(error_of(call) for call in calls)


def test_a_connection_that_a_pool_lends(driver: DriverUnderTest, pool, site, table, background) -> None:
    """The pool's own check waits for the frozen server, or the first statement does."""
    driver.needs("pools")
    lending = pool(kwargs={"instrumented_wrapper": PROBED})

    def borrow() -> list[Any]:
        connection = driver.take(lending)
        try:
            while True:
                try:
                    driver.set(connection, "autocommit", True)
                    return [*driver.execute(connection, site.is_standby)]
                except FailoverSuccessError:  # the statement waited, not the check
                    driver.rollback(connection)
        finally:
            driver.give_back(lending, connection)

    borrow()
    site.cluster.wait_streaming()
    with site.frozen():
        site.cluster.standby.promote()
        assert len(background(borrow).result(PATIENCE)) == 1


def test_one_that_cannot_be_looked_at(driver: DriverUnderTest, probed, site, background, monkeypatch) -> None:
    """The others are probed all the same."""
    strange, connection = tracked_as(probed()), probed()
    looks = type(strange).is_waiting

    def is_waiting(record: Any, of: Any) -> Any:
        if record is strange:
            raise RuntimeError("in use elsewhere")
        return looks(record, of)

    monkeypatch.setattr(type(strange), "is_waiting", is_waiting)
    site.cluster.wait_streaming()
    call = background(driver.execute, connection, site.slow)
    site.wait_running()
    with site.frozen():
        site.cluster.standby.promote()
        told(error_of(call), FailoverSuccessError, driver)
