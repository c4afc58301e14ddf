"""Section 2: the app's own reset and transfer functions."""

import asyncio
import logging
from concurrent.futures import CancelledError
from typing import Any

import pytest

from instrumented_wrapper import (
    FailoverError,
    FailoverFailedError,
    SessionStateTransferHandlers,
    reset_session,
    reset_session_async,
    session_state,
)
from servers import Proxy

from .driver import Callback, DriverUnderTest
from .rows import insert

set_reset = SessionStateTransferHandlers.set_reset_session_state_on_close_func
clear_reset = SessionStateTransferHandlers.clear_reset_session_state_on_close_func
set_transfer = SessionStateTransferHandlers.set_transfer_session_state_on_switch_func
clear_transfer = SessionStateTransferHandlers.reset_transfer_session_state_on_switch_func


class Handler:
    """A plain function that notes what it was given."""

    def __init__(self, returns: Any = None, raises: Exception | None = None) -> None:
        self.returns, self.raises, self.calls = returns, raises, []

    def __call__(self, state: Any, connection: Any) -> Any:
        self.calls.append(({name: str(s) for name, s in state.items()}, connection))
        if self.raises:
            raise self.raises
        return self.returns


CHANGED = ("autocommit", "read_only")


def changed(driver: DriverUnderTest, connection: Any) -> Any:
    for setting in CHANGED:
        if driver.has(setting):
            driver.set(connection, setting, True)
    return connection


# --- reset ------------------------------------------------------------------------------------------------------


def test_a_reset_handler_that_does_it_all(driver: DriverUnderTest, connect, site, proxy: Proxy, spans) -> None:
    connection = changed(driver, connect(site.dsn(proxy)))
    set_reset(handler := Handler(returns=True))
    proxy.clear()
    driver.close(connection)
    ((state, given),) = handler.calls
    assert given is connection
    (setting, *_) = (name for name in CHANGED if name in driver.changed)
    before, after = (driver.told(setting, value) for value in (False, True))
    assert state[driver.named(setting)] == f"{driver.named(setting)}: {before} -> {after}"
    assert site.none_left()
    assert not driver.was_reset(connection, proxy.seen("client"))  # the built-in logic was skipped
    (span,) = spans.named("session_state.reset")
    assert span.attributes["instrumented_wrapper.handled_by"] == "custom"


@pytest.mark.parametrize("returns", [False, None, 0])
def test_after_a_reset_handler_that_does_not(
    driver: DriverUnderTest, connect, site, proxy: Proxy, spans, returns: Any
) -> None:
    connection = changed(driver, connect(site.dsn(proxy)))
    set_reset(handler := Handler(returns))
    proxy.clear()
    driver.close(connection)
    assert len(handler.calls) == 1
    assert site.none_left()
    assert driver.was_reset(connection, proxy.seen("client"))
    (span,) = spans.named("session_state.reset")
    assert span.attributes["instrumented_wrapper.handled_by"] == "default"


def test_a_reset_handler_that_raises_prevents_no_close(driver: DriverUnderTest, connect, spans, site, caplog) -> None:
    connection = changed(driver, connect())
    set_reset(Handler(raises=LookupError("no such thing")))
    with caplog.at_level(logging.WARNING):
        driver.close(connection)
    assert driver.is_closed(connection)
    assert site.none_left()
    assert any("LookupError" in record.getMessage() for record in caplog.records)
    (span,) = spans.named("session_state.reset")
    assert span.attributes["error.type"] == "LookupError"


def test_a_pool_discards_what_a_reset_handler_could_not_reset(driver: DriverUnderTest, pool, site, caplog) -> None:
    opened = pool()
    connection = changed(driver, driver.take(opened))
    ((session,),) = driver.execute(connection, site.session_id)
    set_reset(Handler(raises=LookupError()))
    driver.give_back(opened, connection)
    clear_reset()
    following = driver.take(opened)
    assert driver.get(following, "autocommit") is False
    driver.set(following, "autocommit", True)
    ((other,),) = driver.execute(following, site.session_id)
    assert session != other
    assert site.only_session_is(other)
    driver.give_back(opened, following)


def test_a_pool_keeps_a_connection_of_which_a_reset_handler_reset_a_part(driver: DriverUnderTest, pool, site) -> None:
    opened = pool()
    connection = changed(driver, driver.take(opened))
    before = driver.execute(connection, site.session_id)
    driver.rollback(connection)
    set_reset(driver.callback(Callback({"autocommit": False}, returns=False)))
    driver.give_back(opened, connection)
    clear_reset()
    following = driver.take(opened)
    assert driver.execute(following, site.session_id) == before
    driver.rollback(following)
    assert driver.get(following, "autocommit") is False
    driver.give_back(opened, following)


