"""Texts with a secret in their data, sent to four databases: it is in no span, no metric and no log of ours.

Refused ones count, too: a text with one apostrophe too many is what an app sends by mistake, and its span is exported.
``SECRET_TEXTS`` in the environment says how many texts each database gets, ``SECRET_SEED`` which.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import psycopg
import psycopg2
import pymysql
import pytest

from servers import Cluster
from servers.replicating import ACCOUNT

from .secrets import DIGITS, MADE_UP, WORD, statements

COUNT = int(os.environ.get("SECRET_TEXTS", "400"))
ERRORS = (psycopg.Error, psycopg2.Error, pymysql.MySQLError, sqlite3.Error, sqlite3.Warning, TypeError, ValueError)
SEED = int(os.environ.get("SECRET_SEED", "1"))
Connect = Callable[[], Any]


def postgresql(cluster: Cluster) -> tuple[Connect, Connect]:
    dsn = cluster.dsn(target_session_attrs="primary")
    return lambda: psycopg.connect(dsn, autocommit=True), lambda: psycopg2.connect(dsn)


def mysql(running: Any) -> tuple[Connect, ...]:
    running.restore()
    where = {"host": running.primary.host, "port": running.primary.port, "database": "app", "autocommit": True}
    return (lambda: pymysql.connect(**where, **ACCOUNT),)


@pytest.fixture(params=["postgresql", "mariadb", "mysql", "sqlite"])
def database(request: pytest.FixtureRequest) -> tuple[str, tuple[Connect, ...]]:
    """Return whose texts these are, and how to connect with each driver."""
    if request.param == "postgresql":
        return "postgresql", postgresql(request.getfixturevalue("cluster"))
    if request.param == "sqlite":
        return "sqlite", (lambda: sqlite3.connect(":memory:", isolation_level=None),)
    return "mysql", mysql(request.getfixturevalue(f"running_{request.param}"))


@contextlib.contextmanager
def a_table(connect: Connect) -> Iterator[Any]:
    with contextlib.closing(connect()) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        for text in ("DROP VIEW IF EXISTS v", "DROP TABLE IF EXISTS pg", "CREATE TABLE pg (a text, b bigint)"):
            cursor.execute(text)
        yield connection


def send(connection: Any, text: str, number: int) -> bool:
    """Send a text as apps do, without parameters or with none in them; return whether it was accepted."""
    cursor = connection.cursor()
    try:
        cursor.execute(text, *((), ((),), (), ({},))[number % 4])
        if cursor.description:
            cursor.fetchall()
    except ERRORS:
        return False
    finally:
        with contextlib.suppress(Exception):  # results that were not read
            cursor.close()
    return True


def found_in(spans: Any, measured: Any) -> Counter[str]:
    """Return the spans and series that have the secret in them."""
    names = [span.name for span in spans.all()] + [str(labels) for labels in measured()]
    told = names + [span.to_json() for span in spans.all()]
    found = [text for text in told if WORD in text.lower() or DIGITS in text]
    return Counter(found + [name for name in names if MADE_UP in name])


def test_no_secret_is_told(
    database: Any, spans: Any, reader: Any, caplog: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)  # SQLite makes files of what it attaches
    name, drivers = database
    accepted = shown = 0

    def series() -> Iterator[Any]:
        data = reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                yield from (point.attributes for point in metric.data.data_points)

    for number, connect in enumerate(drivers):
        texts = islice(statements(name, SEED + number), COUNT // len(drivers))
        with a_table(connect) as connection:
            for sent, text in enumerate(texts):
                spans.clear()
                accepted += send(connection, text, sent)
                assert spans.all(), text
                assert not found_in(spans, tuple), text
                shown += any("db.query.text" in span.attributes for span in spans.all())
    assert not found_in(spans, series)
    assert WORD not in caplog.text.lower() and DIGITS not in caplog.text
    assert accepted > COUNT / 10 and shown > COUNT / 4
    print(f"{name}: {COUNT} texts, {accepted} accepted, {shown} shown without their values")
