"""SQLAlchemy over the AWS driver, by the dialects that come with it: the pool has the driver's wrapper object."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy
from aws_advanced_python_wrapper.errors import FailoverSuccessError
from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from instrumented_wrapper import session_state
from tests.drivers.aws.app import App

SQLALCHEMY = tuple(map(int, sqlalchemy.__version__.split(".")[:2]))
_DIALECTS = {
    "psycopg": "postgresql+aws_wrapper_psycopg",
    "mysql.connector": "mysql+aws_wrapper_mysqlconnector",
    "aiomysql": "mysql+aws_wrapper_aiomysql",
}


@pytest.fixture(autouse=True)
def has_dialect(app: App) -> None:
    if app.is_async and SQLALCHEMY >= (2, 1):
        pytest.skip("its dialects for asyncio use what SQLAlchemy 2.1 has no more")


@contextmanager
def engine_of(app: App, **options: Any) -> Iterator[Any]:
    """An engine of one connection, sync or async."""
    create = create_async_engine if app.is_async else create_engine
    where = {"host": app.pair.primary.host, "port": int(app.pair.primary.port), "database": "app"}
    url = URL.create(_DIALECTS[app.driver], "app", "app-secret", **where)
    arguments = {"plugins": "failover_v2", "failover_timeout_sec": 30, **app.variant, **options}
    if options.pop("in_pool", None):
        arguments["instrumented_wrapper"] = {"reset_on_return": arguments.pop("in_pool")}
    engine = create(url, pool_size=1, max_overflow=0, isolation_level="AUTOCOMMIT", connect_args=arguments)
    yield engine


class Used:
    """A checked-out connection, sync or async."""

    def __init__(self, app: App, connection: Any) -> None:
        self._app, self._connection = app, connection

    async def run(self, text: str) -> list[Any]:
        result = self._connection.exec_driver_sql(text)
        result = await result if self._app.is_async else result
        return [tuple(row) for row in result] if result.returns_rows else []

    async def set_up(self) -> None:
        for text, _, _ in self._app.texts.values():
            await self.run(text)

    async def on_server(self) -> dict[str, Any]:
        return {name: (await self.run(question))[0][0] for name, (_, question, _) in self._app.texts.items()}

    def state(self) -> Any:
        return session_state(self._connection)


async def with_connection(app: App, engine: Any, use: Any) -> Any:
    if app.is_async:
        async with engine.connect() as connection:
            return await use(Used(app, connection))
    with engine.connect() as connection:
        return await use(Used(app, connection))


async def disposed(app: App, engine: Any) -> None:
    if app.is_async:
        await engine.dispose()
    else:
        engine.dispose()


def sync_engine(engine: Any) -> Engine:
    return getattr(engine, "sync_engine", engine)


async def test_the_session_follows_within_a_checkout(app):
    async def use(used: Used) -> None:
        await used.set_up()
        assert set(used.state()) >= set(app.settings)
        app.pair.failover()
        with pytest.raises((DBAPIError, FailoverSuccessError)):
            await used.run("SELECT 1")
        assert await used.on_server() == app.wanted()

    with engine_of(app) as engine:
        await with_connection(app, engine, use)
        await disposed(app, engine)


async def test_what_a_listener_sets_is_the_baseline_of_the_new_connection(app):
    name = app.settings[1]

    async def use(used: Used) -> None:
        assert (await used.on_server())[name] == app.wanted(name)[name]
        app.pair.failover()
        with pytest.raises((DBAPIError, FailoverSuccessError)):
            await used.run("SELECT 1")
        assert (await used.on_server())[name] == app.wanted(name)[name]
        assert name not in used.state() or used.state()[name].is_pristine

    def configure(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(app.texts[name][0])
        cursor.close()
        connection.commit()

    with engine_of(app) as engine:
        event.listen(sync_engine(engine), "connect", configure)
        await with_connection(app, engine, use)
        await disposed(app, engine)


@pytest.mark.parametrize("asked", ["on", "report"])
async def test_a_return_does_what_the_option_says(app, spans, asked):
    seen: list[dict[str, Any]] = []

    async def look(used: Used) -> None:
        seen.append(await used.on_server())

    async def use(used: Used) -> None:
        await used.set_up()

    with engine_of(app, in_pool=asked) as engine:
        await with_connection(app, engine, look)
        await with_connection(app, engine, use)
        await with_connection(app, engine, look)
        await disposed(app, engine)
    assert seen[1] == (seen[0] if asked == "on" else app.wanted())
    assert len(spans.named("session_state.leak")) == (0 if asked == "on" else 1)
