"""A span for each operation of the app, by OpenTelemetry's conventions for databases; on a real server, both sides."""

from __future__ import annotations

import asyncio
import threading

import psycopg
import pytest
from opentelemetry import context, trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, StatusCode
from psycopg import sql

from ..operation_spans import attributes, names, operations, span_of, tree
from ..side import done, dsn, inside, listed

TRACER = TracerProvider().get_tracer("app")
MANY = "INSERT INTO t VALUES (%s, %s)"


async def opened(side, cluster, **keywords):
    connection = await side.connect(dsn(cluster.primary), **keywords)
    await done(connection.execute("CREATE TEMP TABLE t (a int, b text)"))
    await done(connection.commit())
    return connection


def told(spans):
    """Return name, summary, text and operation of each span."""
    wanted = ("db.query.summary", "db.query.text", "db.operation.name")
    return [(span.name, *(attributes(span).get(name) for name in wanted)) for span in operations(spans.all())]


async def test_all_that_a_span_says(side, cluster, spans):
    connection = await opened(side, cluster, autocommit=True)
    spans.clear()
    with TRACER.start_as_current_span("app") as parent:
        await done(connection.execute("SELECT a FROM t WHERE b = %s", ["secret"]))
        assert trace.get_current_span() is parent
    (span,) = spans.all()
    server = cluster.primary
    assert attributes(span) == {
        "db.system.name": "postgresql",
        "db.namespace": connection.info.dbname,
        "db.query.summary": "SELECT t",
        "db.query.text": "SELECT a FROM t WHERE b = %s",
        "server.address": server.host,
        "server.port": server.port,
        "network.peer.address": "127.0.0.1",
        "network.peer.port": server.port,
    }
    assert (span.name, span.kind, span.status.status_code) == ("SELECT t", SpanKind.CLIENT, StatusCode.UNSET)
    assert span.parent.span_id == parent.get_span_context().span_id
    assert span.instrumentation_scope.name == "instrumented_wrapper"
    assert span.instrumentation_scope.schema_url.startswith("https://opentelemetry.io/schemas/1.")
    assert not span.events and not span.links


async def test_the_text(side, cluster, spans):
    connection = await opened(side, cluster, autocommit=True)
    spans.clear()
    literal = sql.SQL("SELECT a FROM t WHERE b = {} AND a = %s").format(sql.Literal("secret"))
    cursor = connection.cursor()
    for query, *parameters in [
        ("SELECT a FROM t WHERE b = 'secret'",),
        (b"SELECT a FROM t WHERE b = 'secret'",),
        ("SELECT a FROM t WHERE b = 'as written' AND a = %s", [1]),
        ("SELECT a FROM t WHERE a = %(a)s", {"a": 1}),
        (literal, [1]),
        (sql.SQL("SELECT a FROM {}").format(sql.Identifier("t")),),
        ("",),
        ("-- secret",),
    ]:
        await done(cursor.execute(query, *parameters))
        await done(cursor.execute(query, *parameters))  # what is known is told the same
    database = connection.info.dbname
    expected = [
        ("SELECT t", "SELECT t", "SELECT a FROM t WHERE b = ?", None),
        ("SELECT t", "SELECT t", "SELECT a FROM t WHERE b = ?", None),
        ("SELECT t", "SELECT t", "SELECT a FROM t WHERE b = 'as written' AND a = %s", None),
        ("SELECT t", "SELECT t", "SELECT a FROM t WHERE a = %(a)s", None),
        ("SELECT t", "SELECT t", "SELECT a FROM t WHERE b = ? AND a = %s", None),
        ('SELECT "t"', 'SELECT "t"', 'SELECT a FROM "t"', None),
        (database, None, None, None),
        (database, None, None, None),
    ]
    assert told(spans) == [line for line in expected for _ in range(2)]


