"""What it costs on the wire: each ReadyForQuery of the server ends a round trip, and the proxy counts them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import instrumented_wrapper
from servers import Proxy

from ..side import Side, done, dsn, inside, rows

READY = b"Z"
IN_CLEAR = {"sslmode": "disable", "gssencmode": "disable"}


def messages(stream: bytes) -> Iterator[bytes]:
    """Yield the types of the server's messages."""
    while stream:
        yield stream[:1]
        stream = stream[1 + int.from_bytes(stream[1:5], "big") :]


def trips(proxy: Proxy) -> int:
    """Return the round trips since the last time."""
    count = sum(kind == READY for kind in messages(proxy.seen("server")))
    proxy.clear()
    return count


async def verb(side: Side, name: str, connection: Any) -> Any:
    return await done(getattr(instrumented_wrapper, f"{name}_async" if side.is_async else name)(connection))


async def connected(side: Side, proxy: Proxy, **keywords: Any) -> Any:
    connection = await side.connect(dsn(proxy, **IN_CLEAR), **keywords)
    proxy.clear()
    return connection


async def test_statements_without_settings(side: Side, proxy: Proxy) -> None:
    connection = await connected(side, proxy, autocommit=True)
    for text in ("SELECT 1", "SELECT upper('a'), now()", "SELECT 'SET a = 1'", "CREATE TEMP TABLE t (a int)"):
        await done(connection.execute(text))
        assert trips(proxy) == 1, text


async def test_one_fetch_for_each_name(side: Side, proxy: Proxy) -> None:
    connection = await connected(side, proxy, autocommit=True)
    for expected in (2, 1, 1):
        await done(connection.execute("SET work_mem = '5MB'"))
        assert trips(proxy) == expected
    await done(connection.execute("SET statement_timeout = 60000; SET lock_timeout = 60000"))
    assert trips(proxy) == 2, "two names, one question"
    await done(connection.execute("SELECT set_config('app.tenant', %s, false)", ["x"]))
    assert trips(proxy) == 2


async def test_in_a_transaction_too(side: Side, proxy: Proxy) -> None:
    connection = await connected(side, proxy)
    await done(connection.execute("SET work_mem = '5MB'"))
    assert trips(proxy) == 3, "the question, BEGIN, SET"
    await done(connection.execute("SET lock_timeout = 60000"))
    assert trips(proxy) == 2
    await done(connection.commit())
    assert trips(proxy) == 1


async def test_what_the_server_reports_is_not_asked_for(side: Side, proxy: Proxy) -> None:
    connection = await connected(side, proxy, autocommit=True)
    for text in ("SET TIME ZONE 'UTC'", "SET application_name = 'x'", "SET default_transaction_read_only = off"):
        await done(connection.execute(text))
        assert trips(proxy) == 1, text


async def test_a_doubt_is_one_question(side: Side, proxy: Proxy) -> None:
    connection = await connected(side, proxy)
    await done(connection.execute("DO $$ BEGIN PERFORM set_config('work_mem', '5MB', false); END $$"))
    await done(connection.execute("DO $$ BEGIN PERFORM set_config('lock_timeout', '5', false); END $$"))
    assert trips(proxy) == 3, "BEGIN and two statements: nothing is asked in a transaction"
    await done(connection.commit())
    assert trips(proxy) == 2
    await done(connection.execute("SELECT 1"))
    await done(connection.commit())
    assert trips(proxy) == 3


async def test_a_function_is_asked_for_once(side: Side, superuser: str, proxy: Proxy) -> None:
    connection = await side.connect(dsn(proxy, **IN_CLEAR), autocommit=True)
    await done(connection.execute("CREATE OR REPLACE FUNCTION pg_temp.plain() RETURNS int LANGUAGE sql AS 'SELECT 1'"))
    await done(connection.execute("SELECT 1"))
    proxy.clear()
    for expected in (2, 1, 1):
        await done(connection.execute("SELECT pg_temp.plain()"))
        assert trips(proxy) == expected


async def test_a_reset_is_one_round_trip_or_none(side: Side, proxy: Proxy) -> None:
    connection = await connected(side, proxy, autocommit=True)
    await verb(side, "reset_session", connection)
    assert trips(proxy) == 0
    await done(
        connection.execute("SET work_mem = '5MB'; SET lock_timeout = 5; SET app.tenant = 'x'; SET TIME ZONE 'UTC'")
    )
    trips(proxy)
    await verb(side, "reset_session", connection)
    assert trips(proxy) == 1
    await verb(side, "reset_session", connection)
    assert trips(proxy) == 0
    await done(connection.execute("SET work_mem = '4MB'"))
    trips(proxy)
    await verb(side, "reset_session", connection)
    assert trips(proxy) == 0, "changed, and not different"


async def test_a_whole_session_is_cleared_in_one_round_trip(side: Side, proxy: Proxy) -> None:
    connection = await connected(side, proxy, autocommit=True, instrumented_wrapper={"reset_scope": "session"})
    await verb(side, "reset_session", connection)
    assert trips(proxy) == 0
    await done(
        connection.execute("CREATE TEMP TABLE t (a int); LISTEN news; SELECT pg_advisory_lock(1); SET work_mem = '5MB'")
    )
    await done(connection.execute("PREPARE p AS SELECT 1"))
    trips(proxy)
    await verb(side, "reset_session", connection)
    assert trips(proxy) == 1


@pytest.mark.parametrize("count", [1, 10, 50])
async def test_a_transfer_is_one_round_trip(side: Side, proxy: Proxy, spans: Any, count: int) -> None:
    connection = await connected(side, proxy, autocommit=True, reset_session_state_on_close=False)
    for number in range(count):
        await done(connection.execute(f"SET app.number_{number} = '{number}'"))
    trips(proxy)
    await verb(side, "switch", connection)
    assert trips(proxy) == 2, "the login's own and the transfer's"
    assert await rows(connection, f"SHOW app.number_{count - 1}") == [(str(count - 1),)]
    (span,) = spans.named("session_state.transfer")
    assert span.attributes["instrumented_wrapper.round_trips"] == 1


async def test_a_pipeline_is_asked_about_when_it_has_ended(side: Side, proxy: Proxy) -> None:
    connection = await connected(side, proxy, autocommit=True)
    async with inside(connection.pipeline()):
        for number in range(5):
            await done(connection.execute(f"SET app.number_{number} = 'x'"))
    before = trips(proxy)
    await done(connection.execute("SELECT 1"))
    assert before + trips(proxy) <= 4, "the pipeline's syncs, one question, one statement"
    assert len(instrumented_wrapper.session_state(connection)) == 5
