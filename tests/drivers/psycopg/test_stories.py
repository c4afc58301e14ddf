"""One trace tells the story of a failover: what the app was doing, each attempt, what was carried, and all the time."""

from __future__ import annotations

import asyncio
import threading

import psycopg
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import StatusCode

from instrumented_wrapper import FailoverError, FailoverFailedError

from ..operation_spans import attributes, operations, span_of, tree
from ..side import done, dsn, inside

TRACER = TracerProvider().get_tracer("app")
OURS = "instrumented_wrapper."
FETCHES = [["session_state.pristine_fetch"], ["session_state.pristine_fetch"]]
TRANSFER = ["session_state.transfer", *FETCHES]


async def configured(side, cluster, **keywords):
    connection = await side.connect(cluster.dsn(target_session_attrs="primary"), **keywords)
    await done(connection.execute("SET work_mem = '5MB'"))
    await done(connection.execute("SET app.tenant = 'seven'"))
    await done(connection.commit())
    return connection


def lose(cluster):
    cluster.wait_streaming()
    cluster.failover()


def fail_over_in(cluster, text):
    """Kill the server once it is at work on a statement with that text."""
    at_work = f"SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT {text}'"
    while not cluster.primary.sql(at_work):
        pass
    cluster.failover()


def attempts(span):
    return [dict(event.attributes) for event in span.events if event.name == "attempt"]


async def test_a_statement_that_finds_its_server_gone(side, cluster, spans):
    connection = await configured(side, cluster, autocommit=True)
    old = cluster.primary
    lose(cluster)
    new = cluster.primary
    spans.clear()
    with TRACER.start_as_current_span("app"):
        await done(connection.execute("SELECT 1"))
    assert tree(spans.all()) == [["SELECT", ["failover", TRANSFER]]]
    statement, failover = span_of(spans.all(), "SELECT"), span_of(spans.all(), "failover")
    assert statement.status.status_code is StatusCode.UNSET
    assert attributes(statement)["server.port"] == new.port  # where it was carried out
    tried = attempts(failover)
    assert {attempt["server.port"] for attempt in tried} == {old.port, new.port}
    assert sum(attempt["count"] for attempt in tried) == attributes(failover)[OURS + "attempts"]
    assert [a["server.port"] for a in tried if a["outcome"] == "connected"] == [new.port]
    assert {a["outcome"] for a in tried if a["server.port"] == old.port} <= {"refused", "abandoned"}
    carried = [dict(event.attributes) for event in span_of(spans.all(), "session_state.transfer").events]
    assert [(c["name"], c["outcome"]) for c in carried] == [("work_mem", "restored"), ("app.tenant", "restored")]


@pytest.mark.parametrize("autocommit", [True, False], ids=["statement", "transaction"])
async def test_all_the_time_that_the_app_was_blocked_is_covered(side, cluster, spans, autocommit):
    connection = await configured(side, cluster, autocommit=autocommit)
    cluster.wait_streaming()
    spans.clear()
    threading.Thread(target=fail_over_in, args=(cluster, "pg_sleep(30)")).start()
    with pytest.raises(FailoverError):
        await done(connection.execute("SELECT pg_sleep(30)"))
    statement, failover = span_of(spans.all(), "SELECT"), span_of(spans.all(), "failover")
    assert statement.start_time <= failover.start_time < failover.end_time <= statement.end_time
    assert len(attempts(failover)) >= 2
    await done(connection.rollback())


async def test_what_is_lost_and_what_is_refused_stand_in_events(side, cluster, spans):
    connection = await configured(side, cluster, autocommit=True)
    await done(connection.execute("LISTEN news"))
    lose(cluster)
    spans.clear()
    with pytest.raises(FailoverError):
        await done(connection.execute("SELECT 1"))
    told = [dict(event.attributes) for event in span_of(spans.all(), "session_state.transfer").events]
    assert {(event["name"], event["outcome"]) for event in told} == {
        ("work_mem", "restored"),
        ("app.tenant", "restored"),
        ("LISTEN", "skipped"),
    }
    statement = span_of(spans.all(), "SELECT")
    assert attributes(statement)["error.type"] in ("57P01", "FailoverSuccessError")
    assert statement.status.status_code is StatusCode.ERROR


