"""asyncpg: what lives on through a switch, cancellation, time limits, hosts."""

from __future__ import annotations

import asyncio
import decimal
import functools
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

asyncpg = pytest.importorskip("asyncpg")

from instrumented_wrapper import (  # noqa: E402, reset_session_async
    FailoverFailedError,
    FailoverSuccessError,
    SessionStateTransferHandlers,
    TransactionResolutionUnknownError,
    reset_session_async,
    session_state,
    switch_async,
)
from servers import Proxy, guard  # noqa: E402

from ..cancelling import outcome  # noqa: E402
from .conftest import App  # noqa: E402

# --- cancellation ---------------------------------------------------------------------------------------------------


async def test_a_switch_that_is_cancelled_anywhere_leaves_no_session(app: App) -> None:
    cancelled = 0
    for at in range(1, 100):
        connection = await app.connect()
        await connection.execute("SET app.tenant = 'acme'; SET TimeZone = 'Asia/Tokyo'")
        await app.end(connection)
        raised = await outcome(connection.fetchval("SHOW app.tenant"), at)
        if raised is None:  # it has waited less often
            assert await connection.fetchval("SHOW TimeZone") == "Asia/Tokyo"
        else:
            assert raised is asyncio.CancelledError
            cancelled += connection.is_closed()
            if not connection.is_closed():  # nothing had begun: the next statement moves it
                assert await connection.fetchval("SHOW app.tenant") == "acme"
        connection.terminate()
        assert await app.nobody_is_left()
        if raised is None:
            break
    assert cancelled > 3


async def test_a_planned_switch_that_is_cancelled_anywhere_leaves_one_session_at_most(app: App) -> None:
    for at in range(1, 100):
        connection = await app.connect()
        await connection.execute("SET app.tenant = 'acme'")
        raised = await outcome(switch_async(connection), at)
        assert raised in (None, asyncio.CancelledError)
        if not connection.is_closed():
            assert await connection.fetchval("SHOW app.tenant") == "acme"
            assert await app.eventually(lambda: len(app.sessions()) == 1)
        connection.terminate()
        assert await app.nobody_is_left()
        if raised is None:
            break
    else:
        raise AssertionError("it never ended")


async def _times_out(connection: Any) -> None:
    with pytest.raises(TimeoutError):
        await connection.fetchval("SELECT 1", timeout=0)


