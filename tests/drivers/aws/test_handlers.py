"""Handlers of this package and of the driver, and the options of the same names."""

from __future__ import annotations

from typing import Any

import pytest
from aws_advanced_python_wrapper.aio.session_state import AsyncSessionStateTransferHandlers
from aws_advanced_python_wrapper.errors import FailoverSuccessError
from aws_advanced_python_wrapper.states.session_state_service import (
    SessionStateTransferHandlers as SyncSessionStateTransferHandlers,
)

import instrumented_wrapper
from instrumented_wrapper import FailoverFailedError, SessionStateTransferHandlers, session_state
from tests.drivers.aws.app import SPLITTING, App
from tests.drivers.side import done


def own_handlers(app: App) -> Any:
    """Return where the driver's own handlers are set."""
    return AsyncSessionStateTransferHandlers if app.is_async else SyncSessionStateTransferHandlers


async def lose(app: App, connection: Any, error: type[Exception] = FailoverSuccessError) -> None:
    app.pair.failover()
    with pytest.raises(error):
        await app.execute(connection, "SELECT 1")


async def set_to(app: App, connection: Any) -> None:
    """Set the last setting as a handler does it: on the driver's connection."""
    cursor = connection.cursor()
    cursor = await cursor if hasattr(cursor, "__await__") else cursor
    await done(cursor.execute(app.other_text))
    await done(cursor.close())


@pytest.mark.parametrize("of_driver", [False, True])
@pytest.mark.parametrize("handled", [True, False])
async def test_a_transfer_handler_is_called_with_the_new_connection(app, spans, of_driver, handled):
    seen: list[tuple[Any, int]] = []

    def handler(state: Any, connection: Any) -> bool:
        seen.append((str(state), id(connection)))
        return handled

    where = own_handlers(app) if of_driver else SessionStateTransferHandlers
    where.set_transfer_session_state_on_switch_func(app.callback(handler))
    connection = await app.connect()
    before = await app.on_server(connection)
    await app.set_up(connection)
    spans.clear()
    await lose(app, connection)
    assert [number for _, number in seen] == [id(connection.target_connection)]
    (transfer,) = spans.named("session_state.transfer")
    assert transfer.attributes["instrumented_wrapper.handled_by"] == ("custom" if handled else "default")
    assert await app.on_server(connection) == (before if handled else app.wanted())
    if not of_driver:
        assert all(name in seen[0][0] for name in app.settings)


async def test_what_a_handler_leaves_is_what_the_connection_has(app):
    async def waiting(state: Any, connection: Any) -> bool:
        await set_to(app, connection)
        return True

    def blocking(state: Any, connection: Any) -> bool:
        cursor = connection.cursor()
        cursor.execute(app.other_text)
        cursor.close()
        return True

    SessionStateTransferHandlers.set_transfer_session_state_on_switch_func(waiting if app.is_async else blocking)
    connection = await app.connect()
    await app.set_up(connection)
    await lose(app, connection)
    assert str((await app.on_server(connection, app.settings[1]))[app.settings[1]]) == app.other_value
    assert str(session_state(connection)[app.settings[1]].value) == app.other_value
    assert session_state(connection)[app.settings[0]].is_pristine


async def test_both_handlers_are_called_until_one_has_done_it(app):
    called: list[str] = []

    def handler(name: str, handled: bool) -> Any:
        return app.callback(lambda state, connection: called.append(name) or handled)

    SessionStateTransferHandlers.set_transfer_session_state_on_switch_func(handler("ours", False))
    own_handlers(app).set_transfer_session_state_on_switch_func(handler("theirs", False))
    connection = await app.connect(SPLITTING)
    await app.set_read_only(connection, True)
    assert called == ["ours", "theirs"]
    SessionStateTransferHandlers.set_transfer_session_state_on_switch_func(handler("ours", True))
    await app.set_read_only(connection, False)
    assert called == ["ours", "theirs", "ours"]