async def test_a_setting_that_the_new_server_refuses(side, cluster, spans):
    connection = await configured(side, cluster, autocommit=True)
    with psycopg.connect(dsn(cluster.primary, user="postgres"), autocommit=True) as boss:
        boss.execute("CREATE ROLE gone")
        boss.execute("GRANT gone TO app")
        await done(connection.execute("SET ROLE gone"))
        boss.execute("DROP ROLE gone")
        boss.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
    spans.clear()
    with pytest.raises(FailoverFailedError, match="role"):
        await done(connection.execute("SELECT 1"))
    told = {
        e.attributes["name"]: e.attributes["outcome"] for e in span_of(spans.all(), "session_state.transfer").events
    }
    assert told == {"role": "failed", "work_mem": "skipped", "app.tenant": "skipped"}


async def test_connections_that_are_lost_together_name_the_one_that_looks_for_all(cluster, spans):
    where = cluster.dsn(target_session_attrs="primary")
    connections = [await psycopg.AsyncConnection.connect(where, autocommit=True) for _ in range(5)]
    cluster.wait_streaming()
    cluster.primary.kill()
    spans.clear()
    statements = [asyncio.ensure_future(connection.execute("SELECT 1")) for connection in connections]
    await asyncio.to_thread(cluster.failover)
    await asyncio.gather(*statements)
    for connection in connections:
        await connection.close()
    failovers = {span.context.span_id: span for span in spans.all() if span.name == "failover"}
    assert len(failovers) == 5
    (leader,) = (span_id for span_id, span in failovers.items() if not span.links)
    linked = [link.context.span_id for span in failovers.values() for link in span.links]
    assert linked == [leader] * 4
    assert len(attempts(failovers[leader])) >= 2


@pytest.mark.parametrize("way", ["statement", "first", "commit", "block", "copy", "stream", "page", "pipeline"])
async def test_the_failover_belongs_to_what_it_happened_in(side, cluster, spans, way):
    """Whatever was under way when the server died."""
    connection = await configured(side, cluster, autocommit=way in ("statement", "copy", "block", "pipeline"))
    cursor = connection.cursor()
    killed = asyncio.to_thread if side.is_async else None

    async def kill():
        cluster.wait_streaming()
        await killed(cluster.failover) if killed else cluster.failover()

    spans.clear()
    with TRACER.start_as_current_span("app"), pytest.raises(FailoverError):
        await WAYS[way](connection, cursor, kill)
    failover = span_of(spans.all(), "failover")
    (parent,) = (span for span in operations(spans.all()) if span.context.span_id == failover.parent.span_id)
    assert parent.name == NAMES[way]
    assert parent.start_time <= failover.start_time <= failover.end_time <= parent.end_time
    assert parent.status.status_code is StatusCode.ERROR
    assert attributes(parent)["error.type"] != "GeneratorExit"


async def in_statement(connection, cursor, kill):
    await done(cursor.execute("BEGIN"))
    await kill()
    await done(cursor.execute("SELECT 7 AS seven"))


async def in_first_statement(connection, cursor, kill):
    await done(cursor.execute("SELECT 1"))
    await kill()
    await done(cursor.execute("SELECT 7 AS seven"))


async def in_commit(connection, cursor, kill):
    await done(cursor.execute("SELECT 1"))
    await kill()
    await done(connection.commit())


async def in_block(connection, cursor, kill):
    async with inside(connection.transaction()):
        await done(cursor.execute("SELECT 1"))
        await kill()


async def in_copy(connection, cursor, kill):
    async with inside(cursor.copy("COPY (SELECT generate_series(1, 3000000)) TO STDOUT")) as copy:
        await done(copy.read())
        await kill()
        while await done(copy.read()):
            pass


async def in_stream(connection, cursor, kill):
    rows = cursor.stream("SELECT generate_series(1, 3000000)")
    await (anext(rows) if hasattr(rows, "__anext__") else done(next(rows)))
    await kill()
    if hasattr(rows, "__anext__"):
        async for _ in rows:
            pass
    else:
        for _ in rows:
            pass


async def in_page(connection, cursor, kill):
    named = connection.cursor("named")
    await done(named.execute("SELECT generate_series(1, 1000) FROM generate_series(1, 2)"))
    await kill()
    await done(named.fetchmany(10))


async def in_pipeline(connection, cursor, kill):
    async with inside(connection.pipeline()) as pipeline:
        await done(cursor.execute("SELECT 1"))
        await done(pipeline.sync())
        await kill()
        await done(cursor.execute("SELECT 7 AS seven"))
        await done(pipeline.sync())


WAYS = {
    "statement": in_statement,
    "first": in_first_statement,
    "commit": in_commit,
    "block": in_block,
    "copy": in_copy,
    "stream": in_stream,
    "page": in_page,
    "pipeline": in_pipeline,
}
NAMES = {**dict.fromkeys(WAYS, "SELECT"), "commit": "COMMIT", "block": "COMMIT", "copy": "COPY SELECT", "page": "FETCH"}
