"""A transaction that was lost is never continued: ``transaction()`` blocks, savepoints, raw SQL, two-phase commit.

What counts is what the primary has committed in the end.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg import Rollback

from instrumented_wrapper import FailoverSuccessError
from servers import Proxy

from ..side import Side, done, dsn, inside, rows
from ..watch import Watch

LOST = FailoverSuccessError


async def autocommit(side: Side, watch: Watch) -> Any:
    return await side.connect(watch.dsn(), autocommit=True)


async def test_nested_blocks_whose_inner_error_is_swallowed(side: Side, watch: Watch) -> None:
    connection = await autocommit(side, watch)
    with pytest.raises(LOST) as ending:
        async with inside(connection.transaction()):
            await done(connection.execute(watch.insert("before")))
            with suppress(LOST):
                async with inside(connection.transaction()):
                    watch.end_sessions()
                    await done(connection.execute(watch.insert("inner")))
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                await done(connection.execute(watch.insert("outer")))
    assert ending.value.transaction == "rolled_back"
    assert watch.words() == []
    await done(connection.execute(watch.insert("afterwards")))
    assert watch.words() == ["afterwards"]


async def test_the_loss_is_swallowed_in_the_outermost_block(side: Side, watch: Watch) -> None:
    connection = await autocommit(side, watch)
    with pytest.raises(LOST):
        async with inside(connection.transaction()):
            watch.end_sessions()
            with suppress(LOST):
                await done(connection.execute(watch.insert("lost")))
            with suppress(psycopg.Error):
                await done(connection.execute(watch.insert("goes on")))
    assert watch.words() == []
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


async def test_a_real_failover_in_three_blocks(side: Side, watch: Watch) -> None:
    connection = await autocommit(side, watch)
    watch.cluster.wait_streaming()
    with pytest.raises(LOST):
        async with inside(connection.transaction()):
            await done(connection.execute(watch.insert("one")))
            async with inside(connection.transaction()):
                async with inside(connection.transaction()):
                    await done(connection.execute(watch.insert("three")))
                watch.cluster.failover()
                with suppress(psycopg.Error):
                    await done(connection.execute(watch.insert("two")))
    assert watch.words() == []
    async with inside(connection.transaction()):
        await done(connection.execute(watch.insert("new")))
    assert watch.words() == ["new"]


@pytest.mark.parametrize("depth", [1, 2])
async def test_rollback_raised_after_the_loss(side: Side, watch: Watch, depth: int) -> None:
    connection = await autocommit(side, watch)
    async with inside(connection.transaction()) as outer, inside(connection.transaction()):
        watch.end_sessions()
        with suppress(LOST):
            await done(connection.execute(watch.insert("lost")))
        raise Rollback(outer)
    assert watch.words() == []
    assert await rows(connection, "SELECT 1") == [(1,)]


async def test_rollback_of_the_inner_block_only(side: Side, watch: Watch) -> None:
    connection = await autocommit(side, watch)
    with pytest.raises(LOST):
        async with inside(connection.transaction()):
            await done(connection.execute(watch.insert("outer")))
            async with inside(connection.transaction()):
                watch.end_sessions()
                with suppress(LOST):
                    await done(connection.execute(watch.insert("inner")))
                raise Rollback
            with suppress(psycopg.Error):
                await done(connection.execute(watch.insert("goes on")))
    assert watch.words() == []


async def test_block_that_rolls_back_anyway(side: Side, watch: Watch) -> None:
    connection = await autocommit(side, watch)
    async with inside(connection.transaction(force_rollback=True)):
        await done(connection.execute(watch.insert("try")))
        watch.end_sessions()
    assert watch.words() == []
    assert await rows(connection, "SELECT 1") == [(1,)]


async def test_inner_block_that_rolls_back_anyway(side: Side, watch: Watch) -> None:
    connection = await autocommit(side, watch)
    with pytest.raises(LOST):
        async with inside(connection.transaction()):
            await done(connection.execute(watch.insert("outer")))
            async with inside(connection.transaction(force_rollback=True)):
                watch.end_sessions()
            with suppress(psycopg.Error):
                await done(connection.execute(watch.insert("goes on")))
    assert watch.words() == []


async def test_an_error_of_the_app_passes_unchanged(side: Side, watch: Watch) -> None:
    connection = await autocommit(side, watch)
    with pytest.raises(KeyError, match="of the app"):
        async with inside(connection.transaction()), inside(connection.transaction()):
            await done(connection.execute(watch.insert("lost")))
            watch.end_sessions()
            raise KeyError("of the app")
    assert watch.words() == []
    await done(connection.execute(watch.insert("new")))
    assert watch.words() == ["new"]


async def test_savepoint_of_the_apps_own(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn())
    await done(connection.execute(watch.insert("before")))
    await done(connection.execute("SAVEPOINT here"))
    watch.end_sessions()
    with pytest.raises(LOST):
        await done(connection.execute(watch.insert("lost")))
    with pytest.raises(psycopg.Error):
        await done(connection.execute("ROLLBACK TO SAVEPOINT here"))
    with pytest.raises(psycopg.Error):
        await done(connection.execute(watch.insert("goes on")))
    with pytest.raises(LOST):
        await done(connection.commit())
    assert watch.words() == []


async def test_going_on_without_autocommit(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn())
    for word in ("one", "two", "three"):
        if word == "two":
            watch.end_sessions()
        with suppress(psycopg.Error):
            await done(connection.execute(watch.insert(word)))
    for _ in range(2):
        with pytest.raises(LOST) as refusal:
            await done(connection.commit())
        assert refusal.value.transaction == "rolled_back"
    await done(connection.rollback())
    await done(connection.execute(watch.insert("new")))
    await done(connection.commit())
    assert watch.words() == ["new"]


async def test_with_connection_exit_is_a_commit(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn())
    with pytest.raises(LOST):
        async with inside(connection):
            await done(connection.execute(watch.insert("one")))
            watch.end_sessions()
            with suppress(LOST):
                await done(connection.execute(watch.insert("two")))
    assert watch.words() == []


@pytest.mark.parametrize("ending", ["COMMIT", "END", "COMMIT AND CHAIN", "commit work", "/* done */ Commit"])
async def test_commit_by_text_is_refused_too(side: Side, watch: Watch, ending: str) -> None:
    connection = await autocommit(side, watch)
    await done(connection.execute("BEGIN"))
    await done(connection.execute(watch.insert("one")))
    watch.end_sessions()
    with pytest.raises(LOST) as first:
        await done(connection.execute(watch.insert("two")))
    assert first.value.transaction == "rolled_back"
    with pytest.raises(LOST):
        await done(connection.execute(ending))
    with pytest.raises(psycopg.Error):
        await done(connection.execute(watch.insert("three")))
    await done(connection.execute("ROLLBACK"))
    await done(connection.execute(watch.insert("four")))
    assert watch.words() == ["four"]


async def test_entry_of_a_block_is_lost(side: Side, watch: Watch, proxy: Proxy) -> None:
    connection = await side.connect(dsn(proxy), autocommit=True, instrumented_wrapper={"failover": "on"})
    proxy.cut_when(b"BEGIN")
    with pytest.raises(LOST) as told:
        async with inside(connection.transaction()):
            raise AssertionError("the block was entered")
    assert told.value.transaction == "rolled_back"
    await done(connection.execute(watch.insert("by itself")))
    assert watch.words() == ["by itself"]


async def test_entry_of_an_inner_block_is_lost(side: Side, watch: Watch, proxy: Proxy) -> None:
    connection = await side.connect(dsn(proxy), autocommit=True, instrumented_wrapper={"failover": "on"})
    with pytest.raises(LOST):
        async with inside(connection.transaction()):
            await done(connection.execute(watch.insert("outer")))
            proxy.cut_when(b"SAVEPOINT")
            with suppress(LOST):
                async with inside(connection.transaction()):
                    await done(connection.execute(watch.insert("inner")))
            with suppress(psycopg.Error):
                await done(connection.execute(watch.insert("goes on")))
    assert watch.words() == []
    async with inside(connection.transaction()), inside(connection.transaction()):
        await done(connection.execute(watch.insert("new")))
    assert watch.words() == ["new"]


async def test_exit_of_an_inner_block_is_lost(side: Side, watch: Watch, proxy: Proxy) -> None:
    connection = await side.connect(dsn(proxy), autocommit=True, instrumented_wrapper={"failover": "on"})
    with pytest.raises(LOST):
        async with inside(connection.transaction()):
            with suppress(LOST):
                async with inside(connection.transaction()):
                    await done(connection.execute(watch.insert("inner")))
                    proxy.cut_when(b"RELEASE")
            with suppress(psycopg.Error):
                await done(connection.execute(watch.insert("goes on")))
    assert watch.words() == []


async def test_blocks_without_autocommit(side: Side, watch: Watch) -> None:
    """The outermost block is a savepoint there: the transaction is still the app's to end."""
    connection = await side.connect(watch.dsn())
    await done(connection.execute(watch.insert("before")))
    with suppress(LOST):
        async with inside(connection.transaction()):
            watch.end_sessions()
            await done(connection.execute(watch.insert("inner")))
    with suppress(psycopg.Error):
        await done(connection.execute(watch.insert("goes on")))
    with pytest.raises(LOST):
        await done(connection.commit())
    await done(connection.rollback())
    assert watch.words() == []


