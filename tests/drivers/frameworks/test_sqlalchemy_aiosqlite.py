"""SQLAlchemy's asyncio engines over aiosqlite: the baseline, returns, savepoints, spans."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from instrumented_wrapper import reset_session_async, session_state

sqlalchemy = pytest.importorskip("sqlalchemy")
pytest.importorskip("greenlet")
pytest.importorskip("aiosqlite")
TRACER = TracerProvider().get_tracer("app")
asyncio_of_sqlalchemy = pytest.importorskip("sqlalchemy.ext.asyncio")


@asynccontextmanager
async def engine(path: Path, chosen: str = "auto", **given: Any) -> AsyncIterator[Any]:
    ours = {"instrumented_wrapper": {"reset_on_return": chosen}}
    url = f"sqlite+aiosqlite:///{path / 'app.db'}"
    one = {
        "poolclass": sqlalchemy.AsyncAdaptedQueuePool,
        "pool_size": 1,
        "max_overflow": 0,
        "connect_args": ours,
        **given,
    }
    made = asyncio_of_sqlalchemy.create_async_engine(url, **one)

    @sqlalchemy.event.listens_for(made.sync_engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        connection.cursor().execute("PRAGMA foreign_keys = ON")

    try:
        yield made
    finally:
        await made.dispose()


async def ask(connection: Any, sql: str) -> Any:
    return (await connection.exec_driver_sql(sql)).scalar()


@pytest.mark.parametrize(("chosen", "left"), [("auto", 250), ("on", 5000), ("close", 5000), ("off", 250)])
async def test_a_return_does_what_the_option_says(tmp_path: Path, spans, chosen: str, left: int) -> None:
    async with engine(tmp_path, chosen) as pool:
        async with pool.connect() as connection:
            assert not session_state(connection)
            await connection.exec_driver_sql("PRAGMA busy_timeout = 250")
            raw = (await connection.get_raw_connection()).driver_connection
        assert len(spans.named("session_state.leak")) == (chosen == "auto")
        async with pool.connect() as connection:
            assert ((await connection.get_raw_connection()).driver_connection is raw) is (chosen != "close")
            assert await ask(connection, "PRAGMA busy_timeout") == left
            assert await ask(connection, "PRAGMA foreign_keys") == 1


async def test_an_isolation_level_of_one_checkout_is_put_back(tmp_path: Path, spans) -> None:
    with TRACER.start_as_current_span("app"):
        async with engine(tmp_path, "on") as pool:
            async with pool.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                assert session_state(connection)["isolation_level"].value is None
            async with pool.connect() as connection:
                assert session_state(connection)["isolation_level"].is_pristine
    assert [span.name for span in spans.all() if span.parent is None] == []


async def test_savepoints_and_sessions(tmp_path: Path, spans) -> None:
    async with engine(tmp_path) as pool:
        with TRACER.start_as_current_span("app") as app:
            async with asyncio_of_sqlalchemy.AsyncSession(pool) as session, session.begin():
                await session.execute(sqlalchemy.text("CREATE TABLE t (i int)"))
                with pytest.raises(sqlalchemy.exc.OperationalError):
                    async with session.begin_nested():
                        await session.execute(sqlalchemy.text("INSERT INTO t VALUES (1)"))
                        await session.execute(sqlalchemy.text("SELECT nothing"))
                await session.execute(sqlalchemy.text("INSERT INTO t VALUES (2)"))
        inserts = [span for span in spans.all() if span.name == "INSERT t"]
        assert [span.parent.span_id for span in inserts] == [app.get_span_context().span_id] * 2
        async with pool.connect() as connection:
            assert await ask(connection, "SELECT group_concat(i) FROM t") in (2, "2")


async def test_verbs_take_connections_of_sqlalchemy(tmp_path: Path) -> None:
    async with engine(tmp_path) as pool, pool.connect() as connection:
        await connection.exec_driver_sql("PRAGMA busy_timeout = 250")
        await connection.rollback()
        assert str(session_state(connection)) == "busy_timeout: 5000 -> 250"
        assert await reset_session_async(connection)
        assert await ask(connection, "PRAGMA busy_timeout") == 5000


async def test_a_task_that_is_cancelled_at_its_return(tmp_path: Path) -> None:
    async with engine(tmp_path, "on") as pool:

        async def work(started: asyncio.Event) -> None:
            async with pool.connect() as connection:
                await connection.exec_driver_sql("PRAGMA busy_timeout = 250")
                started.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(work(started := asyncio.Event()))
        await started.wait()
        task.cancel()
        await asyncio.wait([task])
        async with pool.connect() as connection:
            assert await ask(connection, "PRAGMA busy_timeout") == 5000
