"""What the app has set on its objects is there after a switch, and what cannot be is named."""

from __future__ import annotations

import asyncio
import select
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row, namedtuple_row
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.json import set_json_loads

from instrumented_wrapper import FailoverSuccessError, switch, switch_async

from ..side import Side, done, rows
from ..watch import Watch

pytestmark = pytest.mark.parametrize("how", ["planned", "lost"])


async def move(side: Side, watch: Watch, connection: Any, how: str) -> None:
    """Replace the session beneath the connection; a loss is found by the next statement."""
    if how == "planned":
        await (switch_async(connection) if side.is_async else done(switch(connection)))
    else:
        watch.sql(f"SELECT pg_terminate_backend({connection.info.backend_pid})")
        assert await asyncio.to_thread(select.select, [connection.fileno()], [], [], 10)


@pytest.fixture
def options() -> dict[str, Any]:
    return {"autocommit": True}


async def test_notice_and_notify_handlers(side: Side, watch: Watch, how: str, options: Any) -> None:
    connection = await side.connect(watch.dsn(), **options)
    notices, notifications = [], []
    connection.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary))
    connection.add_notify_handler(lambda notification: notifications.append(notification.payload))
    await move(side, watch, connection, how)
    await done(connection.execute("SELECT 1"))
    notices.clear()  # the last words of the old server
    await done(connection.execute("DO $$ BEGIN RAISE NOTICE 'heard'; END $$"))
    await done(connection.execute("LISTEN news"))
    await done(connection.execute("NOTIFY news, 'read'"))
    assert (notices, notifications) == (["heard"], ["read"])


async def test_a_lost_listen_is_named(side: Side, watch: Watch, how: str, options: Any) -> None:
    connection = await side.connect(watch.dsn(), **options)
    await done(connection.execute("LISTEN news"))
    with pytest.raises(FailoverSuccessError) as told:
        await move(side, watch, connection, how)
        await done(connection.execute("SELECT 1"))
    assert told.value.not_restored == ("LISTEN",)
    assert await rows(connection, "SELECT pg_listening_channels()") == []


async def test_notifies_after_a_switch(side: Side, watch: Watch, how: str, options: Any) -> None:
    connection = await side.connect(watch.dsn(), **options)
    await move(side, watch, connection, how)
    await done(connection.execute("LISTEN news"))
    watch.sql("NOTIFY news, 'one'")
    heard = connection.notifies(timeout=10, stop_after=1)
    found = [n async for n in heard] if side.is_async else list(heard)
    assert [n.payload for n in found] == ["one"]


@pytest.mark.parametrize("way", ["prepare", "threshold"])
async def test_statements_are_prepared_anew(side: Side, watch: Watch, how: str, options: Any, way: str) -> None:
    connection = await side.connect(watch.dsn(), prepare_threshold=2, **options)
    prepare = True if way == "prepare" else None
    count = "SELECT count(*) FROM pg_prepared_statements"
    for before in (True, False):
        for number in range(4):
            cursor = await done(connection.execute("SELECT %s::int", [number], prepare=prepare))
            assert await done(cursor.fetchone()) == (number,)
        assert (await done((await done(connection.execute(count, prepare=False))).fetchone())) == (1,)
        if before:
            await move(side, watch, connection, how)
    assert connection.prepare_threshold == 2


async def test_limits_of_preparing(side: Side, watch: Watch, how: str, options: Any) -> None:
    connection = await side.connect(watch.dsn(), **options)
    connection.prepare_threshold, connection.prepared_max = None, 3
    await move(side, watch, connection, how)
    for _ in range(8):
        await done(connection.execute("SELECT %s::int", [1]))
    assert await rows(connection, "SELECT count(*) FROM pg_prepared_statements") == [(0,)]
    assert (connection.prepare_threshold, connection.prepared_max) == (None, 3)


async def test_row_and_cursor_factories_survive_a_switch(side: Side, watch: Watch, how: str, options: Any) -> None:
    kind = psycopg.AsyncClientCursor if side.is_async else psycopg.ClientCursor
    connection = await side.connect(watch.dsn(), row_factory=dict_row, cursor_factory=kind, **options)
    old = connection.cursor(row_factory=namedtuple_row)
    await move(side, watch, connection, how)
    await done(old.execute("SELECT 1 AS one"))
    assert (await done(old.fetchone())).one == 1
    assert type(connection.cursor()) is kind
    assert await rows(connection, "SELECT 1 AS one") == [{"one": 1}]


async def test_adapters_of_the_app_survive_a_switch(side: Side, watch: Watch, how: str, options: Any) -> None:
    connection = await side.connect(watch.dsn(), **options)
    set_json_loads(lambda text: ("json", bytes(text)), connection)
    watch.sql(f"CREATE TYPE {watch.table}_mood AS ENUM ('sad', 'happy')")
    info = await done(EnumInfo.fetch(connection, f"{watch.table}_mood"))
    register_enum(info, connection)
    await move(side, watch, connection, how)
    found = await rows(connection, f"SELECT 'happy'::{watch.table}_mood, '[1]'::json")
    assert (found[0][0].name, found[0][1]) == ("happy", ("json", b"[1]"))


async def test_old_cursors(side: Side, watch: Watch, how: str, options: Any) -> None:
    connection = await side.connect(watch.dsn(), **options)
    fetched, unused = connection.cursor(), connection.cursor()
    await done(fetched.execute("SELECT generate_series(1, 3)"))
    assert await done(fetched.fetchone()) == (1,)
    await move(side, watch, connection, how)
    await done(unused.execute("SELECT 1"))
    assert await done(fetched.fetchall()) == [(2,), (3,)]
    assert fetched.rowcount == 3
    await done(fetched.execute("SELECT 'again'"))
    assert await done(fetched.fetchone()) == ("again",)
    await done(fetched.executemany(f"INSERT INTO {watch.table} VALUES (%s)", [("a",), ("b",)]))
    assert watch.words() == ["a", "b"]


async def test_the_rest_of_the_api(side: Side, watch: Watch, how: str, options: Any) -> None:
    connection = await side.connect(watch.dsn(), **options)
    await move(side, watch, connection, how)
    await done(connection.execute("SELECT 1"))
    info = connection.info
    assert str(info.backend_pid) in watch.sessions()
    assert (info.port, info.user, info.dbname) == (watch.cluster.primary.port, "app", "app")
    assert info.status == psycopg.pq.ConnStatus.OK
    assert not connection.closed and not connection.broken
    assert psycopg.sql.Identifier('a"b').as_string(connection) == '"a""b"'
    connection.cancel()
    assert await rows(connection, "SELECT 1") == [(1,)]
