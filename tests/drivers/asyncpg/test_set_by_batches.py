"""asyncpg: settings whose names are among the parameters of a batch, or in the query of a COPY."""

from __future__ import annotations

from typing import Any

import pytest

from instrumented_wrapper import session_state

from .conftest import App

SET = "SELECT set_config($1, $2, false)"
ROWS = [("app.one", "1"), ("app.two", "2"), ("app.one", "3")]


async def executed(connection: Any) -> None:
    await connection.executemany(SET, ROWS)


async def named(connection: Any) -> None:
    await connection.executemany(command=SET, args=tuple(ROWS))


async def prepared(connection: Any) -> None:
    await (await connection.prepare(SET)).executemany(ROWS)


async def copied(connection: Any) -> None:
    async def output(_: bytes) -> None:
        """Drop what comes."""

    query = "SELECT set_config('app.one', '3', false), set_config('app.two', '2', false)"
    await connection.copy_from_query(query, output=output)


@pytest.mark.parametrize("how", [executed, named, prepared, copied])
async def test_what_it_sets_is_carried_over(app: App, how: Any) -> None:
    connection = await app.connect()
    await how(connection)
    assert {name: state.value for name, state in session_state(connection).items()} == {"app.one": "3", "app.two": "2"}
    await app.end(connection)
    assert await connection.fetchval("SELECT current_setting('app.one') || current_setting('app.two')") == "32"
    await connection.close()
