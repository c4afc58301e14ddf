"""psycopg: whatever would use a session without its role, tenant or schema is refused; asked from the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql

from instrumented_wrapper import FailoverSuccessError, SessionStateTransferHandlers, TransactionResolutionUnknownError

from ..side import Side, done, inside, listed, rows

# As behind a pooler: nothing that SQL sets is carried over.
ON = {"instrumented_wrapper": {"failover": "on", "pooler": "transaction"}}
SESSION = ("SET app.tenant = 'seven'", "SET search_path = walk", "SET ROLE walk_other")
LOST = {"app.tenant", "search_path", "role"}


@pytest.fixture
def administrator(superuser: str) -> Any:
    with psycopg.connect(superuser, autocommit=True) as connection:
        for role in ("walk_other", "walk_tenant"):
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
        yield connection


def end(administrator: Any, connection: Any) -> None:
    """End the session and wait until it is gone."""
    assert administrator.execute("SELECT pg_terminate_backend(%s, 10000)", [connection.info.backend_pid]).fetchone()[0]


async def lost(side: Side, conninfo: str, administrator: Any, *texts: str, **keywords: Any) -> Any:
    """Return a connection whose session was lost with all that `texts` have set."""
    connection = await side.connect(conninfo, autocommit=True, **(ON | keywords))
    for text in texts or SESSION:
        await done(connection.execute(text))
    end(administrator, connection)
    with pytest.raises(FailoverSuccessError) as told:
        await done(connection.execute("SELECT 1 AS refused"))
    assert texts or set(told.value.not_restored) == LOST
    return connection


async def refused(call: Callable[[], Awaitable[Any] | Any]) -> None:
    with pytest.raises(FailoverSuccessError) as told:
        await done(call())
    assert set(told.value.not_restored) == LOST
    assert (told.value.transaction, told.value.may_have_run) == ("none", False)


async def _copied(connection: Any) -> None:
    async with inside(connection.cursor().copy("COPY (SELECT 1 AS refused) TO STDOUT")) as copy:
        await listed(copy)


async def _streamed(connection: Any) -> None:
    await listed(connection.cursor().stream("SELECT 1 AS refused"))


async def _in_a_pipeline(connection: Any) -> None:
    async with inside(connection.pipeline()):
        await done(connection.execute("SET app.tenant = 'eight'"))
        await done(connection.execute("SELECT 1 AS refused"))


async def _in_a_block(connection: Any) -> None:
    async with inside(connection.transaction()):
        await done(connection.execute("SELECT 1 AS refused"))


async def _by_a_server_cursor(connection: Any) -> None:
    async with inside(connection.transaction()), inside(connection.cursor("named")) as cursor:
        await done(cursor.execute("SELECT 1 AS refused"))


WAYS: dict[str, Callable[[Any], Any]] = {
    "execute": lambda connection: connection.execute("SELECT 1 AS refused"),
    "bytes": lambda connection: connection.execute(b"SELECT 1 AS refused"),
    "composed": lambda connection: connection.execute(sql.SQL("SELECT {} AS refused").format(1)),
    "parameters": lambda connection: connection.execute("SELECT %s AS refused", [1]),
    "nothing": lambda connection: connection.execute(""),
    "several": lambda connection: connection.execute("SET app.tenant = 'x'; SELECT 1 AS refused"),
    "several, late": lambda connection: connection.execute(
        "SELECT 1 AS refused; SET app.tenant = 'x'; SET search_path = walk"
    ),
    "other settings": lambda connection: connection.execute("SELECT set_config(%s, 'x', false)", ["app.other"]),
    "executemany": lambda connection: connection.cursor().executemany("SELECT %s AS refused", [(1,), (2,)]),
    "returning": lambda connection: connection.cursor().executemany(
        "SELECT %s AS refused", [(1,), (2,)], returning=True
    ),
    "COPY": _copied,
    "stream": _streamed,
    "pipeline": _in_a_pipeline,
    "block": _in_a_block,
    "server cursor": _by_a_server_cursor,
    "COMMIT": lambda connection: connection.execute("COMMIT"),
    "prepared": lambda connection: connection.execute("PREPARE p AS SELECT 1"),
    "code": lambda connection: connection.execute("DO $$ BEGIN PERFORM 1 AS refused; END $$"),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_nothing_passes(side: Side, superuser: str, administrator: Any, way: Any) -> None:
    connection = await lost(side, superuser, administrator)
    pid = connection.info.backend_pid
    for _ in range(2):
        await refused(lambda: way(connection))
        await done(connection.rollback())
    ran = administrator.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()[0]
    assert "refused" not in ran
    for text in SESSION:
        await done(connection.execute(text))
    assert await rows(connection, "SELECT 1 AS refused") == [(1,)]


SETTERS = (
    SESSION,
    tuple(reversed(SESSION)),
    ("; ".join(SESSION),),
    ("; ".join((*SESSION, "SELECT 1 AS refused")),),
    ("RESET ROLE", "RESET ALL"),
    ("SET SESSION AUTHORIZATION DEFAULT; SET ROLE NONE; RESET search_path; RESET app.tenant",),
    ("DISCARD ALL",),
    (
        "SELECT set_config('app.tenant', 'seven', false), pg_catalog.set_config('search_path', 'walk', false)",
        "SELECT set_config('role', 'walk_other', false)",
    ),
    ("DO $$ BEGIN SET app.tenant = 'x'; SET search_path = walk; SET ROLE walk_other; END $$",),
    ("BEGIN", *SESSION, "COMMIT"),
)


@pytest.mark.parametrize("texts", SETTERS)
async def test_what_sets_passes(side: Side, superuser: str, administrator: Any, texts: tuple[str, ...]) -> None:
    connection = await lost(side, superuser, administrator)
    for text in texts:
        await done(connection.execute(text))
    assert await rows(connection, "SELECT 1 AS refused") == [(1,)]


async def test_parameters_set(side: Side, superuser: str, administrator: Any) -> None:
    connection = await lost(side, superuser, administrator)
    setting = "SELECT set_config(%s, %s, false)"
    for given in (("app.tenant", "seven"), ("search_path", "walk")):
        await done(connection.execute(setting, given))
        await refused(lambda: connection.execute("SELECT 1 AS refused"))
    await done(connection.execute("SELECT set_config(%(name)s, %(value)s, false)", {"name": "role", "value": "none"}))
    assert await rows(connection, "SELECT 1 AS refused") == [(1,)]


async def test_a_function_sets(side: Side, superuser: str, administrator: Any) -> None:
    body = "BEGIN PERFORM set_config('app.tenant', given, false); END"
    administrator.execute(
        f"CREATE OR REPLACE FUNCTION walk_sets(given text) RETURNS void LANGUAGE plpgsql AS $$ {body} $$"
    )
    connection = await lost(side, superuser, administrator, "SELECT walk_sets('seven')")
    with pytest.raises(FailoverSuccessError):
        await done(connection.execute("SELECT 1 AS refused"))
    await done(connection.execute("SELECT walk_sets('eight')"))
    assert await rows(connection, "SHOW app.tenant") == [("eight",)]


async def test_a_transaction_that_sets(side: Side, superuser: str, administrator: Any) -> None:
    connection = await lost(side, superuser, administrator)
    await done(connection.set_autocommit(True))
    async with inside(connection.transaction(force_rollback=True)):
        for text in SESSION:
            await done(connection.execute(text))
        assert await rows(connection, "SHOW app.tenant") == [("seven",)]
        async with inside(connection.transaction(force_rollback=True)):
            await done(connection.execute("SET app.other = 'x'"))
        assert await rows(connection, "SHOW app.tenant") == [("seven",)]
    await refused(lambda: connection.execute("SELECT 1 AS refused"))
    async with inside(connection.transaction()):
        async with inside(connection.transaction(force_rollback=True)):
            for text in SESSION:
                await done(connection.execute(text))
        await refused(lambda: connection.execute("SELECT 1 AS refused"))
        for text in SESSION:
            await done(connection.execute(text.replace("SET ", "SET LOCAL ")))
        assert await rows(connection, "SHOW app.tenant") == [("seven",)]
    await refused(lambda: connection.execute("SELECT 1 AS refused"))


async def test_outside_autocommit(side: Side, superuser: str, administrator: Any) -> None:
    connection = await side.connect(superuser, **ON)
    for text in SESSION:
        await done(connection.execute(text))
    await done(connection.commit())
    end(administrator, connection)
    await refused(lambda: connection.execute("SELECT 1 AS refused"))
    await refused(lambda: connection.commit())
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE, "not even BEGIN was sent"
    for text in SESSION:
        await done(connection.execute(text))
    await done(connection.commit())
    assert await rows(connection, "SELECT 1 AS refused") == [(1,)]


async def test_a_lost_commit(side: Side, superuser: str, administrator: Any) -> None:
    connection = await side.connect(superuser, **ON)
    await done(connection.execute("SET app.tenant = 'seven'"))
    with pytest.raises(TransactionResolutionUnknownError):
        await done(connection.execute("COMMIT; SELECT pg_terminate_backend(pg_backend_pid())"))
    with pytest.raises(FailoverSuccessError) as told:
        await done(connection.execute("SELECT 1 AS refused"))
    assert not isinstance(told.value, TransactionResolutionUnknownError), "that commit is not this statement's affair"
    assert (told.value.transaction, told.value.not_restored) == ("unknown", ("app.tenant",))
    await done(connection.execute("SET app.tenant = 'seven'"))
    assert await rows(connection, "SELECT 1 AS refused") == [(1,)]


async def test_other_state_does_not_refuse(side: Side, superuser: str, administrator: Any) -> None:
    connection = await lost(side, superuser, administrator, "SET work_mem = '7MB'", "LISTEN news")
    assert await rows(connection, "SELECT 1 AS refused") == [(1,)]


async def test_a_handler_that_did_it(side: Side, superuser: str, administrator: Any) -> None:
    async def restore(state: Any, connection: Any) -> bool:
        for text in SESSION:
            await done(connection.execute(text))
        return True

    SessionStateTransferHandlers.set_transfer_session_state_on_switch_func(side.callback(restore))
    try:
        connection = await side.connect(superuser, autocommit=True, **ON)
        for text in SESSION:
            await done(connection.execute(text))
        end(administrator, connection)
        assert await rows(connection, "SHOW app.tenant") == [("seven",)]
    finally:
        SessionStateTransferHandlers.reset_transfer_session_state_on_switch_func()


async def test_the_baseline_of_a_pool(side: Side, superuser: str, administrator: Any) -> None:
    """What the pool has configured is missing, too; the pool makes another connection."""

    async def configure(connection: Any) -> None:
        await done(connection.execute("SET ROLE walk_other"))
        await done(connection.commit())

    pool = await side.pool(superuser, configure=side.callback(configure), kwargs=ON)
    async with inside(pool.connection()) as connection:
        end(administrator, connection)
        with pytest.raises(FailoverSuccessError) as told:
            await done(connection.execute("SELECT 1 AS refused"))
        assert told.value.not_restored == ("role",)
        with pytest.raises(FailoverSuccessError):
            await done(connection.execute("SELECT 1 AS refused"))
        await done(connection.rollback())
    async with inside(pool.connection()) as other:
        assert other is not connection
        assert await rows(other, "SELECT current_user") == [("walk_other",)]


NAMELESS = "SELECT set_config('walk.' || 'nameless', 'hidden', false)"
