"""Handlers that go astray: leave an error behind, close or reset what they are given, raise."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from instrumented_wrapper import (
    FailoverFailedError,
    SessionStateTransferHandlers,
    reset_session,
    reset_session_async,
    switch,
    switch_async,
)

from ..side import Side, done, inside, rows
from ..watch import Watch, eventually

Handlers = SessionStateTransferHandlers
NAME = "astray"


@pytest.mark.parametrize("autocommit", [False, True])
async def test_transfer_handler_that_leaves_an_aborted_transaction(side: Side, watch: Watch, autocommit: bool) -> None:
    """What it was to do is not done: the switch fails, rather than the app's statement in a transaction not its own."""

    async def fail(state: Any, connection: Any) -> bool:
        await done(connection.execute("BEGIN"))
        with suppress(psycopg.errors.DivisionByZero):
            await done(connection.execute("SELECT 1/0"))
        return True

    connection = await side.connect(watch.dsn(application_name=NAME), autocommit=autocommit)
    Handlers.set_transfer_session_state_on_switch_func(side.callback(fail))
    watch.end_sessions()
    with pytest.raises(FailoverFailedError) as told:
        await done(connection.execute(watch.insert("one")))
    assert (told.value.transaction, told.value.may_have_run) == ("none", False)
    assert connection.closed
    assert eventually(lambda: not watch.sessions(NAME))
    assert watch.words() == []


async def close(side: Side, connection: Any) -> None:
    await done(connection.close())


async def leave_its_block(side: Side, connection: Any) -> None:
    async with inside(connection):
        await done(connection.execute("SELECT 1"))


async def reset(side: Side, connection: Any) -> None:
    await done((reset_session_async if side.is_async else reset_session)(connection))


@pytest.mark.parametrize("deed", [close, leave_its_block, reset])
async def test_reset_handler_that_closes_or_resets(side: Side, watch: Watch, deed: Any) -> None:
    """It is not called again while it runs."""
    calls = []

    async def act(state: Any, connection: Any) -> bool:
        calls.append(connection)
        if len(calls) < 5:
            await deed(side, connection)
        return True

    connection = await side.connect(watch.dsn(application_name=NAME))
    Handlers.set_reset_session_state_on_close_func(side.callback(act))
    await done(connection.close())
    assert calls == [connection]
    assert connection.closed
    assert eventually(lambda: not watch.sessions(NAME))


@pytest.fixture
def failed(request: pytest.FixtureRequest) -> Callable[[], int]:
    """Return what counts transferred values of `autocommit` that failed, in the whole run."""
    plugins = request.config.pluginmanager.get_plugins()
    reader = next(plugin.READER for plugin in plugins if hasattr(plugin, "READER"))
    wanted = {"operation": "transfer", "setting": "autocommit", "outcome": "failed"}

    def count() -> int:
        points = json.loads(reader.get_metrics_data().to_json())["resource_metrics"][0]["scope_metrics"]
        metrics = [metric for scope in points for metric in scope["metrics"] if metric["name"].endswith(".settings")]
        found = [point for metric in metrics for point in metric["data"]["data_points"]]
        return sum(point["value"] for point in found if wanted.items() <= _short(point["attributes"]).items())

    return count


def _short(attributes: Any) -> dict[str, Any]:
    return {name.rpartition(".")[2]: value for name, value in attributes.items()}


async def test_transfer_handler_that_raises_is_told_in_full(
    side: Side, watch: Watch, spans: Any, failed: Callable[[], int]
) -> None:
    """Each setting is an event of the span and counted, as it is where the wrapper's own transfer fails."""

    async def fail(state: Any, connection: Any) -> bool:
        raise ValueError("not told")

    connection = await side.connect(watch.dsn())
    await done(connection.set_autocommit(True))
    before = failed()
    Handlers.set_transfer_session_state_on_switch_func(side.callback(fail))
    with pytest.raises(psycopg.OperationalError):
        await done((switch_async if side.is_async else switch)(connection))
    [span] = spans.named("session_state.transfer")
    told = {(event.name, event.attributes["name"], event.attributes["outcome"]) for event in span.events}
    assert ("setting", "autocommit", "failed") in told
    assert span.attributes["error.type"] == "ValueError"
    assert span.attributes["instrumented_wrapper.settings"] == ("autocommit",)
    assert {"handled_by", "not_restored", "round_trips"} <= _short(span.attributes).keys()
    assert "not told" not in span.to_json()
    assert failed() == before + 1


async def test_planned_switch_whose_handler_raises_moves_nothing(side: Side, watch: Watch) -> None:
    """A planned switch that fails leaves the app where it was."""

    async def fail(state: Any, connection: Any) -> bool:
        raise ValueError

    connection = await side.connect(watch.dsn(), autocommit=True)
    [before] = await rows(connection, "SELECT pg_backend_pid()")
    Handlers.set_transfer_session_state_on_switch_func(side.callback(fail))
    with pytest.raises(psycopg.OperationalError):
        await done((switch_async if side.is_async else switch)(connection))
    assert await rows(connection, "SELECT pg_backend_pid()") == [before]
