"""Template strings (PEP 750), which Python has from 3.14 on: their settings are tracked, their values not shown."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from instrumented_wrapper import reset_session, reset_session_async, switch, switch_async
from instrumented_wrapper.databases.postgresql.summary import words_of
from instrumented_wrapper.drivers.psycopg.query_text import text_of

from ..operation_spans import attributes, operations
from ..side import done, dsn, rows

since_3_14 = pytest.mark.skipif(sys.version_info < (3, 14), reason="template strings came with Python 3.14")


class Template(list[Any]):
    """Texts and interpolations, one after the other: a stand-in for older versions of Python."""


def part(value, how=""):
    return SimpleNamespace(value=value, format_spec=how)


def template(text: str, **values: object) -> Any:
    """Return the template string that a program has as ``t"text"``."""
    return eval(f"t{text!r}", dict(values))


def test_values_are_not_shown_names_and_queries_are(cluster):
    condition = Template(["tenant = ", part("secret", "l"), " AND b = 'secret'"])
    query = Template(
        ["SELECT ", part(sql.SQL("a, b"), "q"), " FROM ", part("orders", "i"), " WHERE ", part(condition, "q")]
    )
    query += [" AND id = ", part("secret"), " AND x = ", part("secret", "b")]
    with psycopg.connect(dsn(cluster.primary)) as connection:
        text = text_of(connection.cursor(), query)
    words = words_of(text)
    assert words.summary == 'SELECT "orders"'
    shown = 'SELECT a, b FROM "orders" WHERE tenant = %s AND b = ? AND id = %s AND x = %s'
    assert words.text == shown


SETTINGS = {
    "work_mem": ("SELECT set_config({name}, {value}, false)", "9MB"),
    "statement_timeout": ("SET statement_timeout = {value:l}", "7s"),
    "search_path": ("SET {name:i} TO {value:i}", "elsewhere"),
    "app.tenant": ("SELECT set_config('app.tenant', {value}, false)", "secret"),
}


async def shown(connection: Any) -> dict[str, str]:
    """Return what the server says of the settings."""
    return {name: (await rows(connection, f"SELECT current_setting('{name}', true)"))[0][0] or "" for name in SETTINGS}


@since_3_14
async def test_settings_are_reset_and_carried_over(side, cluster):
    connection = await side.connect(dsn(cluster.primary), autocommit=True)
    before = await shown(connection)
    for name, (text, value) in SETTINGS.items():
        await done(connection.execute(template(text, name=name, value=value)))
    changed = {name: value for name, (_, value) in SETTINGS.items()}
    assert await shown(connection) == changed
    await done((switch_async if side.is_async else switch)(connection))
    assert await shown(connection) == changed
    await done((reset_session_async if side.is_async else reset_session)(connection))
    assert await shown(connection) == before


@since_3_14
async def test_spans_show_no_value(side, cluster, spans):
    connection = await side.connect(dsn(cluster.primary), autocommit=True)
    spans.clear()
    inner = template("{a} <> {b:l}", a="secret", b="secret two")
    query = template("SELECT 1 AS one WHERE {inner:q} AND 'secret' <> {a}", inner=inner, a="x")
    await done(connection.execute(query))
    (span,) = operations(spans.all())
    assert attributes(span)["db.query.text"] == "SELECT ? AS one WHERE %s <> %s AND ? <> %s"