@pytest.mark.parametrize(("rows", "size"), [(1, None), (2, 2), (3, 3)])
async def test_a_batch_has_one_span_with_its_size(side, cluster, spans, rows, size):
    connection = await opened(side, cluster, autocommit=True)
    spans.clear()
    await done(connection.cursor().executemany(MANY, [(n, "secret") for n in range(rows)]))
    (span,) = spans.all()
    name = "INSERT t" if rows == 1 else "BATCH INSERT t"
    assert (span.name, attributes(span)["db.query.summary"]) == (name, name)
    assert attributes(span).get("db.operation.batch.size") == size
    assert attributes(span)["db.query.text"] == MANY


async def test_a_batch_of_unknown_size_is_not_consumed(side, cluster, spans):
    connection = await opened(side, cluster, autocommit=True)
    spans.clear()
    cursor = connection.cursor()
    await done(cursor.executemany(query=MANY + " RETURNING a", params_seq=iter([(1, ""), (2, "")]), returning=True))
    assert await done(cursor.fetchone()) == (1,)
    (span,) = spans.all()
    assert span.name == "BATCH INSERT t"
    assert "db.operation.batch.size" not in attributes(span)


async def test_streams_and_copies_are_one_span_while_the_app_goes_on(side, cluster, spans):
    connection = await opened(side, cluster, autocommit=True)
    cursor = connection.cursor()
    spans.clear()
    with TRACER.start_as_current_span("app") as parent:
        async with inside(cursor.copy("COPY t (a) FROM STDIN")) as copy:
            assert trace.get_current_span() is parent
            for number in range(500):
                await done(copy.write_row((number,)))
        async with inside(cursor.copy(statement="COPY t TO STDOUT")) as copy:
            assert len(await listed(copy)) == 500
        streamed = cursor.stream("SELECT a FROM t WHERE a < %s", [400])
        assert len(await listed(streamed)) == 400
        assert trace.get_current_span() is parent
    assert tree(spans.all()) == [["COPY t"], ["COPY t"], ["SELECT t"]]
    copied, _, stream = spans.all()
    assert attributes(copied)["db.operation.name"] == "COPY"
    assert attributes(copied)["db.collection.name"] == "t"
    assert "db.operation.name" not in attributes(stream)
    assert all(span.status.status_code is StatusCode.UNSET for span in spans.all())


async def test_a_stream_that_the_app_gives_up_is_no_error(side, cluster, spans):
    connection = await opened(side, cluster, autocommit=True)
    spans.clear()
    stream = connection.cursor().stream("SELECT generate_series(1, 5)")
    assert await (anext(stream) if side.is_async else done(next(stream))) == (1,)
    await done(stream.aclose() if side.is_async else stream.close())
    (span,) = spans.all()
    assert span.status.status_code is StatusCode.UNSET
    assert (await done(connection.execute("SELECT 1"))) is not None


async def test_an_exception_in_a_copy_is_the_copys(side, cluster, spans):
    connection = await opened(side, cluster, autocommit=True)
    spans.clear()
    with pytest.raises(ZeroDivisionError):
        async with inside(connection.cursor().copy("COPY t FROM STDIN")):
            raise ZeroDivisionError
    (span,) = spans.all()
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "ZeroDivisionError"


async def test_server_cursors_tell_pages_never_rows(side, cluster, spans):
    connection = await opened(side, cluster)
    await done(connection.execute("INSERT INTO t SELECT generate_series(1, 250)"))
    spans.clear()
    async with inside(connection.cursor("app's own name")) as cursor:
        await done(cursor.execute("SELECT a FROM t WHERE a > %s", [0]))
        for _ in range(20):
            await done(cursor.fetchone())
        assert names(spans.all()) == ["SELECT t"]
        await done(cursor.fetchmany(30))
        assert len(await listed(cursor)) == 200
    assert names(spans.all()) == ["SELECT t", "FETCH", "FETCH", "FETCH", "FETCH"]
    assert attributes(spans.all()[0])["db.query.text"] == "SELECT a FROM t WHERE a > %s"
    assert "own name" not in str([attributes(span) for span in spans.all()])


