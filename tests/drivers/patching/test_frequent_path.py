"""The frequent path stays short: how many functions of the package run around a statement, and around its commit.

A number of calls is the same on every machine, which a time is not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import psycopg2
import pytest

import instrumented_wrapper

from ..watch import Watch

PACKAGE = os.path.dirname(instrumented_wrapper.__file__)
OPTIONS = {"query_spans": "off", "failover": "off"}


def ours(function: Callable[[], Any]) -> list[str]:
    """Return the names of the package's functions that run meanwhile, and those of C that read what is reported."""
    called: list[str] = []

    def profile(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            called.append(frame.f_code.co_name)
        elif event == "c_call" and argument.__name__ in ("get_parameter_status", "parameter_status"):
            called.append(argument.__name__)

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return called


@pytest.mark.parametrize(("module", "statement", "end"), [(psycopg2, 1, 3), (psycopg, 7, 10)])
def test_a_statement_and_its_commit(watch: Watch, module: Any, statement: int, end: int) -> None:
    connection = module.connect(watch.dsn(), instrumented_wrapper=OPTIONS)
    cursor = connection.cursor()
    for _ in range(3):  # what a text does is learned when it is first seen
        cursor.execute("SELECT 1")
        connection.commit()
    cursor.execute("SELECT 1")
    assert len(calls := ours(lambda: cursor.execute("SELECT 1"))) <= statement, calls
    assert len(calls := ours(connection.commit)) <= end, calls
    connection.close()


def test_a_row_of_a_named_cursor(watch: Watch) -> None:
    connection = psycopg2.connect(watch.dsn(), instrumented_wrapper=OPTIONS)
    cursor = connection.cursor("rows")
    cursor.execute("SELECT generate_series(1, 10)")
    next(cursor)
    assert ours(lambda: next(cursor)) == ["__next__"]
    assert len(calls := ours(cursor.fetchone)) <= 1, calls
    connection.close()


def test_a_row_in_a_loop_over_a_named_cursor(watch: Watch) -> None:
    connection = psycopg2.connect(watch.dsn(), instrumented_wrapper=OPTIONS)
    cursor = connection.cursor("rows")
    cursor.execute("SELECT generate_series(1, 10)")
    rows = iter(cursor)
    assert [next(rows), next(rows)] == [(1,), (2,)]
    assert ours(lambda: next(rows)) == []
    connection.close()
