"""Loops over named cursors, while something else moves the cursor: as bare, and each page is one that is observed.

The rows of a page come from C alone. The expected rows are what the bare driver gives.
"""

from __future__ import annotations

from itertools import islice

import pytest
from psycopg2 import errors, extensions, extras

ITERSIZE = 3


@pytest.fixture
def named(connect):
    def named(rows=10, **keywords):
        cursor = connect().cursor("c", **keywords)
        cursor.itersize = ITERSIZE
        cursor.execute(f"SELECT generate_series(1, {rows})")
        return cursor

    return named


def fetches(spans):
    return len([span for span in spans.all() if span.name == "FETCH"])


def of_bare(watch, take):
    """Return what `take` gets from a cursor of the C class, which nothing looks after."""
    connection = extensions.connection(watch.dsn())
    cursor = extensions.cursor(connection, "c")
    cursor.itersize = ITERSIZE
    cursor.execute("SELECT generate_series(1, 10)")
    taken = take(cursor)
    connection.close()
    return taken


def all_rows(cursor):
    return list(cursor)


def in_two_loops(cursor):
    return [*islice(cursor, 4), *cursor]


def in_nested_loops(cursor):
    return [(row, [*islice(cursor, 2)]) for row in cursor]


def with_next_in_it(cursor):
    return [(row, next(cursor, None)) for row in cursor]


def with_fetchone_in_it(cursor):
    return [(row, cursor.fetchone()) for row in islice(cursor, 4)]


def with_fetchmany_in_it(cursor):
    return [(row, cursor.fetchmany(2)) for row in islice(cursor, 3)]


def with_scroll_in_it(cursor):
    taken = []
    for row in cursor:
        taken.append(row)
        if len(taken) == 2:
            cursor.scroll(3)
    return taken


WAYS = [all_rows, in_two_loops, in_nested_loops, with_next_in_it, with_fetchone_in_it, with_fetchmany_in_it]
WAYS += [with_scroll_in_it]


@pytest.mark.parametrize("take", WAYS)
def test_a_loop_gives_the_rows_that_it_gives_bare(named, watch, take):
    assert take(named()) == of_bare(watch, take)


@pytest.mark.parametrize(
    ("take", "ends"), [(all_rows, 1), (in_two_loops, 1), (in_nested_loops, 2), (with_next_in_it, 1)]
)
def test_each_page_of_a_loop_is_observed(named, spans, take, ends):
    """Ten rows by three are four pages, and psycopg2 asks once more at each end of a loop."""
    cursor = named()
    spans.clear()
    take(cursor)
    assert fetches(spans) == 4 + ends


def test_a_class_of_the_app_goes_on_to_give_its_own_rows(named):
    class Doubled(extensions.cursor):
        def __next__(self):
            return [2 * value for value in super().__next__()]

    assert list(named(4, cursor_factory=Doubled)) == [[2], [4], [6], [8]]


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        (extras.DictCursor, lambda row: row["generate_series"]),
        (extras.RealDictCursor, lambda row: row["generate_series"]),
        (extras.NamedTupleCursor, lambda row: row.generate_series),
    ],
)
def test_the_classes_of_psycopg2_go_on_to_give_theirs(named, kind, row):
    assert [row(each) for each in named(7, cursor_factory=kind)] == [1, 2, 3, 4, 5, 6, 7]


def test_a_loop_over_no_statement_raises_as_bare(connect):
    with pytest.raises(errors.InvalidCursorName):
        list(connect().cursor("c"))
