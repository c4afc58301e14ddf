"""Pages of server-side cursors: the first ten have spans of their own, the rest is one event; rows have none.

Over psycopg, sync and async, and psycopg2, on a real server.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from weakref import ref

import psycopg2
import pytest
from opentelemetry.trace import StatusCode

from ..operation_spans import attributes, names, span_of
from ..side import done, dsn, listed

MOST = 10  # spans


class OfPsycopg:
    """Server-side cursors of psycopg."""

    empty = 0  # pages that are fetched after one that is not full

    def __init__(self, side, cluster):
        self.side, self.cluster = side, cluster

    async def connect(self):
        return await self.side.connect(dsn(self.cluster.primary))

    async def execute(self, cursor, text):
        await done(cursor.execute(text))

    async def rows(self, cursor):
        return await listed(cursor)

    async def take(self, cursor, number):
        if self.side.is_async:
            return [await anext(cursor) for _ in range(number)]
        return [next(cursor) for _ in range(number)]


class OfPsycopg2(OfPsycopg):
    """Named cursors of psycopg2, which are good for one statement."""

    empty = 1

    async def connect(self):
        return psycopg2.connect(dsn(self.cluster.primary))

    async def execute(self, cursor, text):
        cursor.execute(text)

    async def rows(self, cursor):
        return list(cursor)

    async def take(self, cursor, number):
        return [next(cursor) for _ in range(number)]


@pytest.fixture(params=["psycopg", "psycopg2"])
def driver(request, side, cluster):
    if request.param == "psycopg2" and side.is_async:
        pytest.skip("psycopg2 has no async connections that are looked after")
    return (OfPsycopg if request.param == "psycopg" else OfPsycopg2)(side, cluster)


async def declared(driver, connection, rows, itersize=100, name="c"):
    cursor = connection.cursor(name=name)
    cursor.itersize = itersize
    await driver.execute(cursor, f"SELECT generate_series(1, {rows})")
    return cursor


def fetches(spans):
    return [span for span in spans.all() if span.name == "FETCH"]


def measured(reader):
    """Return how many FETCHes were measured in this process up to now."""
    data = reader.get_metrics_data()
    named = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
    points = [p for m in named if m.name == "db.client.operation.duration" for p in m.data.data_points]
    return sum(p.count for p in points if p.attributes.get("db.operation.name") == "FETCH")


def rest(span):
    (event,) = span.events
    assert event.name == "pages"
    assert event.attributes["seconds"] >= 0
    assert span.start_time <= event.timestamp <= span.end_time
    return event.attributes["count"]


async def test_a_loop_over_few_pages(driver, spans):
    connection = await driver.connect()
    cursor = await declared(driver, connection, 450)
    spans.clear()
    assert len(await driver.rows(cursor)) == 450
    assert names(spans.all()) == ["FETCH"] * (5 + driver.empty)  # the last one has 50 rows
    assert not any(span.events for span in spans.all())
    await done(connection.close())


async def test_a_loop_over_a_hundred_thousand_rows(driver, spans, reader):
    connection = await driver.connect()
    cursor = await declared(driver, connection, 100_000)
    spans.clear()
    before = measured(reader)
    assert len(await driver.rows(cursor)) == 100_000
    found = fetches(spans)
    assert len(found) == MOST == len(spans.all())
    assert not any(span.events for span in found[:-1])
    assert rest(found[-1]) == 1001 - MOST  # the last one is empty
    assert all(span.status.status_code is StatusCode.UNSET for span in found)
    assert measured(reader) - before == 1001
    await done(connection.close())


async def test_rows_have_none(driver, spans, reader):
    connection = await driver.connect()
    before = measured(reader)
    cursor = await declared(driver, connection, 50, itersize=1)
    spans.clear()
    for number in range(1, 31):
        assert await done(cursor.fetchone()) == (number,)
    assert await done(cursor.fetchmany(1)) == [(31,)]
    await done(cursor.scroll(1))
    assert await driver.take(cursor, 1) == [(33,)]
    assert names(spans.all()) == []
    assert measured(reader) == before
    await done(connection.close())


async def test_pages_that_are_asked_for_one_by_one(driver, spans):
    connection = await driver.connect()
    cursor = await declared(driver, connection, 10_000)
    spans.clear()
    for _ in range(24):
        assert len(await done(cursor.fetchmany(10))) == 10
    assert len(fetches(spans)) == MOST - 1  # the last one is open
    assert len(await done(cursor.fetchall())) == 10_000 - 240
    assert rest(fetches(spans)[-1]) == 15
    await done(connection.close())


@pytest.mark.parametrize("way", ["close", "execute"])
async def test_a_cursor_that_is_left_before_its_end(driver, spans, way):
    if driver.empty and way == "execute":
        pytest.skip("psycopg2's named cursors are good for one statement")
    connection = await driver.connect()
    cursor = await declared(driver, connection, 10_000)
    spans.clear()
    await driver.take(cursor, 1501)
    assert len(fetches(spans)) == MOST - 1
    if way == "close":
        await done(cursor.close())
    else:
        await done(connection.commit())
        await driver.execute(cursor, "SELECT 1")
    assert len(fetches(spans)) == MOST
    assert rest(fetches(spans)[-1]) == 16 - MOST
    await done(connection.close())


async def test_each_statement_of_a_cursor_begins_anew(driver, spans):
    if driver.empty:
        pytest.skip("psycopg2's named cursors are good for one statement")
    connection = await driver.connect()
    cursor = await declared(driver, connection, 5_000)
    await driver.rows(cursor)
    await done(connection.commit())
    spans.clear()
    await driver.execute(cursor, "SELECT generate_series(1, 1500)")
    assert len(await driver.rows(cursor)) == 1500
    assert len(fetches(spans)) == MOST
    assert rest(fetches(spans)[-1]) == 16 - MOST
    await done(connection.close())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_a_cursor_that_is_given_up_is_not_kept(driver, spans):
    """Its last span ends with the next operation."""
    connection = await driver.connect()
    cursor = await declared(driver, connection, 10_000)
    spans.clear()
    await driver.take(cursor, 1501)
    gone = ref(cursor)
    del cursor
    gc.collect()
    assert gone() is None
    await done(connection.rollback())
    assert len(fetches(spans)) == MOST
    assert rest(fetches(spans)[-1]) == 16 - MOST
    await done(connection.close())


async def test_two_cursors_are_counted_apart(driver, spans):
    connection = await driver.connect()
    one, other = [await declared(driver, connection, 10_000, name=name) for name in ("one", "other")]
    spans.clear()
    for cursor, number in ((one, 11), (other, 12), (one, 3), (other, 4)):
        for _ in range(number):
            await done(cursor.fetchmany(2))
    for cursor in (one, other):
        await done(cursor.close())
    assert len(fetches(spans)) == 2 * MOST
    assert [rest(span) for span in fetches(spans) if span.events] == [4, 6]
    await done(connection.close())


@pytest.mark.parametrize("number", [3, 10, 14], ids=["early", "the last one with a span", "late"])
async def test_a_page_that_fails(driver, spans, number):
    """A division by zero in the first row of that page."""
    connection = await driver.connect()
    cursor = connection.cursor(name="c")
    cursor.itersize = 10
    await driver.execute(cursor, f"SELECT 1 / (n - {(number - 1) * 10 + 1}) FROM generate_series(1, 1000) n")
    spans.clear()
    with pytest.raises(Exception, match="division by zero"):
        await driver.rows(cursor)
    found = fetches(spans)
    assert len(found) == min(number, MOST)
    assert attributes(found[-1])["error.type"] == "22012"
    assert found[-1].status.status_code is StatusCode.ERROR
    assert all("error.type" not in attributes(span) for span in found[:-1])
    if number > MOST:
        assert rest(found[-1]) == number - MOST
    await done(connection.close())


async def test_a_failover_in_a_late_page_is_below_the_last_span(driver, cluster, spans):
    connection = await driver.connect()
    cursor = await declared(driver, connection, 10_000)
    spans.clear()
    await driver.take(cursor, 1501)
    cluster.primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
    with pytest.raises(Exception):  # noqa: B017 - of either driver's, or ours: here only the spans matter
        await driver.rows(cursor)
    last = fetches(spans)[-1]
    assert last.status.status_code is StatusCode.ERROR
    failover = span_of(spans.all(), "failover")
    assert failover.parent.span_id == last.context.span_id
    await done(connection.close())


ABANDONED = """
import sys
import instrumented_wrapper
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, BatchSpanProcessor

provider = TracerProvider()
exporter = ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None))
provider.add_span_processor(BatchSpanProcessor(exporter))
trace.set_tracer_provider(provider)
instrumented_wrapper.instrument()
import psycopg, psycopg2

connection = (psycopg if sys.argv[1] == "psycopg" else psycopg2).connect(sys.argv[2])
cursor = connection.cursor("c")
cursor.execute("SELECT generate_series(1, 10000)")
for _ in range(14):
    cursor.fetchmany(10)
if sys.argv[3] == "forks":
    import os
    child = os.fork()
    if not child:
        sys.exit()
    os.waitpid(child, 0)
"""


@pytest.mark.parametrize("way", ["exits", "forks"])
@pytest.mark.parametrize("name", ["psycopg", "psycopg2"])
def test_a_cursor_that_is_open_at_the_end_of_the_process(cluster, name, way):
    """A forked child leaves the span to its parent."""
    command = [sys.executable, "-c", ABANDONED, name, dsn(cluster.primary), way]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.count('"name": "FETCH"') == MOST
    assert done.stdout.count('"count": 4') == 1
