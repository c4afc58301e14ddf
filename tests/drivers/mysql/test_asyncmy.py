"""asyncmy: prepared statements, cursors that are subclasses, sockets of the app's, and its compiled private parts."""

from __future__ import annotations

import asyncio
import gc
import socket
from typing import Any

import pytest

from instrumented_wrapper import FailoverFailedError, FailoverSuccessError, session_state, switch_async
from servers import guard

from ..script import complete, run
from .server_session import make_table
from .test_async_mysql import App, ask, end, off, session, where

asyncmy = pytest.importorskip("asyncmy")
cursors = asyncmy.cursors
ROWS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT i, REPEAT('x', i) FROM n"


@pytest.fixture
def app(pair: Any) -> App:
    return App(asyncmy, pair)


# --- prepared statements --------------------------------------------------------------------------------------------


async def test_a_prepared_statement_is_prepared_anew_after_a_loss(app, pair) -> None:
    connection = await app.connect()
    async with await connection.prepare("SELECT ?, CONNECTION_ID()") as prepared:
        ((value, number),) = (await prepared.execute((1,))).rows
        await off(end, pair.primary, number)
        ((value, other),) = (await prepared.execute(("second",))).rows
        assert (value, other) == ("second", await session(connection))
        assert other != number
    await connection.ensure_closed()


async def test_the_cache_of_statements_is_of_the_present_session(app, pair) -> None:
    connection = await app.connect(stmt_cache_size=8)
    cursor, sql = connection.cursor(), "SELECT %s + 1, CONNECTION_ID()"
    for value in (1, 2):
        await cursor.execute(sql, (value,))
    ((found, number),) = await cursor.fetchall()
    assert found == 3
    assert sql in connection._stmt_cache
    await off(end, pair.primary, number)
    await cursor.execute(sql, (3,))
    assert (await cursor.fetchone())[0] == 4
    await connection.ensure_closed()


async def test_what_changes_the_session_is_tracked_beside_the_cache(app, pair) -> None:
    connection = await app.connect(stmt_cache_size=8)
    cursor = connection.cursor()
    for zone in ("+02:00", "+03:00"):
        await cursor.execute("SET time_zone = %s, @tenant = %s", (zone, "acme"))
    assert session_state(connection)["time_zone"].value == "+03:00"
    await off(end, pair.primary, await session(connection))
    assert await ask(connection, "SELECT @@time_zone, @tenant") == [("+03:00", "acme")]
    await connection.ensure_closed()


async def test_what_a_prepared_statement_of_the_app_sets_is_carried_over(app, pair) -> None:
    connection = await app.connect()
    prepared = await connection.prepare("SET time_zone = ?")
    await prepared.execute(("+02:00",))
    await off(end, pair.primary, await session(connection))
    assert await ask(connection, "SELECT @@time_zone") == [("+02:00",)]
    await connection.ensure_closed()


async def test_a_loss_in_a_prepared_statement_may_have_run(app, pair) -> None:
    connection = await app.connect()
    prepared = await connection.prepare("SELECT SLEEP(?)")
    await prepared.execute((0,))
    number = await session(connection)
    busy = f"SELECT 1 FROM information_schema.processlist WHERE id = {number} AND info LIKE 'SELECT SLEEP%'"

    def kill() -> None:
        assert guard.wait_until(lambda: pair.primary.sql(busy), 60)
        end(pair.primary, number)

    killed = asyncio.create_task(off(kill))
    with pytest.raises(FailoverSuccessError) as caught:
        await prepared.execute((30,))
    await killed
    assert caught.value.may_have_run
    await connection.ensure_closed()


@pytest.mark.parametrize("cached", [0, 8])
async def test_a_bulk_insert(app, pair, spans, cached: int) -> None:
    table = await off(make_table, pair)
    connection = await app.connect(stmt_cache_size=cached)
    spans.clear()
    await connection.cursor().executemany(f"INSERT INTO {table} VALUES (%s)", [(1,), (2,), (3,)])
    (batch,) = spans.all()
    assert batch.attributes["db.operation.batch.size"] == 3
    assert await ask(connection, f"SELECT COUNT(*) FROM {table}") == [(3,)]
    await connection.ensure_closed()


