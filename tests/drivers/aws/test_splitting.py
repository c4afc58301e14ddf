"""Read/write splitting: `read_only` switches between two connections; each has pristine values of its own."""

from __future__ import annotations

from instrumented_wrapper import mark_pristine, mark_pristine_async, reset_session, reset_session_async, session_state
from tests.drivers.aws.app import SPLITTING, App
from tests.drivers.side import done


async def reset(app: App, connection) -> bool:
    return await reset_session_async(connection) if app.is_async else reset_session(connection)


async def test_values_follow_to_the_reader_and_back(app):
    connection = await app.connect(SPLITTING)
    first, *others = app.settings
    await app.set_up(connection, first)
    await app.set_read_only(connection, True)
    assert await app.port(connection) == app.pair.standby.port
    assert await app.on_server(connection, first) == app.wanted(first)
    await app.set_up(connection, *others)
    await app.set_read_only(connection, False)
    assert await app.port(connection) == app.pair.primary.port
    assert await app.on_server(connection) == app.wanted()


async def test_many_switches_stay_exact(app):
    connection = await app.connect(SPLITTING)
    before = await app.on_server(connection)
    for number in range(20):
        wanted = app.wanted() if number % 4 < 2 else before
        if number % 4 == 0:
            await app.set_up(connection)
        elif number % 4 == 2:
            assert await reset(app, connection)
        await app.set_read_only(connection, number % 2 == 0)
        assert await app.port(connection) == (app.pair.standby if number % 2 == 0 else app.pair.primary).port
        assert await app.on_server(connection) == wanted


async def test_each_connection_has_its_own_pristine_value(app):
    """The reader's server has another default: a reset there brings back that one."""
    name, value, text = app.own_default()
    with app.default_of(app.pair.standby, value):
        connection = await app.connect(SPLITTING)
        before = (await app.execute(connection, text))[0][0]
        await app.set_up(connection, name)
        await app.set_read_only(connection, True)
        assert await app.on_server(connection, name) == app.wanted(name)
        assert await reset(app, connection)
        assert str((await app.execute(connection, text))[0][0]) == value
        await app.set_read_only(connection, False)
        assert (await app.execute(connection, text))[0][0] == before


async def test_what_the_app_puts_back_is_put_back_on_the_other_one(app, spans):
    connection = await app.connect(SPLITTING)
    before = await app.on_server(connection)
    await app.set_up(connection)
    await app.set_read_only(connection, True)
    assert await reset(app, connection)
    spans.clear()
    await app.set_read_only(connection, False)
    assert await app.on_server(connection) == before
    (transfer,) = spans.named("session_state.transfer")
    assert transfer.attributes["instrumented_wrapper.round_trips"] == 1


async def test_a_switch_that_changes_nothing_sends_nothing(app, spans):
    connection = await app.connect(SPLITTING)
    await app.set_up(connection)
    await app.set_read_only(connection, True)
    spans.clear()
    await app.set_read_only(connection, False)
    await app.set_read_only(connection, True)
    trips = [s.attributes["instrumented_wrapper.round_trips"] for s in spans.named("session_state.transfer")]
    lives_on_server = app.driver == "aiomysql"  # read_only, which is carried before the driver sets it anew
    assert trips == ([1, 1] if lives_on_server else [0, 0])
    triggers = [s.attributes["instrumented_wrapper.trigger"] for s in spans.named("failover")]
    assert triggers == ["aws", "aws"]


async def test_the_verbs_take_the_drivers_connection(app):
    connection = await app.connect(SPLITTING)
    await app.set_up(connection)
    assert not session_state(connection)[app.settings[0]].is_pristine
    mark = mark_pristine_async if app.is_async else mark_pristine
    await done(mark(connection))
    assert session_state(connection)[app.settings[0]].is_pristine
    await app.set_read_only(connection, True)
    assert await app.on_server(connection) == app.wanted()
    assert await reset(app, connection)
    assert await app.on_server(connection) == app.wanted()  # the baseline now


async def test_autocommit_follows(app):
    connection = await app.connect(SPLITTING, autocommit=False)
    await app.set_autocommit(connection, True)
    await app.set_read_only(connection, True)
    assert app.autocommit(connection) is True
    await app.set_autocommit(connection, False)
    await app.set_read_only(connection, False)
    assert app.autocommit(connection) is False
