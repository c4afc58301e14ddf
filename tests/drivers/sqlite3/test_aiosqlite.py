"""What is special to aiosqlite: the app's context in the thread of a connection, and verbs that work in it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from instrumented_wrapper import (
    FailoverFailedError,
    mark_pristine_async,
    reset_session,
    reset_session_async,
    session_state,
    switch_async,
)

aiosqlite = pytest.importorskip("aiosqlite")
TRACER = TracerProvider().get_tracer("app")


async def pragma(connection: Any, name: str) -> Any:
    async with connection.execute(f"PRAGMA {name}") as cursor:
        return (await cursor.fetchone())[0]


async def test_spans_are_below_the_span_of_the_task_that_awaits(tmp_path: Path, spans) -> None:
    async def work(name: str) -> int:
        with TRACER.start_as_current_span(name) as span:
            async with aiosqlite.connect(tmp_path / f"{name}.db") as connection:
                await connection.execute("CREATE TABLE t (i int)")
                cursor = await connection.execute("PRAGMA foreign_keys = ON")
                await connection.execute_insert("INSERT INTO t VALUES (?)", (1,))
                await cursor.executemany("INSERT INTO t VALUES (?)", [(2,), (3,)])
                await connection.commit()
                await connection.executescript("SELECT 1; SELECT 2")
            return span.get_span_context().span_id

    for name, parent in zip("ab", await asyncio.gather(work("a"), work("b")), strict=True):
        made = [span for span in spans.all() if span.attributes.get("db.namespace", "").endswith(f"{name}.db")]
        assert {"INSERT t", "COMMIT", "session_state.reset"} < {span.name for span in made}
        assert {span.parent.span_id for span in made if "pristine" not in span.name} == {parent}
        assert all(span.parent is not None for span in made)


async def test_a_context_variable_of_the_app_is_visible_in_its_functions(tmp_path: Path) -> None:
    user: ContextVar[str] = ContextVar("user")
    async with aiosqlite.connect(tmp_path / "app.db") as connection:
        await connection.create_function("app_user", 0, user.get)
        user.set("ann")
        async with connection.execute("SELECT app_user()") as cursor:
            assert await cursor.fetchone() == ("ann",)


async def test_verbs_work_in_the_thread_of_the_connection(tmp_path: Path) -> None:
    async with aiosqlite.connect(tmp_path / "app.db") as connection:
        await connection.execute("PRAGMA busy_timeout = 250")
        assert str(session_state(connection)) == "busy_timeout: 5000 -> 250"
        await mark_pristine_async(connection)
        await connection.execute("PRAGMA busy_timeout = 99")
        await connection.execute("PRAGMA query_only = ON")
        assert await reset_session_async(connection)
        assert (await pragma(connection, "busy_timeout"), await pragma(connection, "query_only")) == (250, 0)
        with pytest.raises(TypeError, match="use the function ending in _async"):
            reset_session(connection)
        with pytest.raises(FailoverFailedError):
            await switch_async(connection)
        assert await pragma(connection, "busy_timeout") == 250
    assert session_state(connection) == {}
    with pytest.raises(ValueError, match="Connection closed"):
        await reset_session_async(connection)


async def test_a_reset_waits_for_its_turn(tmp_path: Path) -> None:
    async with aiosqlite.connect(tmp_path / "app.db") as connection:
        await connection.execute("PRAGMA busy_timeout = 250")
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) SELECT count(*) FROM n"
        counted, done = await asyncio.gather(connection.execute_fetchall(numbers), reset_session_async(connection))
        assert (list(counted), done) == ([(100000,)], True)
        assert await pragma(connection, "busy_timeout") == 5000


async def test_options_of_one_connection(tmp_path: Path, spans) -> None:
    ours = {"instrumented_wrapper": {"query_spans": "off"}, "reset_session_state_on_close": False}
    async with aiosqlite.connect(tmp_path / "app.db", **ours) as connection:
        await connection.execute("PRAGMA busy_timeout = 250")
        assert session_state(connection)["busy_timeout"].value == "250"
    assert not spans.named("session_state.reset")
    assert not [span for span in spans.all() if span.name.startswith("PRAGMA")]
