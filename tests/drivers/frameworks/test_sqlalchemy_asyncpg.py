"""SQLAlchemy's asyncio engines over asyncpg: pings, losses, savepoints, returns, on a real primary and standby."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from instrumented_wrapper import FailoverFailedError, FailoverSuccessError, session_state
from servers import Cluster

from .asyncio_engines import ask, asyncio_engine, end, own, sqlalchemy

asyncpg = pytest.importorskip("asyncpg")

NUMBER, TENANT = "SELECT pg_backend_pid()", "SELECT current_setting('app.tenant', true)"
SET_TENANT = "SET app.tenant = 'acme'"


engine = partial(asyncio_engine, "postgresql+asyncpg")


def heard(pool: Any) -> list[str]:
    """Return what happens to the connections of the pool from now on."""
    found: list[str] = []
    for name in ("connect", "close", "invalidate", "soft_invalidate", "close_detached"):
        sqlalchemy.event.listen(pool.sync_engine, name, lambda *given, name=name: found.append(name))
    return found


@pytest.mark.parametrize("pings", [True, False])
async def test_a_loss_in_the_pool_says_nothing(cluster: Cluster, pings: bool) -> None:
    async with engine(cluster, pool_pre_ping=pings) as pool:
        async with pool.connect() as connection:
            raw, number = await own(connection), await ask(connection, NUMBER)
        events = heard(pool)
        await end(cluster, number)
        async with pool.connect() as connection:
            assert await own(connection) is raw
            assert await ask(connection, NUMBER) != number
        assert events == []


async def test_a_failover_keeps_each_connection(cluster: Cluster) -> None:
    async with engine(cluster, pool_size=5) as pool:
        held = [await pool.connect() for _ in range(5)]
        raws = [await own(connection) for connection in held]
        for number, connection in enumerate(held):
            await connection.exec_driver_sql(f"SET app.tenant = 'tenant {number}'")
            await connection.commit()
        events = heard(pool)
        cluster.wait_streaming()
        await asyncio.to_thread(cluster.failover)
        found = await asyncio.gather(*(ask(connection, TENANT) for connection in held))
        assert found == [f"tenant {number}" for number in range(5)]
        assert [await own(connection) for connection in held] == raws
        assert events == []
        for connection in held:
            await connection.close()


async def test_a_transaction_that_is_lost_throws_no_pool_away(cluster: Cluster) -> None:
    async with engine(cluster) as pool:
        async with pool.connect() as connection:
            raw = await own(connection)
            events = heard(pool)
            await end(cluster, await ask(connection, NUMBER))
            with pytest.raises(sqlalchemy.exc.DBAPIError) as caught:
                await connection.exec_driver_sql("SELECT 2")
            lost = caught.value.orig.__cause__
            assert isinstance(lost, FailoverSuccessError)
            assert (lost.transaction, lost.may_have_run) == ("rolled_back", False)
            assert not caught.value.connection_invalidated
            await connection.rollback()
            assert await ask(connection, "SELECT 1") == 1
        async with pool.connect() as connection:
            assert await own(connection) is raw
        assert events == []


async def test_a_savepoint_of_a_transaction_that_is_lost(cluster: Cluster) -> None:
    async with engine(cluster) as pool, pool.connect() as connection:
        with pytest.raises(sqlalchemy.exc.DBAPIError) as caught:
            async with connection.begin():
                number = await ask(connection, NUMBER)
                async with connection.begin_nested():
                    await end(cluster, number)
                    await connection.exec_driver_sql("SELECT 1")
        assert isinstance(caught.value.orig.__cause__, FailoverSuccessError)
        async with connection.begin():
            assert await ask(connection, "SELECT 1") == 1


async def test_a_session_goes_on_after_a_savepoint(cluster: Cluster) -> None:
    async with engine(cluster) as pool, pool.connect() as connection:
        async with connection.begin():
            with pytest.raises(sqlalchemy.exc.DBAPIError):
                async with connection.begin_nested():
                    await connection.exec_driver_sql(SET_TENANT)
                    await connection.exec_driver_sql("SELECT 1/0")
            assert await ask(connection, TENANT) in (None, "")
        raw = await own(connection)
        assert dict(session_state(raw)) == {} or session_state(raw)["app.tenant"].is_pristine


async def test_a_commit_of_a_transaction_that_is_lost(cluster: Cluster) -> None:
    async with engine(cluster) as pool:
        with pytest.raises(sqlalchemy.exc.DBAPIError) as caught:
            async with pool.begin() as connection:
                await end(cluster, await ask(connection, NUMBER))
        assert isinstance(caught.value.orig.__cause__, FailoverSuccessError)
        async with pool.begin() as connection:
            assert await ask(connection, "SELECT 1") == 1


async def test_a_switch_that_fails_invalidates_the_connection(cluster: Cluster) -> None:
    nowhere = {"failover": "on", "failover_hosts": "127.0.0.1:9", "failover_timeout": 0.2}
    async with engine(cluster, ours=nowhere) as pool:
        async with pool.connect() as connection:
            raw = await own(connection)
            await connection.commit()
            await end(cluster, raw.get_server_pid())
            with pytest.raises(sqlalchemy.exc.DBAPIError) as caught:
                await connection.exec_driver_sql("SELECT 1")
            assert isinstance(caught.value.orig.__cause__, FailoverFailedError)
            assert caught.value.connection_invalidated
        async with pool.connect() as connection:
            assert await own(connection) is not raw
            assert await ask(connection, "SELECT 1") == 1


@pytest.mark.parametrize("chosen", ["on", "close", "report", "off"])
async def test_a_return(cluster: Cluster, spans, chosen: str) -> None:
    async with engine(cluster, chosen) as pool:
        async with pool.begin() as connection:
            raw = await own(connection)
            await connection.exec_driver_sql(SET_TENANT)
            assert session_state(raw)["app.tenant"].value == "acme"
        async with pool.connect() as connection:
            assert (await own(connection) is raw) == (chosen != "close")
            assert (await ask(connection, TENANT) == "acme") == (chosen in ("report", "off"))
    assert len(spans.named("session_state.leak")) == (chosen == "report")


async def test_what_a_listener_sets_is_the_baseline(cluster: Cluster) -> None:
    async with engine(cluster, "on") as pool:

        @sqlalchemy.event.listens_for(pool.sync_engine, "connect")
        def configure(connection: Any, record: Any) -> None:
            cursor = connection.cursor()
            cursor.execute("SET TimeZone = 'Asia/Tokyo'")
            cursor.close()
            connection.commit()

        async with pool.connect() as connection:
            assert dict(session_state(await own(connection))) == {}
            await connection.exec_driver_sql("SET TimeZone = 'Asia/Seoul'")
            await connection.commit()
            await end(cluster, (await own(connection)).get_server_pid())
            assert await ask(connection, "SHOW TimeZone") == "Asia/Seoul"
        async with pool.connect() as connection:
            assert await ask(connection, "SHOW TimeZone") == "Asia/Tokyo"


@pytest.mark.parametrize("level", ["SERIALIZABLE", "AUTOCOMMIT"])
async def test_an_isolation_level_of_the_adapter_stays(cluster: Cluster, level: str) -> None:
    shown = "SHOW transaction_isolation"
    async with engine(cluster) as pool, pool.connect() as connection:
        await connection.execution_options(isolation_level=level)
        before = await ask(connection, shown)
        await connection.commit()
        await end(cluster, (await own(connection)).get_server_pid())
        assert await ask(connection, shown) == before
        assert (before == "serializable") == (level == "SERIALIZABLE")


async def test_a_server_side_cursor(cluster: Cluster) -> None:
    async with engine(cluster) as pool, pool.connect() as connection:
        found = []
        async with connection.stream(sqlalchemy.text("SELECT generate_series(1, 500)")) as result:
            async for row in result:
                found.append(row[0])
        assert found == list(range(1, 501))
        await connection.commit()


async def test_a_task_that_is_cancelled_in_a_statement(cluster: Cluster, spans) -> None:
    async with engine(cluster) as pool:
        async with pool.connect() as connection:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await connection.exec_driver_sql("SELECT pg_sleep(60)")
        async with pool.connect() as connection:
            assert await ask(connection, "SELECT 1") == 1
    assert spans.named("failover") == []