async def test_a_handler_that_raises_lets_the_switch_fail(app, spans):
    def handler(state: Any, connection: Any) -> bool:
        raise ValueError("no")

    connection = await app.connect()
    await app.set_up(connection)
    SessionStateTransferHandlers.set_transfer_session_state_on_switch_func(app.callback(handler))
    app.pair.failover()
    with pytest.raises(FailoverFailedError, match="the transfer handler raised ValueError") as raised:
        await app.execute(connection, "SELECT 1")
    assert type(raised.value).__mro__[1].__module__.partition(".")[0] in ("psycopg", "mysql", "pymysql")
    (failover,) = spans.named("failover")
    assert failover.attributes["instrumented_wrapper.outcome"] == "failed"


async def test_a_handler_that_raises_leaves_the_app_on_the_writer(app):
    def handler(state: Any, connection: Any) -> bool:
        raise ValueError("no")

    connection = await app.connect(SPLITTING)
    await app.set_up(connection)
    SessionStateTransferHandlers.set_transfer_session_state_on_switch_func(app.callback(handler))
    await app.set_read_only(connection, True)  # the driver logs that it stays where it is
    assert await app.port(connection) == app.pair.primary.port
    assert await app.on_server(connection) == app.wanted()


@pytest.mark.parametrize("of_driver", [False, True])
async def test_a_reset_handler_is_called_once_when_the_app_closes(app, of_driver):
    called: list[int] = []
    where = own_handlers(app) if of_driver else SessionStateTransferHandlers
    where.set_reset_session_state_on_close_func(app.callback(lambda state, held: called.append(id(held)) or True))
    connection = await app.connect()
    held = id(connection.target_connection)
    await app.set_up(connection)
    await done(connection.close())
    assert called == [held]


async def test_with_transfer_off_the_new_connection_is_at_its_baseline(app, spans):
    connection = await app.connect(transfer_session_state_on_switch=False)
    before = await app.on_server(connection)
    await app.set_up(connection)
    spans.clear()
    await lose(app, connection)
    assert await app.on_server(connection) == before
    assert len(session_state(connection)) == 0
    assert not spans.named("session_state.transfer")
    (failover,) = spans.named("failover")
    assert failover.attributes["instrumented_wrapper.trigger"] == "aws"


async def test_with_reset_off_a_close_resets_nothing(app, spans):
    connection = await app.connect(reset_session_state_on_close=False)
    await app.set_up(connection)
    await done(connection.close())
    assert not spans.named("session_state.reset")


async def test_a_close_resets(app, spans):
    """Seen on the server where the driver's connection outlives its close: a pool's does."""
    connection = await app.connect()
    await app.set_up(connection)
    await done(connection.close())
    (reset,) = spans.named("session_state.reset")
    assert reset.attributes["instrumented_wrapper.trigger"] == "close"
    assert set(reset.attributes["instrumented_wrapper.settings"]) >= set(app.settings)


async def test_options_of_this_package_reach_it(app, spans):
    connection = await app.connect(instrumented_wrapper={"capture_values": True, "query_spans": "off"})
    await app.set_up(connection)
    assert {span.name for span in spans.all()} == {"session_state.pristine_fetch"}
    await lose(app, connection)
    (transfer,) = spans.named("session_state.transfer")
    assert str(app.wanted(app.settings[1])[app.settings[1]]) in {event.attributes["after"] for event in transfer.events}


async def test_failover_of_our_own_stays_off(app, spans):
    hosts = app.pair.hosts()
    connection = await app.connect(instrumented_wrapper={"failover": "on", "failover_hosts": hosts})
    await app.set_up(connection)
    spans.clear()
    await lose(app, connection)
    assert await app.on_server(connection) == app.wanted()
    (failover,) = spans.named("failover")
    assert failover.attributes["instrumented_wrapper.trigger"] == "aws"


async def test_a_loss_that_no_plugin_repairs_is_reported(app, spans):
    connection = await app.connect("")
    cursor = connection.cursor()
    await done(cursor.execute("SELECT 1"))
    await done(cursor.fetchall())
    app.pair.primary.kill()
    with pytest.raises(app.error) as raised:
        await done(cursor.execute("SELECT 1"))
    assert not isinstance(raised.value, instrumented_wrapper.FailoverError)
    (failover,) = spans.named("failover")
    assert failover.attributes["instrumented_wrapper.outcome"] == "failed"
    assert failover.attributes["instrumented_wrapper.attempts"] == 0