@pytest.mark.parametrize("pooled", [False, True])
def test_a_reset_handler_runs_with_nothing_changed(driver: DriverUnderTest, connect, pool, pooled: bool) -> None:
    set_reset(handler := Handler())
    if pooled:
        opened = pool()
        connection = driver.take(opened)
        driver.give_back(opened, connection)
        assert [given for _, given in handler.calls] == [connection]
        assert driver.take(opened) is connection
        driver.give_back(opened, connection)
    else:
        given = driver.given(connection := connect())
        driver.close(connection)
        assert handler.calls == [({}, given)]


def test_no_reset_handler_runs_where_reset_is_off(driver: DriverUnderTest, connect) -> None:
    set_reset(handler := Handler())
    driver.close(changed(driver, connect(reset_session_state_on_close=False)))
    assert handler.calls == []


def test_clearing_really_clears_and_setting_replaces(driver: DriverUnderTest, connect, site) -> None:
    set_reset(first := Handler())
    set_reset(second := Handler())
    driver.close(connect())
    clear_reset()
    driver.close(connect())
    assert (len(first.calls), len(second.calls)) == (0, 1)
    set_transfer(first := Handler())
    set_transfer(second := Handler())
    connection = connect()
    driver.verb("switch")(connection)
    clear_transfer()
    driver.verb("switch")(connection)
    assert (len(first.calls), len(second.calls)) == (0, 1)


def test_what_a_reset_handler_changes_is_not_recorded(driver: DriverUnderTest, pool, spans) -> None:
    opened = pool()
    connection = driver.take(opened)
    driver.set(connection, "read_only", True)
    spans.clear()
    name, value = driver.another
    what = Callback({name: value}, returns=True)
    set_reset(driver.callback(what))
    driver.give_back(opened, connection)
    assert len(what.calls) == 1
    assert name not in session_state(connection)
    assert spans.named("session_state.pristine_fetch") == []


def test_a_reset_handler_may_use_the_connection(driver: DriverUnderTest, pool, site, table) -> None:
    opened = pool()
    connection = driver.take(opened)
    driver.set(connection, "autocommit", True)
    set_reset(driver.callback(Callback(statement=f"INSERT INTO {table} VALUES (1)")))
    driver.give_back(opened, connection)
    clear_reset()
    assert site.ids(table) == [1]
    assert driver.take(opened) is connection  # it was fit for the pool
    assert driver.get(connection, "autocommit") is False
    driver.give_back(opened, connection)


def test_a_reset_handler_has_one_second(driver: DriverUnderTest, connect, site, caplog) -> None:
    connection = changed(driver, connect())
    set_reset(driver.callback(Callback(statement=site.slow)))
    driver.close(connection)
    assert "session reset failed" in caplog.text  # not waited for: it would be a minute
    assert driver.is_closed(connection)


def test_a_close_whose_handler_is_interrupted_closes(driver: DriverUnderTest, connect, site) -> None:
    connection = connect()
    what = Callback(raises=asyncio.CancelledError() if driver.is_async else KeyboardInterrupt())
    set_reset(driver.callback(what))
    with pytest.raises((CancelledError, asyncio.CancelledError, KeyboardInterrupt)):
        driver.close(connection)
    clear_reset()
    assert driver.is_closed(connection)
    assert site.none_left()


def test_a_reset_handler_that_closes_is_called_once(driver: DriverUnderTest, connect, site) -> None:
    connection = changed(driver, connect())
    set_reset(driver.callback(what := Callback(closes=True)))
    driver.close(connection)
    assert len(what.calls) == 1
    assert driver.is_closed(connection)
    assert site.none_left()


def test_a_reset_handler_that_resets_is_called_once(driver: DriverUnderTest, connect, site) -> None:
    connection = connect()
    calls = []

    def resets(state: Any, given: Any) -> Any:
        calls.append(given)  # of aiosqlite the connection below, which blocks
        return (reset_session_async if driver.is_async and given is connection else reset_session)(given)

    set_reset(resets)
    driver.close(connection)
    assert len(calls) == 1
    assert driver.is_closed(connection)
    assert site.none_left()


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_an_awaitable_on_a_sync_connection_is_an_error(driver: DriverUnderTest, connect, spans, caplog) -> None:
    if driver.is_async:
        pytest.skip("for sync connections")

    async def handler(state: Any, connection: Any) -> bool:
        return True

    connection = changed(driver, connect())
    set_reset(handler)
    driver.close(connection)
    (span,) = spans.named("session_state.reset")
    assert span.attributes["error.type"] == "TypeError"
    set_transfer(handler)
    with pytest.raises(FailoverFailedError):
        driver.verb("switch")(connect())


