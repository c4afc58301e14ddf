"""Section 4, new connections: one that cannot reach its own host joins the search on ``failover_hosts``."""

from __future__ import annotations

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
    with pytest.raises(driver.operational_error) as caught:
        connect(site.dsn(proxy), instrumented_wrapper=options)
    assert not hasattr(caught.value, "not_restored")
    (span,) = searches(spans)
    assert span.attributes[NAME + "outcome"] == "failed"
    assert not span.status.is_ok


@pytest.mark.parametrize("options", [{"failover": "off"}, {"failover_hosts": ""}], ids=["off", "no hosts"])
def test_without_failover_the_error_passes(driver: DriverUnderTest, connect, site, proxy, ours, spans, options) -> None:
    proxy.refuse()
    with pytest.raises(driver.operational_error):
        connect(site.dsn(proxy), instrumented_wrapper={**ours, **options})
    assert not searches(spans)


def test_a_host_that_answers_has_the_last_word(driver: DriverUnderTest, connect, site, ours, spans) -> None:
    account = site.make_account("right")
    site.change_password("another")
    with pytest.raises(Exception, match=r"contract_|uthentication|cryptography|password"):  # of any class
        connect(site.dsn(site.cluster.primary, **account), instrumented_wrapper=ours)
    assert not searches(spans)
