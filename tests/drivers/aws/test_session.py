"""What cannot follow, what the server says afterwards, and what is left of the driver's own doings."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import Any

import pytest
from aws_advanced_python_wrapper.errors import FailoverSuccessError

from instrumented_wrapper import verify_session, verify_session_async
from tests.drivers.aws.app import SPLITTING, App


async def lose(app: App, connection: Any, text: str = "SELECT 1") -> None:
    app.pair.failover()
    with pytest.raises(FailoverSuccessError):
        await app.execute(connection, text)


async def differences(app: App, connection: Any) -> dict[str, Any]:
    return await verify_session_async(connection) if app.is_async else verify_session(connection)


async def test_what_cannot_be_carried_is_in_a_warning_and_the_span(app, spans, caplog):
    connection = await app.connect()
    await app.execute(connection, "CREATE TEMPORARY TABLE passing (id int)")
    spans.clear()
    with caplog.at_level(logging.WARNING, "instrumented_wrapper"):
        await lose(app, connection)
    (transfer,) = spans.named("session_state.transfer")
    assert transfer.attributes["instrumented_wrapper.not_restored"] == ("temporary tables",)
    (warning,) = [r.getMessage() for r in caplog.records if r.name == "instrumented_wrapper"]
    assert warning == f"the session was moved to 127.0.0.1:{app.pair.primary.port} without temporary tables"


async def test_the_server_agrees_after_a_failover_and_switches(app):
    connection = await app.connect(SPLITTING)
    await app.set_up(connection)
    for number in range(4):
        await app.set_read_only(connection, number % 2 == 0)
        assert await differences(app, connection) == {}
    await lose(app, connection)
    assert await app.on_server(connection) == app.wanted()
    assert await differences(app, connection) == {}


async def test_a_demoted_writer_is_left_with_the_session(app, spans):
    """Its connection is healthy: the driver closes it, which resets, and moves on."""
    connection = await app.connect()
    await app.execute(connection, "CREATE TABLE IF NOT EXISTS written (id int)")
    await app.set_up(connection)
    spans.clear()
    app.pair.switchover()
    with pytest.raises(FailoverSuccessError):
        await app.execute(connection, "INSERT INTO written VALUES (1)")
    assert await app.port(connection) == app.pair.primary.port
    assert await app.on_server(connection) == app.wanted()
    (failover,) = spans.named("failover")
    assert failover.attributes["instrumented_wrapper.trigger"] == "aws"


async def test_an_answer_that_is_lost_in_a_reader(app):
    """A failover while the app is on the reader: it goes on where the driver brings it, with its session."""
    connection = await app.connect(SPLITTING, failover_mode="reader_or_writer")
    await app.set_up(connection)
    await app.set_read_only(connection, True)
    app.pair.standby.kill()
    with pytest.raises(FailoverSuccessError):
        await app.execute(connection, "SELECT 1")
    assert await app.on_server(connection) == app.wanted()


async def test_connections_at_the_same_time_do_not_mix(app):
    """Each has a session of its own, also where all are lost together."""
    if app.is_async:
        pytest.skip("of threads")
    connections = [await app.connect() for _ in range(4)]
    for connection, name in zip(connections, [*app.settings, None], strict=True):
        if name is not None:
            await app.set_up(connection, name)
    before = await app.on_server(connections[-1])
    app.pair.failover()
    errors: list[type[BaseException]] = []

    def meet(connection: Any) -> None:
        try:
            connection.cursor().execute("SELECT 1")
        except Exception as error:
            errors.append(type(error))

    threads = [threading.Thread(target=meet, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [FailoverSuccessError] * len(connections)
    for connection, name in zip(connections, [*app.settings, None], strict=True):
        wanted = before if name is None else {**before, **app.wanted(name)}
        assert await app.on_server(connection) == wanted


async def test_the_metric_counts_the_apps_session_only(app, reader):
    """Neither the monitors' connections, nor the one that the driver keeps for the way back."""
    connection = await app.connect(SPLITTING)
    before = restorable(reader)
    await app.set_read_only(connection, True)
    assert restorable(reader) == before
    assert ("true", "none") in before
    await app.execute(await app.connect(""), "SELECT 1")
    assert ("false", "failover_off") in restorable(reader)


def restorable(reader: Any) -> dict[tuple[str, str], int]:
    data = reader.get_metrics_data()
    metrics = [metric for scope in data.resource_metrics[0].scope_metrics for metric in scope.metrics]
    (sessions,) = (metric for metric in metrics if metric.name == "instrumented_wrapper.sessions")
    counted: Counter[tuple[str, str]] = Counter()
    for point in sessions.data.data_points:
        counted[point.attributes[f"{OURS}restorable"], point.attributes[f"{OURS}reason"]] += point.value
    return {kind: number for kind, number in counted.items() if number}


OURS = "instrumented_wrapper."
