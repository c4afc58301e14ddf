"""Spans are accurate: after interruptions, in aborted transactions, of what psycopg refuses, of apps' own oddities."""

from __future__ import annotations

import asyncio
import threading

import psycopg
import psycopg_pool
import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import StatusCode

from ..operation_spans import attributes, names, operations, span_of, tree
from ..side import done, dsn, inside

TRACER = TracerProvider().get_tracer("app")
SLOW_PAGES = "SELECT pg_sleep(20) FROM generate_series(1, 2)"


async def test_a_page_that_was_interrupted_is_over(cluster, spans):
    """What comes later on that connection is not below it."""
    async with await psycopg.AsyncConnection.connect(dsn(cluster.primary)) as connection:
        named = connection.cursor("pages")
        await named.execute(SLOW_PAGES)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await named.fetchall()
        await connection.rollback()
        with pytest.raises(psycopg.errors.DivisionByZero):
            await connection.execute("SELECT 1/0")
    fetch = span_of(spans.all(), "FETCH")
    assert attributes(fetch)["error.type"] == "CancelledError"
    failed = [span for span in operations(spans.all()) if attributes(span).get("error.type") == "22012"]
    assert [span.name for span in failed] == ["SELECT"]


def test_a_page_that_ctrl_c_interrupted_is_over(cluster, spans):
    with psycopg.connect(dsn(cluster.primary)) as connection:
        named = connection.cursor("pages")
        named.execute(SLOW_PAGES)

        def cancel():
            at_work = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'FETCH%'"
            while not cluster.primary.sql(at_work):
                pass
            connection.cancel()

        threading.Thread(target=cancel).start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            named.fetchall()
        connection.rollback()
    assert attributes(span_of(spans.all(), "FETCH"))["error.type"] == "57014"


async def test_a_stream_that_waits_in_vain_takes_nothing_from_the_one_that_runs(cluster, spans):
    connection = await psycopg.AsyncConnection.connect(cluster.dsn(target_session_attrs="primary"), autocommit=True)
    running = connection.cursor().stream("SELECT generate_series(1, 3000000) AS running")
    await anext(running)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await anext(connection.cursor().stream("SELECT 1 AS waiting"))
    cluster.wait_streaming()
    await asyncio.to_thread(cluster.failover)
    with pytest.raises(psycopg.OperationalError):
        async for _ in running:
            pass
    failover = span_of(spans.all(), "failover")
    (parent,) = (span for span in operations(spans.all()) if span.context.span_id == failover.parent.span_id)
    assert attributes(parent)["db.query.text"].endswith("running")
    await connection.close()


async def test_where_it_was_carried_out(side, cluster, spans):
    connection = await side.connect(cluster.dsn(target_session_attrs="primary"), autocommit=True)
    await done(connection.execute("SELECT 1"))
    old = cluster.primary
    cluster.wait_streaming()
    cluster.failover()
    spans.clear()
    await done(connection.execute("SELECT 1"))
    told = attributes(span_of(spans.all(), "SELECT"))
    assert told["server.port"] == told["network.peer.port"] == cluster.primary.port != old.port


async def test_the_end_of_an_aborted_transaction_is_a_rollback(side, cluster, spans):
    connection = await side.connect(dsn(cluster.primary))
    with pytest.raises(psycopg.Error):
        await done(connection.execute("SELECT 1/0"))
    spans.clear()
    with TRACER.start_as_current_span("app"):
        await done(connection.commit())
    assert names(spans.all()) == ["ROLLBACK"]


async def test_a_block_whose_connection_is_closed_ends_with_nothing(side, cluster, spans):
    connection = await side.connect(dsn(cluster.primary))
    with TRACER.start_as_current_span("app"):
        async with inside(connection.transaction()):
            await done(connection.close())
    assert tree(spans.all()) == [["BEGIN"]]


@pytest.mark.parametrize(
    ("error", "kind"),
    [(OSError("secret", "x"), "OSError"), (FileNotFoundError(2, "secret"), "FileNotFoundError")],
    ids=["text", "number"],
)
async def test_codes_are_the_servers_own(side, cluster, spans, error, kind):
    connection = await side.connect(dsn(cluster.primary), autocommit=True)
    await done(connection.execute("CREATE TEMP TABLE t (a int)"))
    spans.clear()
    with pytest.raises(OSError):
        async with inside(connection.cursor().copy("COPY t FROM STDIN")):
            raise error
    (span,) = spans.all()
    assert attributes(span)["error.type"] == kind
    assert "db.response.status_code" not in attributes(span)
    assert "secret" not in span.to_json()


@pytest.mark.parametrize("query", [None, 5, object()], ids=["None", "number", "object"])
async def test_what_psycopg_refuses_it_refuses_itself(side, cluster, spans, query):
    connection = await side.connect(dsn(cluster.primary))
    with pytest.raises(TypeError, match=r"expected bytes|takes"):
        await done(connection.execute(query))


async def test_every_span_can_be_sent(side, cluster, spans):
    connection = await side.connect(dsn(cluster.primary), autocommit=True)
    for text in ("SELECT * FROM tab\udc80", 'SELECT * FROM "\ud800"', "CALL p\udc80()"):
        with pytest.raises((psycopg.Error, UnicodeError)):
            await done(connection.execute(text))
    assert len(operations(spans.all())) == 3
    assert encode_spans(spans.all()).SerializeToString()


async def test_the_namespace_is_not_guessed_in_a_pipeline(side, cluster, spans):
    connection = await side.connect(dsn(cluster.primary), autocommit=True)
    await done(connection.execute("SET search_path = before"))
    spans.clear()
    async with inside(connection.pipeline()) as pipeline:
        await done(connection.execute("SET search_path = after"))
        await done(connection.execute("SELECT 1"))
        await done(pipeline.sync())
        await done(connection.execute("SELECT 2"))
    database = connection.info.dbname
    told = [attributes(span)["db.namespace"] for span in operations(spans.all()) if span.name == "SELECT"]
    assert told == [database, f"{database}|after"]


async def test_an_error_that_a_fetch_in_a_pipeline_gets(side, cluster, spans):
    connection = await side.connect(dsn(cluster.primary), autocommit=True)
    spans.clear()
    with pytest.raises(psycopg.errors.DivisionByZero):
        async with inside(connection.pipeline()):
            cursor = await done(connection.execute("SELECT 1/0"))
            await done(cursor.fetchone())
    assert names(spans.all())[:2] == ["SELECT", "FLUSH"]
    assert attributes(span_of(spans.all(), "FLUSH"))["error.type"] == "22012"


async def test_a_batch_does_not_count_what_counts_by_fetching(side, cluster, spans):

    class Rows:
        def __iter__(self):
            return iter([(1,), (2,)])

        def __len__(self):
            raise AssertionError("counted")

    connection = await side.connect(dsn(cluster.primary), autocommit=True)
    await done(connection.cursor().executemany("SELECT %s", Rows()))
    (span,) = spans.all()
    assert span.status.status_code is StatusCode.UNSET
    assert "db.operation.batch.size" not in attributes(span)


def test_pools_that_cannot_be_hashed(cluster):
    class Odd(psycopg_pool.ConnectionPool):
        def __eq__(self, other):
            return True

    with Odd(dsn(cluster.primary), min_size=1, max_size=1) as pool, pool.connection() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
