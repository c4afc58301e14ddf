"""Section 3, ``reset_on_return``: what a return to a pool does with a session that the app has changed."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from .driver import Callback, DriverUnderTest
from .rows import session

IS_ABOUT_SERVERS = True
NAME = "instrumented_wrapper."


@pytest.fixture
def opened(driver: DriverUnderTest, pool: Any) -> Any:
    """Return a function that opens a pool whose own reset, if it has one, is off."""

    def opened(chosen: str) -> Any:
        kwargs = {"instrumented_wrapper": {"reset_on_return": chosen}}
        kwargs |= {"pool_reset_session": False} if driver.name == "mysql.connector" else {}
        own = {"reset": Callback()} if driver.name == "asyncpg" else {}
        return pool(kwargs=kwargs, **own)

    return opened


def left(driver: DriverUnderTest, pool: Any, site: Any, *texts: str) -> tuple[Any, int]:
    """Change the session of a connection, and return it to the pool."""
    connection = driver.take(pool)
    number = session(driver, connection, site)
    for text in texts:
        driver.execute(connection, text)
    driver.commit(connection)
    driver.give_back(pool, connection)
    return connection, number


def found(driver: DriverUnderTest, pool: Any, site: Any) -> tuple[Any, int]:
    """Return the tenant and the session that the next user of the pool gets."""
    connection = driver.take(pool)
    ((tenant,),) = driver.execute(connection, site.shows_tenant)
    number = session(driver, connection, site)
    driver.rollback(connection)
    driver.give_back(pool, connection)
    return (tenant.decode() if isinstance(tenant, bytes) else tenant) or None, number


def called(pool: Any) -> str:
    """Return a pattern of the pool's name: its own, else server and database."""
    own = getattr(pool, "name", None) or getattr(pool, "pool_name", None)
    return re.escape(own) if own else r".+:\d+/app"


@pytest.mark.parametrize("chosen", ["auto", "on"])
def test_it_is_reset(driver: DriverUnderTest, opened, site, spans, chosen: str) -> None:
    pool = opened(chosen)
    _, number = left(driver, pool, site, site.sets_tenant)
    (span,) = spans.named("session_state.reset")
    assert span.attributes[NAME + "trigger"] == "pool_return"
    assert found(driver, pool, site) == (None, number)


def test_its_connection_is_closed(driver: DriverUnderTest, opened, site, spans) -> None:
    pool = opened("close")
    _, number = left(driver, pool, site, site.sets_tenant)
    tenant, other = found(driver, pool, site)
    assert tenant is None and other != number
    assert found(driver, pool, site) == (None, other), "one that nobody has changed stays"
    assert not spans.named("session_state.reset") + spans.named("session_state.leak")


def test_it_is_left_alone(driver: DriverUnderTest, opened, site, spans) -> None:
    pool = opened("off")
    _, number = left(driver, pool, site, site.sets_tenant)
    assert found(driver, pool, site) == ("acme", number)
    assert not spans.named("session_state.reset") + spans.named("session_state.leak")


def test_it_is_reported(driver: DriverUnderTest, opened, site, spans, caplog: Any) -> None:
    caplog.set_level(logging.WARNING, "instrumented_wrapper")
    pool = opened("report")
    _, number = left(driver, pool, site, site.sets_tenant)
    assert found(driver, pool, site) == ("acme", number)
    (span,) = spans.named("session_state.leak")
    assert span.attributes[NAME + "settings"] == (site.tenant,)
    assert span.attributes[NAME + "driver"] == driver.name
    assert re.fullmatch(called(pool), span.attributes["db.client.connection.pool.name"])
    assert not spans.named("session_state.reset")
    assert "acme" not in caplog.text


def test_each_change_is_reported_once(driver: DriverUnderTest, opened, site, spans) -> None:
    pool = opened("report")
    for _ in range(3):
        left(driver, pool, site, site.sets_tenant)
        found(driver, pool, site)
    assert len(spans.named("session_state.leak")) == 3


def test_a_reset_after_the_request_is_linked_to_it(driver: DriverUnderTest, opened, site, spans) -> None:
    pool = opened("on")
    connection = driver.take(pool)
    with TracerProvider().get_tracer("app").start_as_current_span("request") as request:
        driver.execute(connection, site.sets_tenant)
        driver.commit(connection)
    driver.give_back(pool, connection)
    (span,) = spans.named("session_state.reset")
    wanted = request.get_span_context().trace_id
    assert span.parent is None and {link.context.trace_id for link in span.links} == {wanted}


def test_a_report_is_linked_to_what_set_it(driver: DriverUnderTest, opened, site, spans) -> None:
    pool = opened("report")
    with TracerProvider().get_tracer("app").start_as_current_span("request") as request:
        left(driver, pool, site, site.sets_tenant)
    (span,) = spans.named("session_state.leak")
    wanted = request.get_span_context().trace_id
    assert span.links and {link.context.trace_id for link in span.links} == {wanted}


def test_what_a_transaction_did_not_commit_is_not_reported(driver: DriverUnderTest, opened, site, spans) -> None:
    driver.needs("transactional settings")
    pool = opened("report")
    connection = driver.take(pool)
    driver.execute(connection, site.sets_tenant)
    driver.give_back(pool, connection)
    assert not spans.named("session_state.leak")


def test_a_setting_that_is_back_is_not_reported(driver: DriverUnderTest, opened, site, spans) -> None:
    pool = opened("report")
    connection = driver.take(pool)
    for setting, value in driver.unsent.items():
        before = driver.get(connection, setting)
        driver.set(connection, setting, value)
        driver.set(connection, setting, before)
    driver.give_back(pool, connection)
    assert not spans.named("session_state.leak")