async def test_errors_by_their_code(side, cluster, spans):
    connection = await opened(side, cluster, autocommit=True)
    await done(connection.execute("CREATE UNIQUE INDEX ON t (b)"))
    await done(connection.execute("INSERT INTO t VALUES (1, 'secret')"))
    spans.clear()
    for query, parameters, code, kind in [
        ("INSERT INTO t VALUES (1, 'secret')", None, "23505", "UniqueViolation"),
        ("SELECT * FROM nowhere", None, "42P01", "UndefinedTable"),
        ("SELECT 'secret'::int", None, "22P02", "InvalidTextRepresentation"),
        ("SELECT %s", ["secret", 2], None, "ProgrammingError"),
    ]:
        spans.clear()
        with pytest.raises(psycopg.Error):
            await done(connection.execute(query, parameters))
        (span,) = spans.all()
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, kind)
        assert attributes(span)["error.type"] == (code or kind)
        assert attributes(span).get("db.response.status_code") == code
        assert "secret" not in span.to_json()
        assert not span.events


# --- transactions ------------------------------------------------------------------------------------------------


async def a_transaction(connection):
    await done(connection.execute("SELECT 1"))
    await done(connection.commit())
    await done(connection.commit())  # nothing is open, nothing is sent
    await done(connection.execute("SELECT 2"))
    await done(connection.rollback())
    async with inside(connection.transaction()):
        await done(connection.execute("SELECT 3"))
        with pytest.raises(psycopg.Error):
            async with inside(connection.transaction()):
                await done(connection.execute("SELEC"))


BLOCK = [["BEGIN"], ["SELECT"], ["SAVEPOINT"], ["app"], ["ROLLBACK TO SAVEPOINT"], ["COMMIT"]]


async def test_transactions_within_what_is_recorded(side, cluster, spans):
    connection = await opened(side, cluster)
    spans.clear()
    with TRACER.start_as_current_span("app"):
        await a_transaction(connection)
    database = connection.info.dbname
    expected = [["SELECT", ["BEGIN"]], ["COMMIT"], ["SELECT", ["BEGIN"]], ["ROLLBACK"], *BLOCK]
    assert tree(spans.all()) == [[database] if line == ["app"] else line for line in expected]
    commit = attributes(span_of(spans.all()[:4], "COMMIT"))
    assert commit["db.operation.name"] == commit["db.query.summary"] == "COMMIT"
    assert "db.query.text" not in commit


@pytest.mark.parametrize(
    ("mode", "expected"), [("on", [["COMMIT"], ["ROLLBACK"]]), ("auto", []), ("off", [])], ids=["on", "auto", "off"]
)
async def test_transactions_outside_of_any_span(side, cluster, spans, mode, expected):
    connection = await opened(side, cluster, instrumented_wrapper={"transaction_spans": mode})
    spans.clear()
    await a_transaction(connection)
    ends = [[span.name] for span in operations(spans.all()) if span.name in ("COMMIT", "ROLLBACK")]
    assert ends == expected + [["COMMIT"]] * (mode == "on")
    begins = [span for span in spans.all() if span.name == "BEGIN"]
    assert len(begins) == {"on": 3, "auto": 2, "off": 0}[mode]  # in a statement that is recorded


async def test_two_phase_and_pipelines(side, cluster, spans):
    connection = await opened(side, cluster)
    spans.clear()
    with TRACER.start_as_current_span("app"):
        await done(connection.tpc_begin(connection.xid(1, "secret", "b")))
        await done(connection.execute("SELECT 1"))
        await done(connection.tpc_rollback())
        await done(connection.set_autocommit(True)) if side.is_async else setattr(connection, "autocommit", True)
        async with inside(connection.pipeline()) as pipeline:
            await done(connection.execute("SELECT 2"))
            await done(pipeline.sync())
            await done(connection.execute("SELECT 3"))
    assert names(spans.all()) == ["BEGIN", "SELECT", "ROLLBACK", "SELECT", "SYNC", "SELECT", "SYNC"]
    assert "secret" not in "".join(span.to_json() for span in spans.all())


# --- where it goes -----------------------------------------------------------------------------------------------


