"""The span of a failover belongs to what it happened in: a statement, a block, COPY, a stream, a page, a pipeline."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import StatusCode

from instrumented_wrapper import FailoverError

from ..operation_spans import attributes, operations, span_of
from ..side import done, inside

TRACER = TracerProvider().get_tracer("app")


@pytest.mark.parametrize("way", ["statement", "first", "commit", "block", "copy", "stream", "page", "pipeline"])
async def test_the_failover_belongs_to_what_it_happened_in(side, cluster, spans, way):
    """Whatever was under way when the server died."""
    in_autocommit = way in ("statement", "copy", "block", "pipeline")
    connection = await side.connect(cluster.dsn(target_session_attrs="primary"), autocommit=in_autocommit)
    await done(connection.execute("SET work_mem = '5MB'"))
    await done(connection.commit())
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
