"""Section 5: when a session is reset, what is sent for it, and how long it may take."""

import logging
import threading
from typing import Any

import pytest

from instrumented_wrapper import SessionStateTransferHandlers
from servers import Proxy, guard

from .driver import Callback, DriverUnderTest
from .measured import Measured
from .rows import insert, session


@pytest.fixture
def proxied(connect, site, proxy: Proxy) -> Any:
    return lambda **keywords: connect(site.dsn(proxy), **keywords)


def change_all(driver: DriverUnderTest, connection: Any) -> None:
    for setting, value in driver.changed.items():
        driver.set(connection, setting, value)


def change_unsent(driver: DriverUnderTest, connection: Any) -> None:
    driver.needs("settings without a round trip")
    for setting, value in driver.unsent.items():
        driver.set(connection, setting, value)


def at_default(driver: DriverUnderTest, connection: Any) -> bool:
    return {name: driver.get(connection, name) for name in driver.default} == driver.default


def test_close_resets_without_a_round_trip(driver: DriverUnderTest, proxied, site, proxy: Proxy, spans) -> None:
    connection = proxied()
    change_unsent(driver, connection)
    proxy.clear()
    driver.close(connection)
    assert site.none_left()
    assert driver.was_reset(connection, proxy.seen("client"))
    assert proxy.seen("client") == site.goodbye
    (span,) = spans.named("session_state.reset")
    assert set(span.attributes["instrumented_wrapper.settings"]) == set(driver.unsent)


def test_close_resets(driver: DriverUnderTest, proxied, site, proxy: Proxy) -> None:
    connection = proxied()
    change_all(driver, connection)
    proxy.clear()
    driver.close(connection)
    assert site.none_left()
    assert driver.was_reset(connection, proxy.seen("client"))
    assert proxy.seen("client").endswith(site.goodbye)


def test_each_setting_of_a_reset_has_an_outcome(driver: DriverUnderTest, connect, spans) -> None:
    connection = connect()
    change_all(driver, connection)
    driver.close(connection)
    (span,) = spans.named("session_state.reset")
    outcomes = {event.attributes["name"]: event.attributes["outcome"] for event in span.events}
    assert outcomes == dict.fromkeys(span.attributes["instrumented_wrapper.settings"], "reset") != {}


def test_close_in_a_transaction_sends_nothing(driver: DriverUnderTest, proxied, site, proxy, spans, table) -> None:
    connection = proxied()
    driver.set(connection, "isolation_level", driver.changed["isolation_level"])
    driver.execute(connection, insert(table, 1))
    proxy.clear()
    driver.close(connection)
    assert site.none_left()
    assert proxy.seen("client") == site.goodbye
    assert site.ids(table) == []


def test_only_what_is_changed_and_different(driver: DriverUnderTest, connect, spans) -> None:
    connection = connect()
    driver.set(connection, "read_only", True)
    driver.set(connection, "read_only", driver.default["read_only"])
    name, value = driver.another
    driver.set(connection, name, value)
    driver.close(connection)
    (span,) = spans.named("session_state.reset")
    assert span.attributes["instrumented_wrapper.settings"] == (driver.named(name),)
    driver.close(connect())
    assert len(spans.named("session_state.reset")) == 1  # nothing to reset: no span


def test_a_closed_connection_may_be_closed_again(driver: DriverUnderTest, connect, spans) -> None:
    connection = connect()
    change_all(driver, connection)
    driver.close(connection)
    driver.close(connection)
    assert len(spans.named("session_state.reset")) == 1


def test_reset_can_be_off(driver: DriverUnderTest, proxied, proxy: Proxy, site, spans) -> None:
    connection = proxied(reset_session_state_on_close=False)
    change_all(driver, connection)
    proxy.clear()
    driver.close(connection)
    assert site.none_left()
    assert proxy.seen("client") == site.goodbye
    assert not driver.was_reset(connection, proxy.seen("client"))
    assert spans.named("session_state.reset") == []


def test_close_on_a_frozen_server(driver: DriverUnderTest, connect, site, spans) -> None:
    connection = connect()
    change_all(driver, connection)
    with site.frozen():
        driver.close(connection)  # returns although nobody answers
    assert driver.is_closed(connection)
    assert spans.named("failover") == []


def test_a_reset_that_gets_no_answer_is_bounded(driver: DriverUnderTest, pool, site, spans, caplog) -> None:
    opened = pool()
    connection = driver.take(opened)
    driver.set(connection, "autocommit", True)
    number = session(driver, connection, site)
    SessionStateTransferHandlers.set_reset_session_state_on_close_func(driver.callback(Callback(statement="SELECT 1")))
    with site.frozen():
        driver.give_back(opened, connection)  # returns although nobody answers
    SessionStateTransferHandlers.clear_reset_session_state_on_close_func()
    following = driver.take(opened)
    assert session(driver, following, site) != number
    assert spans.named("failover") == []
    driver.give_back(opened, following)