def test_an_awaitable_is_awaited_on_an_async_connection(driver: DriverUnderTest, connect, spans) -> None:
    if not driver.is_async:
        pytest.skip("for async connections")
    driver.needs("awaited handlers")
    connection = changed(driver, connect())
    set_reset(driver.callback(what := Callback(returns=False)))
    driver.close(connection)
    assert len(what.calls) == 1
    if driver.has("settings without a round trip"):  # which can be read of what is closed
        assert driver.get(connection, "autocommit") is False  # an un-awaited coroutine would be true
    set_transfer(driver.callback(what := Callback(returns=False)))
    connection = changed(driver, connect())
    driver.verb("switch")(connection)
    assert len(what.calls) == 1
    assert all(driver.get(connection, setting) is True for setting in CHANGED)


# --- transfer ---------------------------------------------------------------------------------------------------


def test_a_transfer_handler_that_does_it_all(driver: DriverUnderTest, connect, site, spans) -> None:
    connection = changed(driver, connect())
    ((session,),) = driver.execute(connection, site.session_id)
    what = Callback({"isolation_level": driver.changed["isolation_level"], "autocommit": True}, returns=True)
    set_transfer(driver.callback(what))
    site.end_sessions()
    ((new,),) = driver.execute(connection, site.session_id)
    assert new != session
    ((_, given),) = what.calls
    assert given is not connection  # the new one, before the app can see it
    left = {name: driver.get(connection, name) for name in driver.default}
    assert left == {**driver.default, **{n: value for n, value in what.changes.items() if n in driver.default}}
    state = driver.known(connection)  # read anew; what the handler did is not the app's doing
    assert {name: value for name, (_, value) in state.items()} == {name: left[name] for name in CHANGED if name in left}
    (span,) = spans.named("session_state.transfer")
    assert span.attributes["instrumented_wrapper.handled_by"] == "custom"


def test_after_a_transfer_handler_that_does_not(driver: DriverUnderTest, connect, site) -> None:
    connection = changed(driver, connect())
    name, value = driver.another
    set_transfer(driver.callback(what := Callback({"read_only": False, name: value}, returns=False)))
    site.end_sessions()
    driver.execute(connection, "SELECT 1")
    assert len(what.calls) == 1
    assert (driver.get(connection, "autocommit"), driver.get(connection, "read_only")) == (True, True)
    assert driver.get(connection, name) == value  # what a handler leaves is what the app has
    assert set(driver.known(connection)) == {name for name in CHANGED if name in driver.changed}


def test_a_transfer_handler_runs_with_nothing_changed(driver: DriverUnderTest, connect, site, spans) -> None:
    set_transfer(handler := Handler())
    connection = connect()
    site.end_sessions()
    driver.execute(connection, "SELECT 1")
    ((state, _),) = handler.calls
    assert state == {}
    assert len(spans.named("session_state.transfer")) == 1


def test_a_transfer_handler_that_raises_fails_the_switch(driver, connect, site, spans, measured) -> None:
    connection = changed(driver, connect())
    cursor = driver.cursor(connection)
    set_transfer(Handler(raises=LookupError()))
    site.end_sessions()
    with pytest.raises(FailoverFailedError) as caught:
        driver.execute_on(cursor, "SELECT 1")
    assert isinstance(caught.value, driver.operational_error)
    assert driver.is_closed(connection)
    assert site.none_left()
    failed = [span.name for span in spans.all() if not span.status.is_ok]
    assert failed == ["session_state.transfer", "failover", "SELECT"]
    (transfer,) = spans.named("session_state.transfer")
    assert {event.attributes["outcome"] for event in transfer.events if event.name == "setting"} == {"failed"}
    entries = {event.attributes["name"] for event in transfer.events if event.name == "setting"}
    assert entries == {*transfer.attributes["instrumented_wrapper.settings"]} != set()
    assert transfer.attributes["error.type"] == "LookupError"
    lost = [key for key in measured.new("settings") if ("instrumented_wrapper.outcome", "failed") in key]
    assert len(lost) == len(entries)


@pytest.mark.parametrize("returns", [False, True])
def test_a_transfer_handler_that_closes_the_connection_fails_the_switch_at_once(
    driver: DriverUnderTest, connect, site, returns: bool
) -> None:
    """It would close each new one."""
    connection = changed(driver, connect())
    set_transfer(driver.callback(what := Callback(closes=True, returns=returns)))
    site.end_sessions()
    with pytest.raises(FailoverFailedError, match="the transfer handler called close"):
        driver.execute(connection, "SELECT 1")
    assert len(what.calls) == 1
    assert driver.is_closed(connection)
    assert site.none_left()


