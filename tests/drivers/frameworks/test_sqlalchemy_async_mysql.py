"""SQLAlchemy's asyncio engines over aiomysql and asyncmy: pings, losses, returns, on MariaDB and MySQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError, session_state
from servers import guard

from ..mysql.server_session import make_table

sqlalchemy = pytest.importorskip("sqlalchemy")
pytest.importorskip("greenlet")
asyncio_of_sqlalchemy = pytest.importorskip("sqlalchemy.ext.asyncio")

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


@asynccontextmanager
async def engine(driver: str, pair: Any, chosen: str = "auto", **given: Any) -> AsyncIterator[Any]:
    server = pair.primary
    url = sqlalchemy.URL.create(f"mysql+{driver}", "app", "app-secret", server.host, server.port, "app")
    hosts = ",".join(f"{each.host}:{each.port}" for each in pair.servers)
    ours = {"failover_hosts": hosts, "reset_on_return": chosen}
    one = {"pool_size": 1, "max_overflow": 0, **given}
    made = asyncio_of_sqlalchemy.create_async_engine(url, connect_args={"instrumented_wrapper": ours}, **one)
    try:
        yield made
    finally:
        await made.dispose()


async def ask(connection: Any, sql: str) -> Any:
    return (await connection.exec_driver_sql(sql)).scalar()


async def own(connection: Any) -> Any:
    return (await connection.get_raw_connection()).driver_connection


async def end(pair: Any, number: int) -> None:
    def ended() -> None:
        pair.primary.sql(f"KILL {number}")
        left = f"SELECT 1 FROM information_schema.processlist WHERE id = {number}"
        assert guard.wait_until(lambda: not pair.primary.sql(left), 60)

    await asyncio.to_thread(ended)


@pytest.mark.parametrize("pings", [True, False])
async def test_a_loss_in_the_pool_says_nothing(driver, pair, pings: bool) -> None:
    async with engine(driver, pair, pool_pre_ping=pings) as pool:
        async with pool.connect() as connection:
            raw = await own(connection)
            number = await ask(connection, NUMBER)
        await end(pair, number)
        async with pool.connect() as connection:
            assert await own(connection) is raw
            assert await ask(connection, NUMBER) != number


async def test_a_transaction_that_is_lost_throws_no_pool_away(driver, pair) -> None:
    table = await asyncio.to_thread(make_table, pair)
    async with engine(driver, pair) as pool:
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
    async with engine(driver, pair, chosen) as pool:
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
    async with engine(driver, pair, "on") as pool:

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
    async with engine(driver, pair) as pool, pool.connect() as connection:
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
    async with engine(driver, pair) as pool, pool.connect() as connection:
        await connection.exec_driver_sql(f"INSERT INTO {table} VALUES (1)")
        nested = await connection.begin_nested()
        await connection.exec_driver_sql(f"INSERT INTO {table} VALUES (2)")
        await nested.rollback()
        assert await ask(connection, f"SELECT COUNT(*) FROM {table}") == 1
