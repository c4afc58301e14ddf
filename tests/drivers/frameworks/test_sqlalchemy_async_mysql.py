"""SQLAlchemy's asyncio engines over aiomysql and asyncmy: pings, losses, returns, on MariaDB and MySQL."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError, session_state

from ..mysql.server_session import make_table
from .asyncio_engines import ask, asyncio_engine, end, own, sqlalchemy

NUMBER, TENANT = "SELECT CONNECTION_ID()", "SELECT @tenant"


@pytest.fixture(params=["MariaDB", "MySQL"])
def pair(request: pytest.FixtureRequest) -> Any:
    running = request.getfixturevalue(f"running_{request.param.lower()}")
    running.restore()
    return running


@pytest.fixture(params=["aiomysql", "asyncmy"])
def driver(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("pings", [True, False])
async def test_a_loss_in_the_pool_says_nothing(driver, pair, pings: bool) -> None:
    async with asyncio_engine(f"mysql+{driver}", pair, pool_pre_ping=pings) as pool:
        async with pool.connect() as connection:
            raw = await own(connection)
            number = await ask(connection, NUMBER)
        await end(pair, number)
        async with pool.connect() as connection:
            assert await own(connection) is raw
            assert await ask(connection, NUMBER) != number


async def test_a_ping_leaves_it_to_the_pool_to_connect_anew(driver, pair) -> None:
    """With failover off, ``pool_pre_ping`` replaces a lost connection, as without the wrapper."""
    async with asyncio_engine(f"mysql+{driver}", pair, ours={"failover": "off"}, pool_pre_ping=True) as pool:
        made = []
        sqlalchemy.event.listen(pool.sync_engine, "connect", lambda raw, _: made.append(raw))
        async with pool.connect() as connection:
            raw, number = await own(connection), await ask(connection, NUMBER)
        await end(pair, number)
        async with pool.connect() as connection:
            assert await own(connection) is not raw
        async with pool.connect() as connection:
            (await own(connection)).close()
        async with pool.connect() as connection:
            assert await ask(connection, "SELECT 1") == 1
    assert len(made) == 3


async def test_a_transaction_that_is_lost_throws_no_pool_away(driver, pair) -> None:
    table = await asyncio.to_thread(make_table, pair)
    async with asyncio_engine(f"mysql+{driver}", pair) as pool:
        async with pool.connect() as connection:
            raw = await own(connection)
            await connection.exec_driver_sql(f"INSERT INTO {table} VALUES (1)")
            await end(pair, await ask(connection, NUMBER))
            with pytest.raises(sqlalchemy.exc.OperationalError) as caught:
                await connection.exec_driver_sql(f"INSERT INTO {table} VALUES (2)")
            assert isinstance(caught.value.orig, FailoverSuccessError)
            assert not caught.value.connection_invalidated
            await connection.rollback()
            assert await ask(connection, "SELECT 1") == 1
        async with pool.connect() as connection:
            assert await own(connection) is raw


@pytest.mark.parametrize("chosen", ["on", "report"])
async def test_a_return(driver, pair, spans, chosen: str) -> None:
    async with asyncio_engine(f"mysql+{driver}", pair, chosen) as pool:
        async with pool.connect() as connection:
            raw = await own(connection)
            await connection.exec_driver_sql("SET @tenant = 'acme'")
            assert await ask(connection, TENANT) == "acme"  # asked for before: SQLAlchemy has set the collation
            assert session_state(raw)["@tenant"].value == "acme"
        async with pool.connect() as connection:
            assert await own(connection) is raw
            assert await ask(connection, TENANT) == (None if chosen == "on" else "acme")
    assert len(spans.named("session_state.leak")) == (chosen == "report")


async def test_what_a_listener_sets_is_the_baseline(driver, pair) -> None:
    async with asyncio_engine(f"mysql+{driver}", pair, "on") as pool:

        @sqlalchemy.event.listens_for(pool.sync_engine, "connect")
        def configure(connection: Any, record: Any) -> None:
            cursor = connection.cursor()
            cursor.execute("SET time_zone = '+03:00'")
            cursor.close()

        async with pool.connect() as connection:
            assert dict(session_state(await own(connection))) == {}
            await connection.exec_driver_sql("SET time_zone = '+04:00'")
            await end(pair, await ask(connection, NUMBER))
            assert await ask(connection, "SELECT @@time_zone") == "+04:00"
        async with pool.connect() as connection:
            assert await ask(connection, "SELECT @@time_zone") == "+03:00"


async def test_a_savepoint_that_is_lost_shows_the_loss_until_a_rollback(driver, pair) -> None:
    table = await asyncio.to_thread(make_table, pair)
    async with asyncio_engine(f"mysql+{driver}", pair) as pool, pool.connect() as connection:
        raw = await own(connection)
        await connection.exec_driver_sql(f"INSERT INTO {table} VALUES (1)")
        with pytest.raises(sqlalchemy.exc.OperationalError) as caught:
            async with connection.begin_nested():
                await end(pair, await ask(connection, NUMBER))
                await connection.exec_driver_sql(f"INSERT INTO {table} VALUES (2)")
        assert isinstance(caught.value.orig, FailoverSuccessError)
        assert not caught.value.connection_invalidated
        await connection.rollback()
        assert await own(connection) is raw
        assert await ask(connection, f"SELECT COUNT(*) FROM {table}") == 0


async def test_a_savepoint_is_rolled_back(driver, pair) -> None:
    table = await asyncio.to_thread(make_table, pair)
    async with asyncio_engine(f"mysql+{driver}", pair) as pool, pool.connect() as connection:
        await connection.exec_driver_sql(f"INSERT INTO {table} VALUES (1)")
        nested = await connection.begin_nested()
        await connection.exec_driver_sql(f"INSERT INTO {table} VALUES (2)")
        await nested.rollback()
        assert await ask(connection, f"SELECT COUNT(*) FROM {table}") == 1
