"""Custom settings whose names no text spells: the server does not list them, so what may have set one is remembered."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

import instrumented_wrapper
from instrumented_wrapper import FailoverSuccessError

from ..side import Side, done, rows
from ..watch import Watch

WAYS: list[tuple[str, Any]] = [
    ("SELECT set_config('app.' || 'tenant', 'x', false)", None),
    ("SELECT set_config(%s || %s, 'x', false)", ["app.", "tenant"]),
    ("DO $$ BEGIN EXECUTE format('SET %%I.tenant = %%L', 'app', 'x'); END $$", None),
    ("DO $$ DECLARE n text := 'SET app.tenant = 1'; BEGIN EXECUTE n; END $$", None),
    ("SELECT walk.nameless('tenant', 'x')", None),
]
ways = pytest.mark.parametrize("way", WAYS, ids=[text[:40] for text, _ in WAYS])


def test_the_ways_do_set_it(superuser: str) -> None:
    for text, parameters in WAYS:
        with psycopg.connect(superuser, autocommit=True) as connection:
            connection.execute(text if parameters else text.replace("%%", "%"), parameters)
            assert connection.execute("SHOW app.tenant").fetchone() in [("x",), ("1",)]


@ways
async def test_a_reset_takes_it_away(side: Side, superuser: str, way: tuple[str, Any], spans: Any) -> None:
    pool = await side.pool(superuser, configure=side.callback(_configured))
    connection = await done(pool.getconn())
    await done(connection.execute(way[0] if way[1] else way[0].replace("%%", "%"), way[1]))
    await done(connection.execute("SET work_mem = '5MB'"))
    await done(connection.commit())
    await done(pool.putconn(connection))
    assert await done(pool.getconn()) is connection
    assert await rows(connection, "SELECT current_setting('app.tenant')") == [("",)]
    assert await rows(connection, "SELECT current_setting('work_mem')") == [("4MB",)]
    assert await rows(connection, "SELECT current_setting('app.kept')") == [("kept",)], (
        "RESET ALL takes the baseline too"
    )
    (span,) = spans.named("session_state.reset")
    assert span.attributes["instrumented_wrapper.round_trips"] == 1
    await done(pool.putconn(connection))


async def _configured(connection: Any) -> None:
    await done(connection.execute("SET app.kept = 'kept'"))
    await done(connection.commit())


@ways
async def test_a_switch_names_it(side: Side, superuser: str, way: tuple[str, Any]) -> None:
    connection = await side.connect(superuser, autocommit=True)
    await done(connection.execute(way[0] if way[1] else way[0].replace("%%", "%"), way[1]))
    verb = instrumented_wrapper.switch_async if side.is_async else instrumented_wrapper.switch
    with pytest.raises(FailoverSuccessError) as told:
        await done(verb(connection))
    assert told.value.not_restored == ("custom settings",)


async def test_reset_all_ends_it(side: Side, superuser: str, spans: Any) -> None:
    connection = await side.connect(superuser, autocommit=True)
    await done(connection.execute("SELECT set_config('app.' || 'tenant', 'x', false)"))
    await done(connection.execute("RESET ALL"))
    await done(connection.close())
    assert not spans.named("session_state.reset")


async def test_what_configure_set_so_is_left_alone(side: Side, superuser: str) -> None:
    """It is the baseline, and nobody could put it back."""

    async def configure(connection: Any) -> None:
        await done(connection.execute("SELECT set_config('app.' || 'tenant', 'base', false)"))
        await done(connection.commit())

    pool = await side.pool(superuser, configure=side.callback(configure))
    connection = await done(pool.getconn())
    await done(connection.execute("SET work_mem = '5MB'"))
    await done(connection.commit())
    await done(pool.putconn(connection))
    assert await done(pool.getconn()) is connection
    assert await rows(connection, "SELECT current_setting('app.tenant')") == [("base",)]
    await done(pool.putconn(connection))


def test_a_function_that_is_replaced_is_asked_for_again(superuser: str, watch: Watch) -> None:
    with psycopg.connect(superuser, autocommit=True) as connection:
        for body, value in [("SELECT 1", None), ("SELECT set_config('app.replaced', 'x', false)::text", "x")]:
            connection.execute("DROP FUNCTION IF EXISTS walk.replaced()")
            returns = "int" if value is None else "text"
            connection.execute(f"CREATE FUNCTION walk.replaced() RETURNS {returns} LANGUAGE sql AS $${body}$$")
            connection.execute("SELECT walk.replaced()")
            state = instrumented_wrapper.session_state(connection)
            assert ("app.replaced" in state) == (value is not None)
