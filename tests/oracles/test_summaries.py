"""A summary does not depend on data: whatever an app puts into a statement, there are one or two names for it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from instrumented_wrapper.databases import mysql, postgresql, sqlite

from .secrets import EVERYWHERE, OF, filled

DATABASES: dict[str, Any] = {"postgresql": postgresql, "mysql": mysql, "sqlite": sqlite}
VALUES = (
    "1",
    "-2.5",
    "NULL",
    "'x'",
    "DEFAULT",
    "now()",
    "CAST(1 AS char(9))",
    "@a",
    "col",
    "TRUE",
    "(1 + col)",
    "%s",
    "x.y",
)


@pytest.mark.parametrize("database", DATABASES)
def test_one_name_for_one_statement_whatever_is_in_it(database: str) -> None:
    for form in (*EVERYWHERE, *OF[database]):
        source = random.Random(3)
        found = {DATABASES[database].words_of(filled(source, form)).summary for _ in range(300)}
        # another one where the data makes a text ambiguous; and there are three kinds of names for {t}
        assert len(found) <= (3 if "{t}" in form else 2), (form, found)


def several(source: random.Random, make: Callable[[], str], between: str) -> str:
    return between.join(make() for _ in range(source.randrange(1, 30)))


def row(source: random.Random) -> str:
    return f"({source.choice(VALUES)}, {source.choice(VALUES)})"


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize(
    ("summary", "form"),
    [
        ("INSERT t", lambda s: "INSERT INTO t (a, b) VALUES " + several(s, lambda: row(s), ", ")),
        ("INSERT t", lambda s: several(s, lambda: f"INSERT INTO t VALUES {row(s)}", "; ")),
        ("BEGIN INSERT t UPDATE u COMMIT", lambda s: f"BEGIN; {several(s, lambda: DML.format(row(s)), '; ')}; COMMIT"),
        (
            "INSERT t SELECT",
            lambda s: "INSERT INTO t " + several(s, lambda: f"SELECT {s.choice(VALUES)}", " UNION ALL "),
        ),
        ("SELECT t", lambda s: f"SELECT * FROM t WHERE a IN ({several(s, lambda: s.choice(VALUES), ', ')})"),
        ("SELECT t", lambda s: f"SELECT * FROM t WHERE (a, b) IN ({several(s, lambda: row(s), ', ')})"),
        ("SELECT t u", lambda s: f"SELECT * FROM t, (VALUES {several(s, lambda: row(s), ', ')}) AS v (a, b), u"),
        ("SELECT t", lambda s: "SELECT * FROM " + several(s, lambda: f"t AS x{s.randrange(99)}", " JOIN ")),
        (
            "UPDATE t",
            lambda s: f"UPDATE t SET a = CASE id {several(s, lambda: WHEN.format(s.choice(VALUES)), ' ')} END",
        ),
        ("SELECT t", lambda s: several(s, lambda: f"SELECT a AS b{s.randrange(99)} FROM t", " UNION ")),
        ("DELETE t", lambda s: "DELETE FROM t WHERE " + several(s, lambda: f"(a = {s.choice(VALUES)})", " OR ")),
    ],
)
def test_one_name_however_many_there_are(database: str, summary: str, form: Callable[[random.Random], str]) -> None:
    source = random.Random(5)
    for _ in range(200):
        text = form(source)
        if len(text) < 8000:
            assert DATABASES[database].words_of(text).summary == summary, text


DML, WHEN = "INSERT INTO t VALUES {0}; UPDATE u SET a = 1", "WHEN {0} THEN {0}"