async def _is_cancelled(connection: Any) -> None:
    task = asyncio.ensure_future(connection.fetchval("SELECT 1"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("interrupt", [_times_out, _is_cancelled])
async def test_a_commit_after_an_interruption_that_aborted_nothing_is_unknown_if_lost(
    app: App, proxy: Proxy, interrupt: Any
) -> None:
    app.sql("DROP TABLE IF EXISTS interrupted; CREATE TABLE interrupted (id int); GRANT ALL ON interrupted TO PUBLIC")
    connection = await app.connect(proxy, app.cluster.primary)
    for text in (insert := "INSERT INTO interrupted VALUES (1)", "DELETE FROM interrupted", "SELECT 1"):
        await connection.execute(text)  # the wrapper knows these texts from here on
    await connection.execute("BEGIN")
    await interrupt(connection)
    await connection.execute(insert)
    proxy.cut_when(b"COMMIT", forward=True)
    with pytest.raises(TransactionResolutionUnknownError):
        await connection.execute("COMMIT")
    assert app.sql("SELECT id FROM interrupted") == [("1",)]
    await connection.close()


async def test_a_commit_of_what_a_time_limit_has_aborted_keeps_no_setting(app: App) -> None:
    connection = await app.connect()
    await connection.execute("SET TimeZone = 'Europe/Paris'")
    await connection.execute("BEGIN")
    await connection.execute("SET TimeZone = 'Asia/Tokyo'")
    await connection.execute("SET app.tenant = 'acme'")
    with pytest.raises(TimeoutError):
        await connection.execute("SELECT pg_sleep(60)", timeout=0.1)
    assert await connection.execute("COMMIT") == "ROLLBACK"
    assert session_state(connection)["timezone"].value == "Europe/Paris"
    await app.end(connection)
    assert await connection.fetchval("SELECT current_setting('app.tenant', true)") in (None, "")
    await connection.close()


async def test_what_is_only_prepared_sets_nothing(app: App) -> None:
    connection = await app.connect()
    statement = await connection.prepare("SET TimeZone = 'Asia/Tokyo'")
    assert "timezone" not in session_state(connection)
    await app.end(connection)
    assert await connection.fetchval("SHOW TimeZone") != "Asia/Tokyo"
    await statement.fetch()
    assert session_state(connection)["timezone"].value == "Asia/Tokyo"
    await connection.close()


async def test_a_cancelled_statement_is_no_loss(app: App, spans) -> None:
    connection = await app.connect()
    number = connection.get_server_pid()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await connection.execute("SELECT pg_sleep(60)")
    assert await connection.fetchval("SELECT pg_backend_pid()") == number
    assert spans.named("failover") == []
    await connection.close()


# --- time limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["timeout", "command_timeout"])
async def test_a_time_limit_of_the_app_bounds_a_switch(app: App, how: str) -> None:
    with Proxy(app.cluster.primary.host, app.cluster.primary.port) as proxy:
        given = {"command_timeout": 0.5} if how == "command_timeout" else {}
        connection = await app.connect(proxy, proxy, options={"failover_timeout": 3600}, **given)
        proxy.refuse()
        proxy.cut()
        with pytest.raises(FailoverFailedError):
            await connection.fetchval("SELECT 1", **({"timeout": 0.5} if how == "timeout" else {}))
        assert connection.is_closed()
        assert await app.nobody_is_left()


# --- what lives on --------------------------------------------------------------------------------------------------


async def test_listeners_hear_what_comes_after_a_switch(app: App, spans) -> None:
    connection = await app.connect()
    heard: asyncio.Queue[Any] = asyncio.Queue()

    def listener(*given: Any) -> None:
        heard.put_nowait(given)

    for channel in ("news", 'of "app"'):
        await connection.add_listener(channel, listener)
    await app.end(connection)
    assert await connection.fetchval("SELECT 1") == 1
    number = connection.get_server_pid()
    for channel in ("news", 'of "app"'):
        await connection.fetchval("SELECT pg_notify($1, $2)", channel, "after")
        assert await asyncio.wait_for(heard.get(), 30) == (connection, number, channel, "after")
    await connection.remove_listener("news", listener)
    await app.end(connection)
    assert await connection.fetch("SELECT pg_listening_channels()") == [('of "app"',)]
    assert [span.name for span in spans.all()].count("LISTEN") == 2
    await connection.close()


@pytest.mark.parametrize("scope", ["settings", "session"])
async def test_a_reset_of_the_session_ends_listeners(app: App, spans, scope: str) -> None:
    connection = await app.connect(options={"reset_scope": scope})
    heard: asyncio.Queue[Any] = asyncio.Queue()

    def listener(*given: Any) -> None:
        heard.put_nowait(given[-1])

    await connection.add_listener("news", listener)
    assert await reset_session_async(connection)
    ends = scope == "session"
    assert await connection.fetch("SELECT pg_listening_channels()") == ([] if ends else [("news",)])
    assert bool(connection._listeners) is not ends
    assert len(spans.named("session_state.reset")) == ends
    await connection.add_listener("news", listener)  # anew, where asyncpg knows that it has to listen
    await connection.fetchval("SELECT pg_notify('news', 'after')")
    assert await asyncio.wait_for(heard.get(), 30) == "after"
    await connection.remove_listener("news", listener)
    spans.clear()
    await connection.close()
    assert not spans.named("session_state.reset")


async def test_an_end_of_all_channels_takes_listeners_along(app: App) -> None:
    """A LISTEN by SQL has the reset send UNLISTEN *: asyncpg would never listen to its own channels again."""
    connection = await app.connect(options={"reset_scope": "session"})
    await connection.execute("LISTEN others")
    await connection.add_listener("news", print)
    assert await reset_session_async(connection)
    await connection.add_listener("news", print)
    assert await connection.fetch("SELECT pg_listening_channels()") == [("news",)]
    await connection.close()


async def test_what_a_text_listens_to_is_not_carried(app: App) -> None:
    """asyncpg tells nobody of what comes there."""
    connection = await app.connect()
    await connection.execute("LISTEN news")
    await app.end(connection)
    with pytest.raises(FailoverSuccessError) as caught:
        await connection.fetchval("SELECT 1")
    assert (caught.value.not_restored, caught.value.may_have_run) == (("LISTEN",), False)
    await connection.close()


async def test_codecs_live_on(app: App) -> None:
    connection = await app.connect()
    await connection.set_type_codec("json", schema="pg_catalog", encoder=str, decoder=lambda text: ("mine", text))
    await connection.set_type_codec("numeric", schema="pg_catalog", encoder=str, decoder=float, format="text")
    old = await connection.prepare("SELECT '1'::json, 1.5::numeric")
    await connection.reset_type_codec("numeric", schema="pg_catalog")
    await app.end(connection)
    assert await connection.fetchrow("SELECT '1'::json, 1.5::numeric") == (("mine", "1"), decimal.Decimal("1.5"))
    assert (await old.fetchrow())[0] == ("mine", "1")
    await connection.close()


async def test_prepared_statements_live_on(app: App) -> None:
    connection = await app.connect()
    named = await connection.prepare("SELECT $1::int + 1", name="mine")
    plain, unused = await connection.prepare("SELECT $1::text"), await connection.prepare("SELECT 3")
    assert await plain.fetchval("before") == "before"
    for _ in range(2):
        await app.end(connection)
        assert await named.fetchval(41) == 42
        assert await plain.fetchval("after") == "after"
        assert await connection.fetchval("SELECT pg_backend_pid()") == connection.get_server_pid()
    assert await unused.fetchval() == 3
    assert [str(each.type.name) for each in plain.get_attributes()] == ["text"]
    kept = "SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine'"
    assert await connection.fetchval(kept) == 1
    await connection.close()


async def test_types_of_the_app_live_on(app: App) -> None:
    app.sql("DROP TYPE IF EXISTS mood; CREATE TYPE mood AS ENUM ('sad', 'glad')")
    connection = await app.connect()
    statement = await connection.prepare("SELECT $1::mood")
    assert await statement.fetchval("sad") == "sad"
    await app.end(connection)
    assert await statement.fetchval("glad") == "glad"
    assert await connection.fetchval("SELECT ARRAY['sad', 'glad']::mood[]") == ["sad", "glad"]
    assert dict(session_state(connection)) == {}, "asyncpg itself sets jit while it looks up types"
    await connection.close()


async def test_who_is_told_of_an_end_is_told_of_no_switch(app: App) -> None:
    connection = await app.connect()
    ended: list[Any] = []
    connection.add_termination_listener(ended.append)
    connection.add_log_listener(lambda *given: None)
    await app.end(connection)
    assert await connection.fetchval("SELECT 1") == 1
    assert ended == [] and connection._log_listeners
    await connection.close()
    await asyncio.sleep(0)
    assert ended == [connection]


async def test_a_connection_that_is_lost_while_nobody_looks_is_not_closed(app: App) -> None:
    connection = await app.connect()
    kind, known = type(connection), hash(connection)
    await app.end(connection)
    await asyncio.sleep(0)
    assert not connection.is_closed()
    assert await connection.fetchval("SELECT 1") == 1
    assert (type(connection), hash(connection)) == (kind, known)
    await connection.close()
    assert connection.is_closed()


# --- transactions ---------------------------------------------------------------------------------------------------


async def test_an_inner_block_that_loses_its_connection(app: App) -> None:
    connection = await app.connect()
    with pytest.raises(FailoverSuccessError) as caught:
        async with connection.transaction():
            await connection.execute("SET LOCAL app.tenant = 'acme'")
            with pytest.raises(FailoverSuccessError):
                async with connection.transaction():
                    await app.end(connection)
                    await connection.execute("SELECT 1")
            with pytest.raises((FailoverSuccessError, asyncpg.InFailedSQLTransactionError)):
                await connection.execute("SELECT 2")
    assert caught.value.transaction == "rolled_back"
    assert not connection.is_in_transaction()
    async with connection.transaction(isolation="serializable", readonly=True, deferrable=True):
        assert await connection.fetchval("SHOW transaction_isolation") == "serializable"
    await connection.close()


async def test_a_loss_at_the_begin_of_a_block_is_no_news(app: App) -> None:
    connection = await app.connect()
    await app.end(connection)
    async with connection.transaction():
        assert connection.is_in_transaction()
        assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


@pytest.mark.parametrize("command", [b"BEGIN;", b"COMMIT;"])
async def test_a_block_that_loses_its_connection_at_its_begin_or_end_is_over(app: App, command: bytes) -> None:
    with Proxy(app.cluster.primary.host, app.cluster.primary.port) as proxy:
        connection = await app.connect(proxy, app.cluster.primary)
        for forward in (True, False):
            proxy.cut_when(command, forward=forward)
            with pytest.raises((FailoverSuccessError, TransactionResolutionUnknownError)):
                async with connection.transaction():
                    await connection.fetchval("SELECT 1")
            assert not connection.is_in_transaction()
            async with connection.transaction():  # and no savepoint
                assert await connection.fetchval("SELECT 1") == 1
            assert not connection.is_in_transaction()
            await switch_async(connection, proxy.host, proxy.port)
        await connection.close()


async def test_a_block_by_hand(app: App) -> None:
    connection = await app.connect()
    block = connection.transaction()
    await block.start()
    await app.end(connection)
    with pytest.raises(FailoverSuccessError):
        await connection.execute("SELECT 1")
    await block.rollback()
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


# --- cursors, COPY, batches -----------------------------------------------------------------------------------------


async def test_a_cursor_that_loses_its_connection(app: App) -> None:
    connection = await app.connect()
    with pytest.raises(FailoverSuccessError) as caught:
        async with connection.transaction():
            async for row in connection.cursor("SELECT generate_series(1, 1000)", prefetch=10):
                if row[0] == 15:
                    await app.end(connection)
    assert caught.value.transaction == "rolled_back"
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


async def test_a_cursor_of_a_prepared_statement_after_a_switch(app: App) -> None:
    connection = await app.connect()
    statement = await connection.prepare("SELECT generate_series(1, $1::int)")
    await app.end(connection)
    async with connection.transaction():
        cursor = await statement.cursor(30)
        assert await cursor.fetch(2) == [(1,), (2,)]
        assert await cursor.forward(10) == 10
        assert await cursor.fetchrow() == (13,)
    await connection.close()


async def test_batches_after_a_switch(app: App) -> None:
    app.sql("DROP TABLE IF EXISTS batches; CREATE TABLE batches (id int); GRANT ALL ON batches TO PUBLIC")
    connection = await app.connect()
    statement = await connection.prepare("INSERT INTO batches VALUES ($1)")
    await app.end(connection)
    await statement.executemany([(1,), (2,)])
    await app.end(connection)
    await connection.executemany("INSERT INTO batches VALUES ($1)", iter([(3,), (4,)]))
    await app.end(connection)
    if hasattr(connection, "fetchmany"):
        text = "INSERT INTO batches VALUES ($1) RETURNING id"
        assert await connection.fetchmany(text, [(5,), (6,)]) == [(5,), (6,)]
    else:
        await connection.executemany("INSERT INTO batches VALUES ($1)", [(5,), (6,)])
    assert [row[0] for row in await connection.fetch("SELECT id FROM batches ORDER BY id")] == [1, 2, 3, 4, 5, 6]
    await connection.close()


async def test_a_batch_that_loses_its_connection_ran_whole_or_not_at_all(app: App) -> None:
    app.sql("DROP TABLE IF EXISTS batches; CREATE TABLE batches (id int); GRANT ALL ON batches TO PUBLIC")
    connection = await app.connect()
    text = (
        "INSERT INTO batches SELECT $1 FROM (SELECT CASE WHEN $1 = 3 THEN pg_terminate_backend(pg_backend_pid()) END) t"
    )
    with pytest.raises(FailoverSuccessError) as caught:
        await connection.executemany(text, [(1,), (2,), (3,), (4,)])
    assert caught.value.may_have_run
    assert app.sql("SELECT id FROM batches") == []
    await connection.close()


async def test_copy_after_a_switch(app: App) -> None:
    app.sql("DROP TABLE IF EXISTS copied; CREATE TABLE copied (id int); GRANT ALL ON copied TO PUBLIC")
    connection = await app.connect()
    await app.end(connection)
    assert await connection.copy_records_to_table("copied", records=[(1,), (2,)]) == "COPY 2"
    await app.end(connection)
    pieces: list[bytes] = []

    async def take(data: bytes) -> None:
        pieces.append(bytes(data))

    await connection.copy_from_query("SELECT id FROM copied ORDER BY id", output=take)
    assert b"".join(pieces) == b"1\n2\n"
    await connection.close()


async def test_a_copy_that_loses_its_connection_may_have_run(app: App) -> None:
    app.sql("DROP TABLE IF EXISTS copied; CREATE TABLE copied (id int); GRANT ALL ON copied TO PUBLIC")
    connection = await app.connect()

    async def source() -> Any:
        yield b"1\n"
        await app.end(connection)
        yield b"2\n" * 100_000
        await asyncio.sleep(0)

    with pytest.raises(FailoverSuccessError) as caught:
        await connection.copy_to_table("copied", source=source())
    assert caught.value.may_have_run
    assert await connection.fetchval("SELECT count(*) FROM copied") == 0
    await connection.close()


# --- hosts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", ["any", "primary", "read-write", "standby", "read-only", "prefer-standby"])
async def test_the_kind_of_server_that_a_dsn_asks_for(app: App, wish: str) -> None:
    hosts = ",".join(f"{server.host}:{server.port}" for server in (app.cluster.primary, app.cluster.standby))
    dsn = f"postgresql://app:app-secret@{hosts}/app?target_session_attrs={wish}"
    connection = await asyncpg.connect(dsn, server_settings={"application_name": "asyncpg under test"})
    stands_by = "SELECT pg_is_in_recovery()"
    before = await connection.fetchval(stands_by)
    await switch_async(connection)
    after = await connection.fetchval(stands_by)
    await connection.close()
    if wish == "any":  # whichever answers first
        return
    assert after == before == (wish in ("standby", "read-only", "prefer-standby"))


async def test_a_write_on_a_standby_that_it_came_to_by_chance(app: App, spans) -> None:
    app.sql("DROP TABLE IF EXISTS written; CREATE TABLE written (id int); GRANT ALL ON written TO PUBLIC")
    app.cluster.wait_streaming()
    standby = app.cluster.standby
    connection = await app.connect(standby, app.cluster.primary)
    assert await connection.fetchval("SELECT pg_is_in_recovery()")
    await connection.execute("INSERT INTO written VALUES (1)")
    assert app.sql("SELECT id FROM written") == [("1",)]
    (span,) = spans.named("failover")
    assert span.attributes["instrumented_wrapper.trigger"] == "demoted"
    await connection.close()


async def test_a_handler_uses_the_new_connection(app: App) -> None:
    async def handler(state: Any, new: Any) -> bool:
        await new.execute("SET app.tenant = 'handled'")
        return True

    connection = await app.connect()
    await connection.execute("SET app.tenant = 'acme'")
    SessionStateTransferHandlers.set_transfer_session_state_on_switch_func(handler)
    await app.end(connection)
    assert await connection.fetchval("SHOW app.tenant") == "handled"
    await connection.close()


async def test_many_connections_that_are_lost_together_block_no_loop(app: App) -> None:
    connections = [await app.connect() for _ in range(30)]
    for number, connection in enumerate(connections):
        await connection.execute(f"SET app.tenant = 'tenant {number}'")
    await app.end()
    turns = 0

    async def goes_on() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    ticker = asyncio.create_task(goes_on())
    found = await asyncio.gather(*(connection.fetchval("SHOW app.tenant") for connection in connections))
    ticker.cancel()
    assert found == [f"tenant {number}" for number in range(30)]
    assert turns > 30
    await asyncio.gather(*(connection.close() for connection in connections))
    assert await app.nobody_is_left()


def test_uvloop(app: App) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        connection = await app.connect()
        statement = await connection.prepare("SELECT current_setting('app.tenant')")
        await connection.execute("SET app.tenant = 'acme'")
        for _ in range(5):
            await app.end(connection)
            assert await statement.fetchval() == "acme"
        with pytest.raises(FailoverSuccessError):
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)")
        assert await statement.fetchval() == "acme"
        await connection.close()

    uvloop.run(main())


# --- what asyncpg itself refuses ------------------------------------------------------------------------------------


async def test_a_statement_beside_another_one_is_refused_by_asyncpg(app: App) -> None:
    connection = await app.connect()
    for seconds, before in ((60, ""), (61, "SET statement_timeout = 60000; ")):
        text = f"{before}SELECT pg_sleep({seconds})"
        under_way = asyncio.create_task(connection.execute(text))
        sleeps = f"SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep({seconds})%'"
        running = f"{sleeps} AND pid = {connection.get_server_pid()}"
        assert await app.eventually(functools.partial(app.sql, running))
        for other in (connection.fetchval("SELECT 1"), connection.execute("SET app.tenant = 'acme'")):
            with pytest.raises(asyncpg.InterfaceError, match="another operation"):
                await other
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way
    assert await connection.fetchval("SELECT current_setting('app.tenant', true)") is None
    await connection.close()


async def test_what_a_pool_has_back_is_refused_at_once(app: App) -> None:
    async with app.pool() as pool:
        async with pool.acquire() as connection:
            statement, block = await connection.prepare("SELECT 1"), connection.transaction()
            async with connection.transaction():
                cursor = await connection.cursor("SELECT 1")
        for method in (statement.fetch, statement.fetchval, statement.executemany, cursor.fetch, cursor.forward):
            with pytest.raises(asyncpg.InterfaceError, match="released back to the pool"):
                method(1)
        for method in (block.start, block.commit, block.rollback):
            with pytest.raises(asyncpg.InterfaceError, match="released back to the pool"):
                method()


async def test_a_connection_that_nobody_has_any_more_ends_without_a_collection(app: App) -> None:
    connection = await app.connect()
    await connection.fetchval("SELECT 1")
    await switch_async(connection)
    await connection.execute("SET app.tenant = 'acme'")
    protocol = weakref.ref(connection._protocol)
    gc.disable()
    try:
        with pytest.warns(ResourceWarning, match="unclosed connection"):
            del connection
        await asyncio.sleep(0)
        assert protocol() is None
    finally:
        gc.enable()
    assert await app.nobody_is_left()


async def test_statements_that_asyncpg_forgets_are_forgotten(app: App) -> None:
    connection = await app.connect(statement_cache_size=5)
    await switch_async(connection)
    for number in range(50):
        assert await connection.fetchval(f"SELECT {number}") == number
    kept = sum(len(value) for value in vars(connection._protocol).values() if isinstance(value, set))
    assert kept <= 6 and await connection.fetchval("SELECT count(*) FROM pg_prepared_statements") <= 6
    await connection.close()


@pytest.mark.parametrize("sent", [0, 50], ids=["nothing was sent", "rows were sent"])
async def test_a_batch_of_which_a_row_cannot_be_encoded_on_a_lost_connection(app: App, sent: int) -> None:
    """The rows before it were taken from the app's iterator: a batch that began again would be without them."""
    connection = await app.connect()
    await connection.execute("DROP TABLE IF EXISTS batches; CREATE TABLE batches (id int, filler text)")
    number = connection.get_server_pid()

    def rows() -> Iterator[tuple[Any, str]]:
        yield from ((each, "x" * 4096) for each in range(sent + 1))
        app.sql(f"SELECT pg_terminate_backend({number})")
        assert guard.wait_until(lambda: number not in app.sessions(), 60)
        yield ("no number", "")
        yield (1000, "")

    with pytest.raises((asyncpg.DataError, FailoverSuccessError)):
        await connection.executemany("INSERT INTO batches VALUES ($1, $2)", rows())
    assert await connection.fetchval("SELECT count(*) FROM batches") == 0
    await connection.execute("DROP TABLE batches")
    await connection.close()