# --- a session that has ended -------------------------------------------------------------------------------------


def ended_by_the_server(site, proxy: Proxy) -> None:
    site.end_sessions()


def ended_by_the_network(site, proxy: Proxy) -> None:
    proxy.cut()


def ended_by_the_reset(site, proxy: Proxy) -> None:
    proxy.cut_when(b"tenant")


def ended_after_the_reset(site, proxy: Proxy) -> None:
    proxy.cut_when(b"tenant", forward=True)


ENDS = [ended_by_the_server, ended_by_the_network, ended_by_the_reset, ended_after_the_reset]


def set_tenant(driver: DriverUnderTest, connection: Any, site) -> None:
    driver.execute(connection, site.secret_setting)


def change_each(driver: DriverUnderTest, connection: Any, site) -> None:
    change_all(driver, connection)
    set_tenant(driver, connection, site)


def leave_a_doubt(driver: DriverUnderTest, connection: Any, site) -> None:
    set_tenant(driver, connection, site)
    for text in site.sets_unnamed:
        driver.execute(connection, text)


def leave_state(driver: DriverUnderTest, connection: Any, site) -> None:
    set_tenant(driver, connection, site)
    for text in site.leaving:
        driver.execute(connection, text)


def failed_resets(measured: Measured) -> list[frozenset[tuple[str, Any]]]:
    """Return what was counted as failed."""
    found = [*measured.new("reset.duration"), *measured.new("settings")]
    return [key for key in found if "error.type" in dict(key) or "failed" in dict(key).values()]


def nothing_failed(spans, caplog, measured: Measured) -> bool:
    """Return True if no log, span or metric tells of a failed reset."""
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    found = spans.named("session_state.reset")
    assert [span for span in found if not span.status.is_unset or "error.type" in span.attributes] == []
    outcomes = {event.attributes["outcome"] for span in found for event in span.events}
    assert outcomes <= {"skipped", "reset"}
    return failed_resets(measured) == []


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("change", [set_tenant, change_each, leave_a_doubt, leave_state])
def test_a_close_of_a_session_that_has_ended_is_no_failed_reset(
    driver: DriverUnderTest, proxied, site, proxy: Proxy, spans, caplog, measured, end, change
) -> None:
    connection = proxied(autocommit=True, instrumented_wrapper={"reset_scope": "session"})
    change(driver, connection, site)
    end(site, proxy)
    driver.close(connection)
    assert driver.is_closed(connection)
    assert nothing_failed(spans, caplog, measured)


@pytest.mark.parametrize("end", ENDS)
def test_what_was_lost_is_skipped(driver: DriverUnderTest, proxied, site, proxy: Proxy, spans, end) -> None:
    connection = proxied(autocommit=True)
    set_tenant(driver, connection, site)
    end(site, proxy)
    driver.close(connection)
    for span in spans.named("session_state.reset"):
        assert [event.attributes["outcome"] for event in span.events] == ["skipped"]


@pytest.mark.parametrize("end", ENDS)
def test_a_pool_discards_a_session_that_has_ended(
    driver: DriverUnderTest, pool, site, proxy: Proxy, spans, caplog, measured, end
) -> None:
    if end in (ended_by_the_reset, ended_after_the_reset):
        driver.needs("pools that reset each setting")
    opened = pool(site.dsn(proxy))
    connection = driver.take(opened)
    driver.set(connection, "autocommit", True)
    number = session(driver, connection, site)
    set_tenant(driver, connection, site)
    end(site, proxy)
    driver.give_back(opened, connection)
    assert nothing_failed(spans, caplog, measured)
    following = driver.take(opened)
    assert session(driver, following, site) != number
    assert spans.named("failover") == []
    driver.give_back(opened, following)


@pytest.mark.parametrize("end", [ended_by_the_server, ended_by_the_network])
def test_a_handler_meets_a_session_that_has_ended(
    driver: DriverUnderTest, proxied, site, proxy: Proxy, spans, caplog, measured, end
) -> None:
    connection = proxied(autocommit=True)
    set_tenant(driver, connection, site)
    SessionStateTransferHandlers.set_reset_session_state_on_close_func(driver.callback(Callback(statement="SELECT 1")))
    end(site, proxy)
    driver.close(connection)
    assert nothing_failed(spans, caplog, measured)