@pytest.mark.parametrize("planned", [False, True])
def test_a_transfer_handler_that_closes_the_connection_of_the_app_fails_the_switch(
    driver: DriverUnderTest, connect, site, planned: bool
) -> None:
    connection = changed(driver, connect())
    close = driver.callback(Callback(closes=True))
    set_transfer(lambda state, new: close(connection))
    if not planned:
        site.end_sessions()
    with pytest.raises(FailoverError):
        driver.verb("switch")(connection) if planned else driver.execute(connection, "SELECT 1")
    assert driver.is_closed(connection)
    assert site.none_left()


def test_a_planned_switch_whose_handler_raises_moves_nothing(driver: DriverUnderTest, connect, site) -> None:
    connection = connect(autocommit=True)
    before = driver.execute(connection, site.session_id)
    set_transfer(Handler(raises=LookupError()))
    with pytest.raises(driver.operational_error):
        driver.verb("switch")(connection)
    assert driver.execute(connection, site.session_id) == before
    assert site.only_session_is(before[0][0])


def test_a_transfer_handler_that_leaves_an_aborted_transaction_fails_the_switch(
    driver: DriverUnderTest, connect, site, table
) -> None:
    """The app's statement would run in a transaction that is not its own."""
    driver.needs("aborted transactions")
    connection = connect(autocommit=True)
    set_transfer(driver.callback(Callback(statement="BEGIN; DO $$ BEGIN PERFORM 1/0; END $$", returns=True)))
    site.end_sessions()
    with pytest.raises(FailoverFailedError) as caught:
        driver.execute(connection, insert(table, 1))
    assert (caught.value.transaction, caught.value.may_have_run) == ("none", False)
    assert driver.is_closed(connection)
    assert site.none_left()
    assert site.ids(table) == []


def test_no_transfer_handler_runs_where_transfer_is_off(driver: DriverUnderTest, connect, site) -> None:
    set_transfer(handler := Handler())
    connection = connect(transfer_session_state_on_switch=False)
    driver.verb("switch")(connection)
    assert handler.calls == []


@pytest.mark.parametrize("planned", [False, True])
def test_with_transfer_off_it_is_at_its_baseline(driver: DriverUnderTest, connect, site, planned: bool) -> None:
    connection = connect(autocommit=True, transfer_session_state_on_switch=False)
    if driver.has("autocommit as a setting"):
        driver.set(connection, "autocommit", False)
    driver.set(connection, "read_only", True)
    if planned:
        driver.verb("switch")(connection)
    else:
        site.end_sessions()
    ((session,),) = driver.execute(connection, site.session_id)
    assert dict(session_state(connection)) == {}
    assert driver.get(connection, "autocommit") is True
    assert driver.get(connection, "read_only") == driver.default["read_only"]
    assert site.state_of(session) == "idle"


def test_what_is_no_function_is_refused(driver: DriverUnderTest) -> None:
    for setter in (set_reset, set_transfer):
        with pytest.raises(TypeError):
            setter("function")


@pytest.mark.parametrize("returns", [False, True])
@pytest.mark.parametrize("autocommit", [False, True])
def test_what_a_transfer_handler_sets_and_the_server_reports(
    driver: DriverUnderTest, connect, site, spans, returns: bool, autocommit: bool
) -> None:
    """It is what the connection has afterwards, and nothing that the app has changed: no reset is due."""
    connection = connect(autocommit=autocommit)
    set_transfer(driver.callback(Callback(statement=site.sets_reported, returns=returns)))
    site.end_sessions()
    assert driver.execute(connection, site.shows_reported) == [(site.reported,)]
    driver.rollback(connection)
    assert dict(session_state(connection)) == {}
    assert driver.execute(connection, site.shows_reported) == [(site.reported,)]
    driver.rollback(connection)
    spans.clear()
    driver.close(connection)
    assert spans.named("session_state.reset") == []


def test_what_the_app_sets_after_a_transfer_handler_is_its_own(driver: DriverUnderTest, connect, site) -> None:
    connection = connect(autocommit=True)
    set_transfer(driver.callback(Callback(statement=site.sets_reported)))
    site.end_sessions()
    driver.execute(connection, "SELECT 1")
    driver.execute(connection, site.sets_reported.replace(site.reported, site.reported_otherwise))
    (state,) = session_state(connection).values()
    assert (state.value, state.is_pristine) == (site.reported_otherwise, False)
    assert driver.verb("reset_session")(connection)
    assert session_state(connection)[state.name].is_pristine
    assert driver.execute(connection, site.shows_reported) != [(site.reported_otherwise,)]