# --- cursors --------------------------------------------------------------------------------------------------------


class OfTheApp(cursors.Cursor):  # type: ignore[misc, unused-ignore]
    async def execute(self, query: Any, args: Any = None) -> Any:
        return await super().execute(f"{query} /* app */", args)


@pytest.mark.parametrize("kind", ["Cursor", "DictCursor", "SSCursor", "SSDictCursor"])
async def test_cursors_are_subclasses_of_the_same_name(app, kind: str) -> None:
    connection = await app.connect()
    wanted = getattr(cursors, kind)
    async with connection.cursor(wanted) as cursor:
        assert isinstance(cursor, wanted)
        assert (type(cursor).__name__, type(cursor).__module__) == (kind, "asyncmy.cursors")
        assert type(connection.cursor(type(cursor))) is type(cursor)
        await cursor.execute(ROWS)
        first, some, rest = await cursor.fetchone(), await cursor.fetchmany(7), await cursor.fetchall()
        found = [tuple(row.values()) if "Dict" in kind else tuple(row) for row in (first, *some, *rest)]
        assert [len(some), found] == [7, [(i, "x" * i) for i in range(1, 501)]]
        assert cursor.rownumber == 500
    await connection.ensure_closed()


async def test_a_class_of_cursors_of_the_app(app, pair, spans) -> None:
    connection = await app.connect(cursor_cls=OfTheApp)
    cursor = connection.cursor()
    assert isinstance(cursor, OfTheApp)
    await cursor.execute("SET @tenant = 'acme'")
    assert session_state(connection)["@tenant"].value == "acme"
    await connection.ensure_closed()


async def test_a_cursor_that_the_app_constructs_is_seen_by_its_connection(app, pair, spans) -> None:
    connection = await app.connect()
    cursor = cursors.Cursor(connection)
    await cursor.execute("SET @tenant = %s", ("acme",))
    assert session_state(connection)["@tenant"].value == "acme"
    await off(end, pair.primary, await session(connection))
    await cursor.execute("SELECT @tenant, %s", ("secret",))
    assert await cursor.fetchall() == (("acme", "secret"),)
    assert not [span for span in spans.all() if "secret" in str(span.attributes)]
    await connection.ensure_closed()


async def test_a_function_may_make_cursors(app) -> None:
    connection = await app.connect(cursor_cls=lambda connection, **given: cursors.DictCursor(connection, **given))
    cursor = connection.cursor()
    await cursor.execute("SELECT 1 AS one")
    assert await cursor.fetchall() == [{"one": 1}]
    await connection.ensure_closed()


TEXTS = [
    ("SELECT i, REPEAT('x', i) FROM (SELECT 1 AS i UNION SELECT 2) AS rows_of_two", None),
    ("SELECT %s, '%%'", ("it's",)),
    ("SELECT 1 / 0, CAST('x' AS SIGNED)", None),
    ("DO 1", ()),
    ("SELECT 1; SELECT 2", None),
    ("SELECT no_such_column", None),
    ("SELECT %s", ()),
]


async def _shown(cursor: Any, text: str, args: Any) -> list[Any]:
    """Return what an app can see of a cursor after each of its calls."""
    shown: list[Any] = []
    calls = (lambda: cursor.execute(text, args), cursor.fetchone, cursor.fetchall, cursor.nextset, cursor.fetchall)
    for call in calls:
        try:
            found: Any = await call()
        except (asyncmy.Error, TypeError) as error:
            found = (type(error), str(error))
        seen = "rowcount description lastrowid rownumber _executed arraysize".split()
        shown.append((found, [getattr(cursor, name) for name in seen]))
    return shown


@pytest.mark.parametrize(("text", "args"), TEXTS, ids=[text for text, _ in TEXTS])
async def test_a_cursor_shows_what_asyncmy_s_own_class_shows(app, caplog, text: str, args: Any) -> None:
    connection = await app.connect()
    async with connection.cursor() as ours:
        shown = await _shown(ours, text, args)
    said = [record.getMessage() for record in caplog.records if record.name == "asyncmy"]
    caplog.clear()
    assert ours.connection is None
    with pytest.raises(asyncmy.ProgrammingError):
        await ours.execute(text, args)
    assert shown == await _shown(cursors.Cursor(connection), text, args)
    assert said == [record.getMessage() for record in caplog.records if record.name == "asyncmy"]
    await connection.ensure_closed()