def test_a_fault_of_a_handler_is_one_also_where_the_session_has_ended(
    driver: DriverUnderTest, proxied, site, proxy: Proxy, spans, caplog
) -> None:
    connection = proxied(autocommit=True)
    set_tenant(driver, connection, site)

    def handler(state: Any, connection: Any) -> bool:
        proxy.cut()
        raise LookupError("a fault of the app's")

    SessionStateTransferHandlers.set_reset_session_state_on_close_func(handler)
    driver.close(connection)
    assert "session reset failed: LookupError" in caplog.text
    (span,) = spans.named("session_state.reset")
    assert span.attributes["error.type"] == "LookupError"


def test_a_reset_without_an_answer_has_failed_in_all_its_entries(
    driver: DriverUnderTest, connect, site, spans, caplog, measured
) -> None:
    driver.needs("server")
    connection = connect(autocommit=True, instrumented_wrapper={"reset_scope": "session"})
    leave_state(driver, connection, site)
    with site.frozen():
        driver.close(connection)
    (span,) = spans.named("session_state.reset")
    outcomes = {event.attributes["name"]: event.attributes["outcome"] for event in span.events}
    assert outcomes == dict.fromkeys(span.attributes["instrumented_wrapper.settings"], "failed") != {}
    assert "session reset failed" in caplog.text
    assert failed_resets(measured)


def test_a_reset_of_the_whole_session_brings_back_what_connecting_sets(driver: DriverUnderTest, connect, site) -> None:
    """What cannot be undone by itself is undone by a reset that takes all with it, the encoding included."""
    driver.needs("server")
    connection = connect(autocommit=True, instrumented_wrapper={"reset_scope": "session"})
    before = driver.execute(connection, site.all_settings)
    leave_state(driver, connection, site)
    driver.verb("reset_session")(connection)
    assert driver.execute(connection, site.all_settings) == before


# --- pools ------------------------------------------------------------------------------------------------------


def test_a_return_resets(driver: DriverUnderTest, pool, site, proxy: Proxy, spans) -> None:
    opened = pool(site.dsn(proxy))
    connection = driver.take(opened)
    change_unsent(driver, connection)
    proxy.clear()
    driver.give_back(opened, connection)
    assert at_default(driver, connection)
    assert driver.take(opened) is connection
    assert proxy.seen("client") == b""
    (span,) = spans.named("session_state.reset")
    assert span.attributes["instrumented_wrapper.trigger"] == "pool_return"
    assert tuple(driver.execute(connection, site.in_effect)[0]) == site.default_in_effect
    driver.give_back(opened, connection)


def test_a_return_rolls_back_first(driver: DriverUnderTest, pool, site, table, caplog) -> None:
    opened = pool()
    connection = driver.take(opened)
    driver.set(connection, "isolation_level", driver.changed["isolation_level"])
    driver.execute(connection, insert(table, 1))
    driver.give_back(opened, connection)
    assert driver.take(opened) is connection
    assert at_default(driver, connection)
    assert site.ids(table) == []
    driver.give_back(opened, connection)


def test_a_return_resets_before_the_pools_own_callback(driver: DriverUnderTest, pool) -> None:
    driver.needs("pool callbacks")
    name, value = driver.another
    what = Callback({name: value})
    opened = pool(reset=what)
    connection = driver.take(opened)
    change_all(driver, connection)
    what.calls.clear()
    driver.give_back(opened, connection)
    assert driver.take(opened) is connection
    assert what.calls == [(connection,)]
    seen = {name: driver.get(connection, name) for name in driver.default}
    assert seen == {**driver.default, name: value}  # set after our reset, and kept
    driver.give_back(opened, connection)


def test_a_return_resets_in_the_calling_thread(driver: DriverUnderTest, pool) -> None:
    opened = pool()
    connection = driver.take(opened)
    threads: list[str] = []
    SessionStateTransferHandlers.set_reset_session_state_on_close_func(
        lambda state, connection: threads.append(threading.current_thread().name)
    )
    driver.give_back(opened, connection)
    assert guard.wait_until(lambda: threads, 10)
    assert not any("pool" in name for name in threads)


def test_what_is_set_by_the_next_client_is_fetched_against_the_baseline(driver: DriverUnderTest, pool) -> None:
    driver.needs("pools that reset each setting")
    opened = pool(configure=Callback({"read_only": True}))
    for _ in range(3):
        connection = driver.take(opened)
        assert driver.get(connection, "read_only") is True
        driver.set(connection, "read_only", False)
        driver.give_back(opened, connection)


def test_the_end_of_a_pool_closes_the_sessions(driver: DriverUnderTest, pool, site) -> None:
    opened = pool()
    connection = driver.take(opened)
    change_all(driver, connection)
    driver.give_back(opened, connection)
    driver.close_pool(opened)
    assert site.none_left()