@pytest.mark.parametrize("tries_to_prepare", [False, True])
async def test_two_phase_lost_and_rolled_back(side: Side, watch: Watch, tries_to_prepare: bool) -> None:
    connection = await side.connect(watch.dsn())
    await done(connection.tpc_begin(connection.xid(1, watch.table, "lost")))
    await done(connection.execute(watch.insert("one")))
    watch.end_sessions()
    with pytest.raises(LOST):
        await done(connection.execute(watch.insert("two")))
    if tries_to_prepare:
        with pytest.raises(psycopg.Error):
            await done(connection.tpc_prepare())
    await done(connection.tpc_rollback())
    assert watch.sql("SELECT gid FROM pg_prepared_xacts") == []
    await done(connection.execute(watch.insert("new")))
    await done(connection.commit())
    assert watch.words() == ["new"]


async def test_two_phase_prepared_survives_a_loss(side: Side, watch: Watch) -> None:
    """Prepared is prepared: the session may go, the app's own recovery ends the transaction."""
    connection = await side.connect(watch.dsn())
    xid = connection.xid(1, watch.table, "kept")
    await done(connection.tpc_begin(xid))
    await done(connection.execute(watch.insert("one")))
    await done(connection.tpc_prepare())
    watch.end_sessions()
    await done(connection.tpc_commit())
    assert watch.sql("SELECT gid FROM pg_prepared_xacts") == []
    assert watch.words() == ["one"]
