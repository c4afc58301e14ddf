"""Texts that are mostly data: what they do besides is seen, whatever the data looks like."""

from __future__ import annotations

import pytest

from instrumented_wrapper.databases import mysql, postgresql
from instrumented_wrapper.databases.lexer import without_data

ROWS = ", ".join(f"({number}, 'set up ''{number}'' (x)', {number}.5, lower('f(x)'), NULL)" for number in range(200))
INSERT = f"INSERT INTO t(a, b) VALUES {ROWS}"


@pytest.mark.parametrize("database", [mysql, postgresql])
def test_data_alone_does_nothing(database) -> None:
    assert database.scan(INSERT) is None


@pytest.mark.parametrize("database", [mysql, postgresql])
@pytest.mark.parametrize(
    ("text", "called"),
    [
        (f"{INSERT}, (1, my_f(2))", {"my_f"}),
        (f"{INSERT}, (1, my_f(2)), (1, my_f(2)), (3, other_f(2))", {"my_f", "other_f"}),
        (f"INSERT INTO t SELECT my_f(1) WHERE a IN (1, 2), (1, 2); {INSERT}", {"my_f"}),
        (f"{INSERT}, (1, my_f /* as 'before */ ('a'))", {"my_f"}),
    ],
)
def test_functions_among_data(database, text: str, called: set[str]) -> None:
    assert database.scan(text).calls == called


@pytest.mark.parametrize("database", [mysql, postgresql])
@pytest.mark.parametrize("between", ["; ", ", ('it''s'); ", ", (1), (1), (1);", " -- it's\n; "])
def test_statement_behind_data(database, between: str) -> None:
    (step,) = database.scan(f"{INSERT}{between}SET lock_timeout = 1").steps
    assert step.name == "lock_timeout"


@pytest.mark.parametrize("text", ['"a', "-- '", "/* ' */", "\\", "E'a\\'"])
@pytest.mark.parametrize("scan", [mysql.statements, postgresql.statements])
def test_text_is_whole_where_strings_are_uncertain(scan, text: str) -> None:
    whole = f"{INSERT}, {text} SELECT 1"
    assert without_data(whole, scan._LITERALS, scan._NOT_PLAIN) == whole
