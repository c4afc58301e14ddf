"""Which statements have a span, on every driver: what is sent has one, what is not sent has none."""

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from servers import Proxy

from .driver import DriverUnderTest

NOTHING: dict[str, Callable[[], Any]] = {
    "list": list,
    "tuple": tuple,
    "deque": deque,
    "range": lambda: range(0),
    "values of a dictionary": lambda: {}.values(),
    "iterator": lambda: iter(()),
    "generator": lambda: (number for number in ()),
}
MANY = "DELETE FROM {} WHERE id = %s"


def names(spans: Any) -> list[str]:
    return [span.name for span in spans.all()]


@pytest.mark.parametrize("sets", NOTHING)
def test_an_empty_batch_has_no_span(driver: DriverUnderTest, connect, table, spans, measured, sets: str) -> None:
    if sets in ("iterator", "generator"):
        driver.needs("batches from iterators")
    connection = connect(autocommit=True) if driver.has("autocommit") else connect()
    cursor = driver.cursor(connection)
    spans.clear()
    before = measured.operations()
    driver.execute_many(cursor, MANY.format(table), NOTHING[sets]())
    assert names(spans) == []
    assert measured.operations() == before


@pytest.mark.parametrize("kind", [list, iter], ids=["list", "iterator"])
def test_an_empty_batch_sends_no_statement(driver: DriverUnderTest, connect, site, table, proxy: Proxy, kind) -> None:
    """psycopg sends Flush and Sync, with no statement between them."""
    driver.needs("empty batches that send nothing")
    if kind is iter:
        driver.needs("batches from iterators")
    connection = connect(site.dsn(proxy), autocommit=True)
    cursor = driver.cursor(connection)
    proxy.clear()
    driver.execute_many(cursor, MANY.format(table), kind(()))
    assert b"DELETE" not in proxy.seen("client")
    assert proxy.bytes_from_client <= 10


@pytest.mark.parametrize("many", [1, 2, 5])
def test_an_iterator_is_passed_on_whole(driver: DriverUnderTest, connect, table, spans, many: int) -> None:
    driver.needs("batches from iterators")
    connection = connect()
    cursor = driver.cursor(connection)
    spans.clear()
    driver.execute_many(cursor, f"INSERT INTO {table} VALUES (%s)", ((number,) for number in range(many)))
    (batch,) = (span for span in spans.all() if "INSERT" in span.name)
    assert batch.name == f"BATCH INSERT {table}"
    assert driver.execute(connection, f"SELECT count(*) FROM {table}") == [(many,)]


def test_an_iterator_that_fails_fails_in_the_app(driver: DriverUnderTest, connect, table) -> None:
    def sets() -> Any:
        yield from ()
        raise LookupError("no such order")

    driver.needs("batches from iterators")
    connection = connect()
    with pytest.raises(Exception, match="no such order"):
        driver.execute_many(driver.cursor(connection), f"INSERT INTO {table} VALUES (%s)", sets())


@pytest.mark.parametrize("text", ["-- nothing", "/* nothing */"])
def test_a_text_without_a_statement_has_a_span(driver: DriverUnderTest, connect, site, spans, text: str) -> None:
    """Named by where it goes; MySQL refuses it, the others do nothing."""
    connection = connect()
    cursor = driver.cursor(connection)
    spans.clear()
    try:
        driver.execute_on(cursor, text)
    except Exception:
        driver.rollback(connection)
    (span,) = (span for span in spans.all() if span.name not in ("BEGIN", "ROLLBACK"))
    assert span.name == span.attributes["db.namespace"]
    assert "db.query.summary" not in span.attributes


@pytest.mark.parametrize("without", ["namespace", "summary", "namespace,summary"])
def test_what_metrics_leave_out(driver: DriverUnderTest, connect, spans, measured, without: str) -> None:
    """Spans have it."""
    connection = connect(instrumented_wrapper={"metrics_without": without})
    cursor = driver.cursor(connection)
    spans.clear()
    before = set(measured.operations())
    driver.execute_on(cursor, "SELECT 4711")
    (span,) = spans.named("SELECT")
    assert {"db.namespace", "db.query.summary"} <= set(span.attributes)
    left_out = {{"namespace": "db.namespace", "summary": "db.query.summary"}[word] for word in without.split(",")}
    stays = {name: value for name, value in span.attributes.items() if name not in {"db.query.text", *left_out}}
    assert frozenset(stays.items()) in set(measured.operations()) - before


def connects(spans: Any) -> list[dict[str, Any]]:
    return [dict(span.attributes) for span in spans.all() if span.attributes.get("db.operation.name") == "CONNECT"]


def test_a_connect_has_a_span_where_it_is_asked_for(driver: DriverUnderTest, connect, site, spans) -> None:
    """It names the server that the app has asked for, as the spans of its statements do."""
    where = (site.cluster.primary,) if driver.has("server") else ()
    connect(site.dsn(*where))
    assert connects(spans) == []
    connection = connect(site.dsn(*where), instrumented_wrapper={"connect_spans": True})
    (found,) = connects(spans)
    driver.execute(connection, "SELECT 4711")
    (statement,) = spans.named("SELECT")
    names = {"server.address", "server.port"}
    assert {name: found.get(name) for name in names} == {name: statement.attributes.get(name) for name in names}
    assert statement.attributes["db.namespace"].startswith(found["db.namespace"])
    assert "error.type" not in found


def test_a_connect_that_fails_has_a_span_without_the_password(driver: DriverUnderTest, site, spans) -> None:
    driver.needs("server")
    with pytest.raises(Exception, match=r"."):  # not two drivers raise the same one
        driver.connect(
            site.dsn(site.cluster.primary, password="wrong-secret"), instrumented_wrapper={"connect_spans": True}
        )
    (found,) = connects(spans)
    assert found["error.type"]
    assert not [span for span in spans.all() if "wrong-secret" in span.to_json()]