async def test_what_is_left_to_be_read_is_read_when_a_cursor_is_closed(app) -> None:
    connection = await app.connect()
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT 1; SELECT 2; SELECT 3")
    await cursor.close()
    assert await ask(connection, "SELECT 4") == [(4,)]
    await connection.ensure_closed()


async def test_the_callback_of_the_app_is_called_for_each_statement(app) -> None:
    called: list[str] = []
    connection = await app.connect(query_callback=lambda cursor, query, elapsed: called.append(query))
    await ask(connection, "SELECT 1")
    assert called == ["SELECT 1"]
    await connection.ensure_closed()


OFF_AGAIN = """
import asyncio, sys
import instrumented_wrapper
instrumented_wrapper.instrument("asyncmy")
import asyncmy
from asyncmy import cursors

async def main():
    given = dict(host=sys.argv[1], port=int(sys.argv[2]), user="app", password="app-secret", db="app")
    opened = await asyncmy.connect(**given)
    print(type(opened.cursor()) is cursors.Cursor)
    instrumented_wrapper.uninstrument()
    cursor = opened.cursor()
    print(type(cursor) is cursors.Cursor)
    await cursor.execute("SELECT 1")
    print(await cursor.fetchall())
    await opened.ensure_closed()

asyncio.run(main())
"""


def test_uninstrument_gives_the_classes_back(app) -> None:
    said = complete(OFF_AGAIN, app.pair.primary.host, str(app.pair.primary.port))
    assert said.splitlines() == ["False", "True", "((1,),)"]


# --- the flags of the last answer -----------------------------------------------------------------------------------


async def test_the_status_after_a_commit_as_text_outside_autocommit(app, pair) -> None:
    table = await off(make_table, pair)
    connection = await app.connect(autocommit=False)
    await ask(connection, f"INSERT INTO {table} VALUES (1)")
    assert connection.get_transaction_status()
    await ask(connection, "COMMIT")
    assert not connection.get_transaction_status()
    await off(end, pair.primary, await session(connection))
    assert await ask(connection, f"SELECT COUNT(*) FROM {table}") == [(1,)]
    await connection.ensure_closed()


async def test_the_status_after_rows(app, pair) -> None:
    table = await off(make_table, pair)
    connection = await app.connect(autocommit=False)
    for kind in (cursors.Cursor, cursors.SSCursor):
        await ask(connection, f"SELECT * FROM {table}", kind)
        assert connection.get_transaction_status()
        await connection.rollback()
        assert not connection.get_transaction_status()
    await connection.ensure_closed()


@pytest.mark.parametrize("rows", [1, 300])
async def test_what_a_function_sets_is_reported_with_the_end_of_rows(app, pair, rows: int) -> None:
    def create() -> None:
        pair.primary.sql("DROP FUNCTION IF EXISTS app.moves_zone")
        pair.primary.sql(
            "CREATE FUNCTION app.moves_zone(z TEXT) RETURNS INT NO SQL BEGIN SET time_zone = z; RETURN 1; END"
        )

    await off(create)
    connection = await app.connect()
    text = ROWS.replace("500", str(rows)).replace(
        "SELECT i, REPEAT('x', i)", "SELECT app.moves_zone(%s), REPEAT('x', 2000)"
    )
    for kind, zone in ((cursors.Cursor, "+02:00"), (cursors.SSCursor, "+03:00"), (cursors.DictCursor, "+04:00")):
        async with connection.cursor(kind) as cursor:
            await cursor.execute(text, (zone,))
            assert len(await cursor.fetchall()) == rows
        await ask(connection, "DO 1")  # before it the wrapper asks for the pristine value
        assert session_state(connection)["time_zone"].value == zone
    await connection.ensure_closed()