async def test_the_namespace_follows_the_session(side, cluster, spans):
    connection = await opened(side, cluster)
    spans.clear()
    await done(connection.execute("SET search_path = shop, public"))
    await done(connection.execute("SELECT 1"))
    await done(connection.commit())
    await done(connection.execute("SET search_path = undone"))
    await done(connection.execute("SELECT 2"))
    await done(connection.rollback())
    await done(connection.execute("SELECT 3"))
    await done(connection.execute("RESET search_path"))
    await done(connection.commit())
    await done(connection.execute("SELECT 4"))
    told = [attributes(span)["db.namespace"] for span in operations(spans.all()) if span.name == "SELECT"]
    database = connection.info.dbname
    assert told == [f"{database}|shop", f"{database}|undone", f"{database}|shop", database]


async def test_connects(side, cluster, spans):
    server = cluster.primary
    await side.connect(dsn(server), instrumented_wrapper={"connect_spans": True})
    with pytest.raises(psycopg.OperationalError):
        await side.connect(
            dsn(server, password="secret", dbname="nowhere"), instrumented_wrapper={"connect_spans": True}
        )
    await side.connect(dsn(server))
    first, second = spans.all()
    where = {"server.address": server.host, "server.port": server.port}
    told = {"db.system.name": "postgresql", "db.operation.name": "CONNECT", **where}
    assert attributes(first) == {**told, "db.namespace": "app"}
    assert attributes(second) == {**told, "db.namespace": "nowhere", "error.type": "OperationalError"}
    assert (first.name, first.kind) == ("CONNECT app", SpanKind.CLIENT)
    assert "secret" not in second.to_json()


# --- who wants it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"query_spans": "off"}, {"traces": False}], ids=["query_spans off", "traces off"])
async def test_switched_off(side, cluster, spans, options):
    connection = await opened(side, cluster, instrumented_wrapper=options)
    await done(connection.execute("SELECT 1"))
    assert not spans.all()


async def test_suppressed(side, cluster, spans):
    connection = await opened(side, cluster)
    spans.clear()
    with suppress_instrumentation():
        await a_transaction(connection)
        await listed(connection.cursor().stream("SELECT 1"))
        async with inside(connection.cursor().copy("COPY t TO STDOUT")) as copy:
            await listed(copy)
    assert not operations(spans.all())


# --- at the same time --------------------------------------------------------------------------------------------


async def test_tasks_that_share_a_connection_have_spans_of_their_own(cluster, spans):
    async with await psycopg.AsyncConnection.connect(dsn(cluster.primary), autocommit=True) as connection:

        async def task(number):
            with TRACER.start_as_current_span("task") as parent:
                for _ in range(5):
                    await connection.execute(f"SELECT 1 AS n{number}")
                    assert trace.get_current_span() is parent
            return number, parent.get_span_context().span_id

        parents = dict(await asyncio.gather(*map(task, range(20))))
    found = [(span.parent.span_id, attributes(span)["db.query.text"]) for span in operations(spans.all())]
    assert sorted(found) == sorted((parents[n], f"SELECT ? AS n{n}") for n in range(20) for _ in range(5))


def test_threads_that_share_a_connection_have_spans_of_their_own(cluster, spans):
    parents = {}
    with psycopg.connect(dsn(cluster.primary), autocommit=True) as connection:

        def work(number):
            with TRACER.start_as_current_span("thread") as parent:
                parents[number] = parent.get_span_context().span_id
                for _ in range(20):
                    connection.execute(f"SELECT 1 AS n{number}")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = [(span.parent.span_id, attributes(span)["db.query.text"]) for span in operations(spans.all())]
    assert sorted(found) == sorted((parents[n], f"SELECT ? AS n{n}") for n in range(8) for _ in range(20))


async def test_a_cancelled_task_leaves_no_span_behind(cluster, spans):
    async with await psycopg.AsyncConnection.connect(dsn(cluster.primary), autocommit=True) as connection:
        before = context.get_current()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connection.execute("SELECT pg_sleep(20)")
        assert context.get_current() == before
    (span,) = operations(spans.all())
    assert (span.status.status_code, attributes(span)["error.type"]) == (StatusCode.ERROR, "CancelledError")
