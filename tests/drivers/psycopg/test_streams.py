"""Pipelines, server cursors, stream(), COPY, executemany(), notifies() over a loss: errors, no hang, no silence."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
import pytest

from instrumented_wrapper import FailoverError, FailoverSuccessError
from servers import Proxy

from ..side import Side, done, dsn, inside, listed, rows
from ..watch import Watch

ON = {"failover": "on"}
LONG = "SELECT n, repeat('x', 1000) FROM generate_series(1, 200000) n"


async def through(side: Side, proxy: Proxy, autocommit: bool = True) -> Any:
    return await side.connect(dsn(proxy), autocommit=autocommit, instrumented_wrapper=ON)


async def usable(connection: Any) -> bool:
    return await rows(connection, "SELECT 1") == [(1,)]


# --- pipelines --------------------------------------------------------------------------------------------------


async def test_pipeline_on_a_connection_that_is_dead(side: Side, watch: Watch) -> None:
    """Nothing was sent: the block runs on the new session."""
    connection = await side.connect(watch.dsn(), autocommit=True)
    watch.end_sessions()
    async with inside(connection.pipeline()):
        await done(connection.execute(watch.insert("one")))
        await done(connection.execute(watch.insert("two")))
    assert watch.words() == ["one", "two"]


async def test_pipeline_lost_inside(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    with pytest.raises(FailoverSuccessError) as told:
        async with inside(connection.pipeline()) as pipeline:
            await done(connection.execute(watch.insert("one")))
            await done(pipeline.sync())
            watch.end_sessions()
            await done(connection.execute(watch.insert("two")))
            await done(pipeline.sync())
    assert told.value.transaction == "none"
    assert await usable(connection)
    assert "two" not in watch.words()
    async with inside(connection.pipeline()):
        await done(connection.execute(watch.insert("three")))
    assert watch.words() == ["one", "three"]


async def test_pipeline_whose_error_is_swallowed(side: Side, watch: Watch) -> None:
    """What follows in a stale block fails, and the block does not end as if all were well."""
    connection = await side.connect(watch.dsn(), autocommit=True)
    with pytest.raises(psycopg.Error):
        async with inside(connection.pipeline()) as pipeline:
            await done(pipeline.sync())
            watch.end_sessions()
            for word in ("one", "two", "three"):
                with suppress(psycopg.Error):
                    await done(connection.execute(watch.insert(word)))
                    await done(pipeline.sync())
    assert watch.words() == []
    assert await usable(connection)


async def test_pipeline_in_a_transaction(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn())
    with pytest.raises(FailoverSuccessError) as told:
        async with inside(connection.pipeline()) as pipeline:
            await done(connection.execute(watch.insert("one")))
            await done(pipeline.sync())
            watch.end_sessions()
            await done(connection.execute(watch.insert("two")))
            await done(pipeline.sync())
    assert told.value.transaction == "rolled_back"
    with pytest.raises(FailoverSuccessError):
        await done(connection.commit())
    await done(connection.rollback())
    assert await usable(connection)
    assert watch.words() == []


async def test_block_in_a_pipeline(side: Side, watch: Watch, proxy: Proxy) -> None:
    connection = await through(side, proxy)
    with pytest.raises(FailoverError):
        async with inside(connection.pipeline()) as pipeline, inside(connection.transaction()):
            await done(connection.execute(watch.insert("one")))
            await done(pipeline.sync())
            proxy.cut()
            await done(connection.execute(watch.insert("two")))
            await done(pipeline.sync())
    assert watch.words() == []
    assert await usable(connection)


async def test_commit_in_a_pipeline_whose_answer_is_lost(side: Side, watch: Watch, proxy: Proxy) -> None:
    connection = await through(side, proxy, autocommit=False)
    proxy.cut_when(b"COMMIT", forward=True)
    with pytest.raises(FailoverError) as told:
        async with inside(connection.pipeline()):
            await done(connection.execute(watch.insert("one")))
            await done(connection.commit())
    assert told.value.transaction == "unknown"
    assert watch.words() == ["one"]
    with suppress(psycopg.Error):
        await done(connection.rollback())
    assert await usable(connection)


async def test_commit_in_a_pipeline_in_autocommit_whose_answer_is_lost(side: Side, watch: Watch, proxy: Proxy) -> None:
    """Statements in front of it run with it, as one transaction."""
    connection = await through(side, proxy)
    proxy.cut_when(b"COMMIT", forward=True)
    with pytest.raises(FailoverError) as told:
        async with inside(connection.pipeline()):
            await done(connection.execute(watch.insert("one")))
            await done(connection.commit())
    assert (told.value.transaction, told.value.may_have_run) == ("unknown", True)
    assert watch.words() == ["one"]
    assert await usable(connection)


# --- server cursors ---------------------------------------------------------------------------------------------


async def test_server_cursor(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn())
    cursor = connection.cursor("numbers")
    await done(cursor.execute("SELECT generate_series(1, 100)"))
    assert await done(cursor.fetchone()) == (1,)
    watch.end_sessions()
    with pytest.raises(FailoverSuccessError) as told:
        await done(cursor.fetchone())
    assert told.value.transaction == "rolled_back"
    with pytest.raises(psycopg.Error):
        await done(cursor.fetchone())
    await done(connection.rollback())
    await done(cursor.close())
    await done(connection.rollback())
    assert await usable(connection)


async def test_server_cursor_with_hold(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn())
    cursor = connection.cursor("numbers", withhold=True)
    await done(cursor.execute("SELECT generate_series(1, 100)"))
    await done(connection.commit())
    watch.end_sessions()
    with pytest.raises(FailoverSuccessError) as told:
        await done(connection.execute("SELECT 1"))
    assert told.value.not_restored == ("held cursors",)
    with suppress(psycopg.Error):
        await done(connection.rollback())
    with pytest.raises(psycopg.Error):
        await done(cursor.fetchone())
    await done(connection.rollback())
    assert await usable(connection)


async def test_server_cursor_found_dead_by_its_fetch(side: Side, watch: Watch) -> None:
    """The cursor is gone: the fetch must not run on a session that never declared it, in silence."""
    connection = await side.connect(watch.dsn())
    cursor = connection.cursor("numbers", withhold=True)
    await done(cursor.execute("SELECT generate_series(1, 100)"))
    await done(connection.commit())
    watch.end_sessions()
    with pytest.raises(psycopg.OperationalError) as told:
        await done(cursor.fetchone())
    assert isinstance(told.value, FailoverSuccessError)
    assert "held cursors" in told.value.not_restored


@pytest.mark.parametrize("finds", ["fetch", "statement"])
async def test_a_held_cursor_of_an_old_session_closes_silently(side: Side, watch: Watch, finds: str) -> None:
    """Also where the new session has a cursor of the same name, which is not touched."""
    connection = await side.connect(watch.dsn(), autocommit=True)
    cursor = connection.cursor("numbers", withhold=True)
    await done(cursor.execute("SELECT generate_series(1, 100)"))
    watch.end_sessions()
    with pytest.raises(FailoverSuccessError) as told:
        await done(cursor.fetchone() if finds == "fetch" else connection.execute("SELECT 1"))
    assert told.value.not_restored == ("held cursors",)
    later = connection.cursor("numbers", withhold=True)
    await done(later.execute("SELECT generate_series(7, 9)"))
    with pytest.raises(FailoverSuccessError):  # not a row of the other cursor
        await done(cursor.fetchone())
    with pytest.raises(FailoverSuccessError):
        await done(cursor.scroll(1))
    await done(cursor.close())
    assert await done(later.fetchall()) == [(7,), (8,), (9,)]
    await done(later.close())
    assert await rows(connection, "SELECT count(*) FROM pg_cursors WHERE name = 'numbers'") == [(0,)]


async def test_a_held_cursor_is_closed_on_a_session_that_has_ended(side: Side, watch: Watch) -> None:
    """All its rows were read: nothing is lost, and nothing is raised."""
    connection = await side.connect(watch.dsn(), autocommit=True)
    cursor = connection.cursor("numbers", withhold=True)
    await done(cursor.execute("SELECT generate_series(1, 3)"))
    assert len(await done(cursor.fetchall())) == 3
    watch.end_sessions()
    await done(cursor.close())
    assert await usable(connection)


async def test_a_cursor_that_is_declared_anew_belongs_to_the_new_session(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    cursor = connection.cursor("numbers", withhold=True)
    await done(cursor.execute("SELECT generate_series(1, 3)"))
    watch.end_sessions()
    with pytest.raises(FailoverSuccessError):
        await done(connection.execute("SELECT 1"))
    await done(cursor.execute("SELECT generate_series(4, 5)"))
    assert await done(cursor.fetchall()) == [(4,), (5,)]
    await done(cursor.close())
    assert await rows(connection, "SELECT count(*) FROM pg_cursors") == [(0,)]


async def test_a_loss_in_the_block_of_a_held_cursor_is_what_the_app_sees(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    with pytest.raises(FailoverSuccessError):
        async with inside(connection.cursor("numbers", withhold=True)) as cursor:
            await done(cursor.execute("SELECT generate_series(1, 100)"))
            watch.end_sessions()
            await done(cursor.fetchmany(10))
    assert await usable(connection)


# --- stream() and COPY ------------------------------------------------------------------------------------------


async def test_stream_lost_on_the_way(side: Side, watch: Watch, proxy: Proxy) -> None:
    connection = await through(side, proxy)
    seen = 0
    with pytest.raises(FailoverSuccessError) as told:
        stream = connection.cursor().stream(LONG)
        if side.is_async:
            async for _ in stream:
                seen += 1
                if seen == 10:
                    proxy.cut()
        else:
            for _ in stream:
                seen += 1
                if seen == 10:
                    proxy.cut()
    assert told.value.may_have_run
    assert 10 <= seen < 200000
    assert await usable(connection)


async def test_stream_on_a_dead_connection(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    watch.end_sessions()
    assert await listed(connection.cursor().stream("SELECT generate_series(1, 3)")) == [(1,), (2,), (3,)]


async def test_stream_in_a_transaction(side: Side, watch: Watch, proxy: Proxy) -> None:
    connection = await through(side, proxy, autocommit=False)
    await done(connection.execute(watch.insert("lost")))
    proxy.cut_when(b"generate_series")
    with pytest.raises(FailoverSuccessError) as told:
        await listed(connection.cursor().stream(LONG))
    assert told.value.transaction == "rolled_back"
    with pytest.raises(FailoverSuccessError):
        await done(connection.commit())
    assert watch.words() == []


@pytest.mark.parametrize("autocommit", [True, False])
async def test_copy_in_lost_on_the_way(side: Side, watch: Watch, proxy: Proxy, autocommit: bool) -> None:
    connection = await through(side, proxy, autocommit)
    cursor = connection.cursor()
    with pytest.raises(FailoverSuccessError) as told:
        async with inside(cursor.copy(f"COPY {watch.table} FROM STDIN")) as copy:
            for number in range(20000):
                await done(copy.write_row(("y" * 200,)))
                if number == 100:
                    proxy.cut()
    assert told.value.transaction == ("none" if autocommit else "rolled_back")
    if not autocommit:
        await done(connection.rollback())
    assert await usable(connection)
    assert watch.words() == []
    async with inside(cursor.copy(f"COPY {watch.table} FROM STDIN")) as copy:
        await done(copy.write_row(("new",)))
    if not autocommit:
        await done(connection.commit())
    assert watch.words() == ["new"]


async def test_copy_in_whose_end_is_lost(side: Side, watch: Watch, proxy: Proxy) -> None:
    connection = await through(side, proxy)
    with pytest.raises(FailoverSuccessError) as told:
        async with inside(connection.cursor().copy(f"COPY {watch.table} FROM STDIN")) as copy:
            await done(copy.write_row(("one",)))
            proxy.cut()
    assert told.value.may_have_run
    assert await usable(connection)
    assert watch.words() == []


async def test_copy_out_lost_on_the_way(side: Side, watch: Watch, proxy: Proxy) -> None:
    connection = await through(side, proxy)
    with pytest.raises(FailoverSuccessError):
        async with inside(connection.cursor().copy(f"COPY ({LONG}) TO STDOUT")) as copy:
            await done(copy.read())
            proxy.cut()
            while await done(copy.read()):
                pass
    assert await usable(connection)


async def test_copy_whose_error_is_swallowed_inside(side: Side, watch: Watch, proxy: Proxy) -> None:
    connection = await through(side, proxy)
    with pytest.raises(FailoverError):
        async with inside(connection.cursor().copy(f"COPY {watch.table} FROM STDIN")) as copy:
            proxy.cut()
            for _ in range(2000):
                with suppress(psycopg.Error):
                    await done(copy.write_row(("y" * 5000,)))
    assert watch.words() == []
    assert await usable(connection)


async def test_copy_on_a_dead_connection(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    watch.end_sessions()
    async with inside(connection.cursor().copy(f"COPY {watch.table} FROM STDIN")) as copy:
        await done(copy.write_row(("one",)))
    assert watch.words() == ["one"]


# --- executemany() and notifies() -------------------------------------------------------------------------------


@pytest.mark.parametrize("returning", [False, True])
async def test_executemany_lost_on_the_way(side: Side, watch: Watch, proxy: Proxy, returning: bool) -> None:
    """It is a transaction of its own: all or nothing, and never twice."""
    connection = await through(side, proxy)
    words = [(f"word {n}",) for n in range(50)]
    proxy.cut_when(b"word 30")
    with pytest.raises(FailoverSuccessError):
        text = f"INSERT INTO {watch.table} VALUES (%s)" + (" RETURNING word" if returning else "")
        await done(connection.cursor().executemany(text, words, returning=returning))
    assert await usable(connection)
    assert len(set(watch.words())) == len(watch.words()) < 50


async def test_executemany_on_a_dead_connection(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    watch.end_sessions()
    await done(connection.cursor().executemany(f"INSERT INTO {watch.table} VALUES (%s)", [("a",), ("b",)]))
    assert watch.words() == ["a", "b"]


async def test_notifies_ends_with_an_error(side: Side, watch: Watch) -> None:
    """Who only listens is told: to wait on a new session that does not listen would be silence for ever."""
    connection = await side.connect(watch.dsn(), autocommit=True)
    await done(connection.execute("LISTEN news"))
    watch.end_sessions()
    with pytest.raises(psycopg.OperationalError):  # after its timeout it would end without an error
        await listed(connection.notifies(timeout=20))
    with pytest.raises(FailoverSuccessError) as told:
        await done(connection.execute("SELECT 1"))
    assert told.value.not_restored == ("LISTEN",)
    assert await usable(connection)