async def test_a_prepared_call_has_the_flags_and_reports_of_its_last_answer(app, pair) -> None:
    table = await off(make_table, pair)

    def create() -> None:
        pair.primary.sql("DROP PROCEDURE IF EXISTS app.begins")
        body = f"SELECT 1; SET time_zone = '+05:00'; INSERT INTO {table} VALUES (1); SELECT 2;"
        pair.primary.sql(f"CREATE PROCEDURE app.begins() BEGIN {body} END")

    await off(create)
    connection = await app.connect(autocommit=False)
    prepared = await connection.prepare("CALL app.begins()")
    for _ in range(2):
        assert (await prepared.execute()).rows == ((1,),)
        assert connection.get_transaction_status()
        await ask(connection, "DO 1")
        assert session_state(connection)["time_zone"].value == "+05:00"
        await connection.rollback()
        await ask(connection, "SET time_zone = '+00:00'")
    await connection.ensure_closed()


# --- the ends of a connection ---------------------------------------------------------------------------------------


async def test_a_socket_of_the_app_is_not_replaced(app, pair, spans) -> None:
    sock = socket.create_connection((pair.primary.host, pair.primary.port))
    sock.setblocking(False)
    connection = await app.connect(sock=sock)
    await ask(connection, "SET @tenant = 'acme'")
    assert session_state(connection)["@tenant"].value == "acme"
    with pytest.raises(FailoverFailedError, match="sock="):
        await switch_async(connection)
    assert await ask(connection, "SELECT @tenant") == [("acme",)]
    spans.clear()
    await off(end, pair.primary, await session(connection))
    with pytest.raises(asyncmy.Error) as caught:
        await ask(connection, "SELECT 1")
    assert not isinstance(caught.value, FailoverSuccessError)
    (failover,) = spans.named("failover")
    assert failover.attributes["instrumented_wrapper.outcome"] == "failed"
    assert failover.attributes["instrumented_wrapper.attempts"] == 0


async def test_a_read_timeout_is_a_loss(app, pair) -> None:
    connection = await app.connect(read_timeout=2)
    await ask(connection, "SET @tenant = 'acme'")
    with pytest.raises(FailoverSuccessError) as caught:
        await ask(connection, "SELECT SLEEP(30)")
    assert caught.value.may_have_run
    assert await ask(connection, "SELECT @tenant") == [("acme",)]
    await connection.ensure_closed()


async def test_an_unbuffered_result_that_nobody_reads_closes_the_connection(app, spans) -> None:
    connection = await app.connect()
    cursor = connection.cursor(cursors.SSCursor)
    await cursor.execute("SELECT REPEAT('x', 10000) FROM information_schema.columns a, information_schema.columns b")
    connection._result = None
    del cursor
    gc.collect()
    assert not connection.connected
    with pytest.raises(asyncmy.InterfaceError):
        await ask(connection, "SELECT 1")
    assert spans.named("failover") == []


# --- private parts --------------------------------------------------------------------------------------------------

LACKING = """
import logging, sys
import asyncmy.connection
logging.basicConfig(format="%(message)s", stream=sys.stdout)
delattr(asyncmy.connection.Connection, "_read_query_result")
import instrumented_wrapper
instrumented_wrapper.instrument("asyncmy")
"""


def test_a_method_that_is_missing_is_reported() -> None:
    ended = run(LACKING)
    assert ended.stderr == ""
    assert ended.stdout == "asyncmy lacks Connection._read_query_result: it is left alone\n"


async def test_connections_that_lack_an_attribute_are_left_alone(app, monkeypatch, caplog) -> None:
    class Other(asyncmy.connection.Connection):  # type: ignore[misc, unused-ignore]
        pass

    given = {name: value for name, value in where(app.pair.primary).items() if name != "instrumented_wrapper"}
    from instrumented_wrapper.drivers.asyncmy import adapter

    monkeypatch.setattr(adapter, "_OF_INSTANCES", [*adapter._OF_INSTANCES, "_no_such_part"])
    connection = Other(**given)
    await connection.connect()
    assert "asyncmy's connections lack _no_such_part" in caplog.text
    assert dict(session_state(connection)) == {}
    await connection.ensure_closed()
