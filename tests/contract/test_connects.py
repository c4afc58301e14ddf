"""Section 4, new connections: one that cannot reach its own host joins the search on ``failover_hosts``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from servers import Proxy

from .driver import DriverUnderTest
from .rows import usable

IS_ABOUT_SERVERS = True
NAME = "instrumented_wrapper."


@pytest.fixture
def ours(site: Any) -> dict[str, Any]:
    return {"failover_hosts": site.cluster.hosts(), "failover_timeout": 20}


def searches(spans: Any) -> list[Any]:
    found = spans.named("failover")
    return [span for span in found if span.attributes[NAME + "trigger"] == "connect"]


def test_it_finds_the_server(driver: DriverUnderTest, connect, site, proxy: Proxy, ours, spans) -> None:
    proxy.refuse()
    connection = connect(site.dsn(proxy), instrumented_wrapper=ours)
    usable(driver, connection)
    (span,) = searches(spans)
    assert span.attributes[NAME + "outcome"] == "success"
    assert span.attributes["server.port"] == site.cluster.primary.port
    assert span.attributes[NAME + "previous.port"] == proxy.port


def test_after_a_failover_it_finds_the_new_one(driver: DriverUnderTest, connect, site, ours, spans) -> None:
    old = site.cluster.primary
    site.cluster.wait_streaming()
    site.cluster.failover()
    connection = connect(site.dsn(old), instrumented_wrapper=ours)
    usable(driver, connection)
    (span,) = searches(spans)
    assert span.attributes["server.port"] == site.cluster.primary.port


def test_its_settings_are_those_that_were_asked_for(driver: DriverUnderTest, connect, site, proxy, ours) -> None:
    proxy.refuse()
    connection = connect(site.dsn(proxy), instrumented_wrapper=ours)
    bare = connect(site.dsn(site.cluster.primary), instrumented_wrapper=ours)
    assert {n: driver.get(connection, n) for n in driver.default} == {n: driver.get(bare, n) for n in driver.default}
    assert type(connection) is type(bare)


def test_nobody_takes_over(driver: DriverUnderTest, connect, site, proxy: Proxy, spans) -> None:
    """The app gets the error of its own host."""
    proxy.refuse()
    options = {"failover": "on", "failover_hosts": f"{proxy.host}:{proxy.port}", "failover_timeout": 0.3}
    with pytest.raises(driver.refused_error) as caught:
        connect(site.dsn(proxy), instrumented_wrapper=options)
    assert not hasattr(caught.value, "not_restored")
    (span,) = searches(spans)
    assert span.attributes[NAME + "outcome"] == "failed"
    assert not span.status.is_ok


def test_a_frozen_host_keeps_no_other_from_being_asked(driver: DriverUnderTest, connect, site, proxy, spans) -> None:
    """An attempt has its share of the time, whatever the app's own limit is."""
    proxy.refuse()
    primary = site.cluster.primary
    with Proxy(primary.host, primary.port) as frozen:
        frozen.hold()
        hosts = ",".join(f"{host.host}:{host.port}" for host in (frozen, primary))
        connection = connect(site.dsn(proxy), instrumented_wrapper={"failover_hosts": hosts, "failover_timeout": 6})
    usable(driver, connection)
    (span,) = searches(spans)
    assert span.attributes["server.port"] == primary.port


@pytest.mark.parametrize("options", [{"failover": "off"}, {"failover_hosts": ""}], ids=["off", "no hosts"])
def test_without_failover_the_error_passes(driver: DriverUnderTest, connect, site, proxy, ours, spans, options) -> None:
    proxy.refuse()
    with pytest.raises(driver.refused_error):
        connect(site.dsn(proxy), instrumented_wrapper={**ours, **options})
    assert not searches(spans)


def test_a_host_that_answers_has_the_last_word(driver: DriverUnderTest, connect, site, ours, spans) -> None:
    account = site.make_account("right")
    site.change_password("another")
    with pytest.raises(Exception, match=r"contract_|uthentication|cryptography|password"):  # of any class
        connect(site.dsn(site.cluster.primary, **account), instrumented_wrapper=ours)
    assert not searches(spans)


# --- Without failover_hosts: the connection's own hosts, where its database takes several ----------------------------


@pytest.fixture
def own_hosts(driver: DriverUnderTest, site) -> str:
    """The connection string of an app that writes, with both hosts."""
    driver.needs("hosts of its own")
    if driver.site.servers != "running_cluster":
        pytest.skip("a connection to MySQL names one host")
    site.cluster.wait_streaming()
    dsn: str = site.dsn(target_session_attrs="read-write")
    return dsn


def test_while_no_host_takes_writes_it_waits_for_one(driver: DriverUnderTest, connect, site, own_hosts, spans) -> None:
    site.cluster.primary.kill()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(site.cluster.failover)
        connection = connect(own_hosts)
    usable(driver, connection)


def test_no_own_host_takes_over(driver: DriverUnderTest, connect, site, own_hosts, spans) -> None:
    """The app gets the driver's own error about its hosts."""
    site.cluster.primary.kill()
    with pytest.raises(driver.refused_error, match=driver.no_primary):
        connect(own_hosts, instrumented_wrapper={"failover_timeout": 0.3})
    (span,) = searches(spans)
    assert span.attributes[NAME + "outcome"] == "failed"
    asked = {event.attributes["server.port"] for event in span.events if event.name == "attempt"}
    assert asked == {site.cluster.primary.port, site.cluster.standby.port}


def test_where_all_hosts_answer_they_have_the_last_word(
    driver: DriverUnderTest, connect, site, own_hosts, spans
) -> None:
    """No failover is under way where none of them is away: the driver's error passes at once."""
    standbys = site.dsn(site.cluster.standby, site.cluster.standby, target_session_attrs="read-write")
    with pytest.raises(driver.no_primary_error, match=driver.no_primary):
        connect(standbys, instrumented_wrapper={"failover": "on"})
    assert not searches(spans)


def test_a_port_that_is_none_is_the_drivers_to_refuse(driver: DriverUnderTest, connect, site, own_hosts, spans) -> None:
    driver.needs("libpq")
    with pytest.raises(driver.operational_error, match='"abc" for connection option "port"'):
        connect(site.dsn(site.cluster.primary, port="abc"))
    assert not searches(spans)


def test_own_hosts_are_not_looked_on_without_failover(driver: DriverUnderTest, connect, site, own_hosts, spans) -> None:
    site.cluster.primary.kill()
    with pytest.raises(driver.refused_error, match=driver.no_primary):
        connect(own_hosts, instrumented_wrapper={"failover": "off"})
    assert not searches(spans)
