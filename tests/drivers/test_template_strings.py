"""Template strings (PEP 750): what is told of one. Python has them from 3.14 on; here a stand-in has their parts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psycopg
from psycopg import sql

from instrumented_wrapper.databases.postgresql.summary import words_of
from instrumented_wrapper.drivers.psycopg.telling import _text_of

from .side import dsn


class Template(list[Any]):
    """Texts and interpolations, one after the other."""


def part(value, how=""):
    return SimpleNamespace(value=value, format_spec=how)


def test_values_are_not_shown_names_and_queries_are(cluster):
    condition = Template(["tenant = ", part("secret", "l"), " AND b = 'secret'"])
    query = Template(
        ["SELECT ", part(sql.SQL("a, b"), "q"), " FROM ", part("orders", "i"), " WHERE ", part(condition, "q")]
    )
    query += [" AND id = ", part("secret"), " AND x = ", part("secret", "b")]
    with psycopg.connect(dsn(cluster.primary)) as connection:
        text, composed = _text_of(connection.cursor(), query)
    assert composed
    words = words_of(text)
    assert words.summary == 'SELECT "orders"'
    shown = 'SELECT a, b FROM "orders" WHERE tenant = %s AND b = ? AND id = %s AND x = %s'
    assert words.text == shown
