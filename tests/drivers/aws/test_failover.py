"""Its failover plugin moves a connection to the new primary: the session is there before the app's next statement."""

from __future__ import annotations

import pytest
from aws_advanced_python_wrapper.errors import FailoverSuccessError, TransactionResolutionUnknownError

from instrumented_wrapper import session_state
from tests.drivers.aws.app import App


async def lose(app: App, connection, error=FailoverSuccessError) -> None:
    """Kill the primary, promote the standby, and meet that with a statement."""
    app.pair.failover()
    with pytest.raises(error):
        await app.execute(connection, "SELECT 1")


async def test_the_session_is_on_the_new_primary(app):
    connection = await app.connect()
    await app.set_up(connection)
    before = await app.port(connection)
    await lose(app, connection)
    assert await app.port(connection) != before
    assert await app.on_server(connection) == app.wanted()


async def test_one_failover_span_with_its_transfer(app, spans):
    connection = await app.connect()
    await app.set_up(connection)
    spans.clear()
    old = app.pair.primary
    await lose(app, connection)
    (failover,), (transfer,) = spans.named("failover"), spans.named("session_state.transfer")
    told = failover.attributes
    assert told["instrumented_wrapper.trigger"] == "aws"
    assert told["instrumented_wrapper.outcome"] == "success"
    assert told["instrumented_wrapper.transaction"] == "none"
    asks_at_cursor = app.driver == "mysql.connector"  # its `cursor()` pings the server: the statement was not sent
    assert told["instrumented_wrapper.may_have_run"] is not asks_at_cursor
    assert told["instrumented_wrapper.previous.port"] == old.port
    assert told["server.port"] == app.pair.primary.port
    assert transfer.parent.span_id == failover.context.span_id
    assert transfer.attributes["instrumented_wrapper.round_trips"] == 1
    assert set(transfer.attributes["instrumented_wrapper.settings"]) >= set(app.settings)
    fetched = [s.attributes["instrumented_wrapper.setting"] for s in spans.named("session_state.pristine_fetch")]
    assert set(fetched) >= set(app.settings)


async def test_the_session_state_is_that_of_the_new_connection(app):
    connection = await app.connect()
    await app.set_up(connection)
    await lose(app, connection)
    state = session_state(connection)
    assert {str(state[name].value) for name in app.settings} == {str(value) for value in app.wanted().values()}
    assert not any(state[name].is_pristine for name in app.settings)


async def test_nothing_that_the_driver_asks_for_itself_has_a_span(app, spans):
    connection = await app.connect()
    await lose(app, connection)
    await app.execute(connection, "SELECT 41 + 1")
    texts = [span.attributes["db.query.text"] for span in spans.all() if "db.query.text" in span.attributes]
    assert texts in (["SELECT ?", "SELECT ? + ?"], ["SELECT ? + ?"])  # the first one where it was sent


async def test_a_lost_transaction_is_what_the_driver_makes_of_it(app, spans):
    connection = await app.connect(autocommit=False)
    await app.execute(connection, "START TRANSACTION" if not app.is_postgresql else "SELECT 1")
    await app.set_up(connection, *app.settings[:1])
    app.pair.failover()
    with pytest.raises(TransactionResolutionUnknownError):
        await app.execute(connection, "SELECT 2")
    (failover,) = spans.named("failover")
    assert failover.attributes["instrumented_wrapper.transaction"] == "rolled_back"
    undone = app.is_postgresql  # elsewhere a rollback leaves alone what was set
    found = await app.on_server(connection, app.settings[0])
    assert (found != app.wanted(app.settings[0])) is undone


async def test_two_failovers_in_a_row(app):
    connection = await app.connect()
    await app.set_up(connection)
    await lose(app, connection)
    app.pair.rejoin()
    await lose(app, connection)
    assert await app.on_server(connection) == app.wanted()
