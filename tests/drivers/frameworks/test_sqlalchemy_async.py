"""SQLAlchemy's asyncio engines over psycopg: a return in the greenlet, a task that is cancelled meanwhile."""

from __future__ import annotations

import asyncio
import gc
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from instrumented_wrapper import (
    SessionStateTransferHandlers,
    mark_pristine_async,
    reset_session_async,
    session_state,
)
from servers import Cluster, guard

from .asyncio_engines import ask, asyncio_engine, asyncio_of_sqlalchemy, own, sqlalchemy

CHANGE, VALUE, NUMBER = "SET search_path = pg_catalog", "SHOW search_path", "SELECT pg_backend_pid()"


def engine(cluster: Cluster, chosen: str = "on", **given: Any) -> AbstractAsyncContextManager[Any]:
    return asyncio_engine("postgresql+psycopg", cluster, chosen, **given)


async def seen(pool: Any) -> tuple[Any, str]:
    """Return the connection and the value that the next borrower gets."""
    async with pool.connect() as connection:
        return await own(connection), await ask(connection, VALUE)


async def leave(pool: Any) -> None:
    async with pool.begin() as connection:
        await connection.exec_driver_sql(CHANGE)


@pytest.mark.parametrize("chosen", ["on", "close", "report", "off"])
async def test_a_return(cluster: Cluster, spans, chosen: str) -> None:
    async with engine(cluster, chosen) as pool:
        raw, before = await seen(pool)
        await leave(pool)
        now, value = await seen(pool)
    assert (now is raw) == (chosen != "close")
    assert (value == before) == (chosen in ("on", "close"))
    assert len(spans.named("session_state.leak")) == (chosen == "report")


async def test_a_session_of_the_orm(cluster: Cluster) -> None:
    async with engine(cluster) as pool:
        _, before = await seen(pool)
        async with asyncio_of_sqlalchemy.AsyncSession(pool) as session:
            await session.execute(sqlalchemy.text(CHANGE))
            await session.commit()
            assert (await session.execute(sqlalchemy.text(VALUE))).scalar() == before, "commit() returns the connection"


async def test_a_task_that_is_cancelled_in_the_reset(cluster: Cluster) -> None:
    """The pool gets back a place, not the connection."""
    started = asyncio.Event()

    async def wait(state: Any, connection: Any) -> bool:
        started.set()
        await asyncio.sleep(30)
        return True

    async with engine(cluster) as pool:
        raw, before = await seen(pool)
        SessionStateTransferHandlers.set_reset_session_state_on_close_func(wait)
        try:
            task = asyncio.create_task(leave(pool))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        finally:
            SessionStateTransferHandlers.clear_reset_session_state_on_close_func()
        now, value = await seen(pool)
        assert (now is raw, value) == (False, before)
        assert pool.pool.checkedout() == 0


@pytest.mark.filterwarnings("ignore:The garbage collector")
async def test_the_garbage_collector(cluster: Cluster, spans) -> None:
    async with engine(cluster) as pool:
        raw, before = await seen(pool)
        connection = await pool.connect()
        await connection.exec_driver_sql(CHANGE)
        await connection.commit()
        del connection
        gc.collect()
        assert not spans.named("session_state.reset")
        now, value = await seen(pool)
        assert (now is raw, value) == (False, before)


async def test_a_transaction_lost_at_commit(cluster: Cluster) -> None:
    async with engine(cluster) as pool:
        async with pool.begin() as connection:
            await connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS lost_async (i int)")
            await connection.exec_driver_sql("DELETE FROM lost_async")
        with pytest.raises(sqlalchemy.exc.DBAPIError):
            async with pool.connect() as connection:
                await connection.exec_driver_sql("INSERT INTO lost_async VALUES (1)")
                number = await ask(connection, NUMBER)
                cluster.primary.sql(f"SELECT pg_terminate_backend({number})")
                left = f"SELECT 1 FROM pg_stat_activity WHERE pid = {number}"
                assert guard.wait_until(lambda: not cluster.primary.sql(left), 10)
                await connection.commit()
        async with pool.begin() as connection:
            await connection.exec_driver_sql("INSERT INTO lost_async VALUES (2)")
        async with pool.connect() as connection:
            assert await ask(connection, "SELECT count(*) FROM lost_async") == 1


async def test_a_new_connection_after_a_failover(cluster: Cluster, spans) -> None:
    async with engine(cluster, pool_size=2) as pool:
        await seen(pool)
        cluster.wait_streaming()
        cluster.failover()
        async with pool.connect() as first, pool.connect() as second:
            assert [await ask(first, "SELECT 1"), await ask(second, "SELECT 1")] == [1, 1]
    triggers = [span.attributes["instrumented_wrapper.trigger"] for span in spans.named("failover")]
    assert sorted(triggers) == ["connect", "connection_lost"]


async def test_the_verbs_take_what_an_app_holds(cluster: Cluster) -> None:
    async with engine(cluster, "off") as pool, pool.connect() as connection:
        before = await ask(connection, VALUE)
        await connection.exec_driver_sql(CHANGE)
        await connection.commit()
        proxied = await connection.get_raw_connection()
        for held in (connection, connection.sync_connection, proxied, proxied.dbapi_connection):
            assert str(session_state(held)["search_path"].value) == "pg_catalog"
        assert await reset_session_async(connection)
        assert await ask(connection, VALUE) == before
        await connection.rollback()
        await mark_pristine_async(connection)
