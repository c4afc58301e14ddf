"""What the app sees of sqlite3 itself is as without us: warnings, errors, trace callbacks."""

import datetime
import gc
import sqlite3
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

since_3_12 = pytest.mark.skipif(sys.version_info < (3, 12), reason="these warnings came with Python 3.12")
since_3_13 = pytest.mark.skipif(sys.version_info < (3, 13), reason="these warnings came with Python 3.13")
until_3_15 = pytest.mark.skipif(sys.version_info >= (3, 15), reason="these warnings are errors since Python 3.15")
since_3_15 = pytest.mark.skipif(sys.version_info < (3, 15), reason="these errors were warnings before Python 3.15")
DAY = datetime.date(2020, 1, 2)


def warned(call: Callable[[], Any]) -> int:
    """Return how many warnings of what is deprecated come of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return sum(issubclass(one.category, DeprecationWarning) for one in caught)


@since_3_12
@pytest.mark.parametrize("by", ["connection", "cursor"])
def test_values_that_python_adapts_are_warned_of(by: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (i)")
        on = connection if by == "connection" else connection.cursor()
        for _ in range(2):  # a text that is known already, too
            assert warned(lambda: on.execute("INSERT INTO t VALUES (?)", (DAY,))) == 1
            assert warned(lambda: on.executemany("INSERT INTO t VALUES (?)", ((DAY,) for _ in "12"))) == 2


@since_3_15
def test_parameters_in_the_wrong_order_are_refused_by_sqlite3() -> None:
    with closing(sqlite3.connect(":memory:")) as connection, pytest.raises(sqlite3.ProgrammingError, match="nameless"):
        connection.execute("SELECT :a", (1,))


@since_3_12
@until_3_15
@pytest.mark.parametrize("by", ["connection", "cursor"])
def test_named_parameters_in_a_sequence_are_warned_of(by: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (i)")
        on = connection if by == "connection" else connection.cursor()
        for _ in range(2):
            assert warned(lambda: on.execute("SELECT :a", (1,))) == 1
            assert warned(lambda: on.executemany("INSERT INTO t VALUES (@a)", [[1]])) == 1
            assert warned(lambda: on.execute("SELECT :a, '12:30'", {"a": 1})) == 0
            assert warned(lambda: on.execute("SELECT '12:30', ?", (1,))) == 0


@since_3_12
@until_3_15
def test_a_warning_that_is_an_error_is_raised() -> None:
    with closing(sqlite3.connect(":memory:")) as connection, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DeprecationWarning, match="named parameter"):
            connection.execute("SELECT :a", (1,))


@since_3_12
def test_an_adapter_of_the_app_is_its_own() -> None:
    key = (datetime.date, sqlite3.PrepareProtocol)
    before = sqlite3.adapters[key]
    sqlite3.register_adapter(datetime.date, lambda day: day.year)
    try:
        with closing(sqlite3.connect(":memory:")) as connection:
            assert connection.execute("SELECT ?", (DAY,)).fetchone() == (2020,)
    finally:
        sqlite3.adapters[key] = before


@since_3_13
@until_3_15
def test_deprecated_arguments_are_warned_of() -> None:
    made: list[Any] = []
    assert warned(lambda: made.append(sqlite3.connect(":memory:", 1.0)))
    assert warned(lambda: made.append(sqlite3.Connection(":memory:", 1.0)))
    assert warned(lambda: made[0].set_trace_callback(trace_callback=None)) == 1
    for connection in made:
        connection.close()


@since_3_13
@pytest.mark.parametrize("name", ["connect", "Connection"])
def test_a_connection_that_nobody_closes_is_told_of(name: str) -> None:
    def leave() -> None:
        getattr(sqlite3, name)(":memory:").execute("SELECT 1")
        gc.collect()  # sqlite3's connections refer to themselves

    with pytest.warns(ResourceWarning, match="unclosed database in <sqlite3.Connection object"):
        leave()


def test_a_trace_callback_is_told_of_the_apps_statements_only() -> None:
    seen: list[str] = []
    connection = sqlite3.connect(":memory:")
    connection.set_trace_callback(seen.append)
    connection.execute("PRAGMA foreign_keys = 1")
    connection.executescript("PRAGMA busy_timeout(3); PRAGMA query_only = 1")
    connection.isolation_level = None
    connection.set_trace_callback(None)
    connection.execute("SELECT 1")
    connection.set_trace_callback(seen.append)
    connection.close()  # a reset
    assert [text.strip() for text in seen] == [
        "PRAGMA foreign_keys = 1",
        "PRAGMA busy_timeout(3);",
        "PRAGMA query_only = 1",
    ]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda c: c.execute([]), "must be str, not list"),
        (lambda c: c.execute(b"SELECT 1"), "must be str, not bytes"),
        (lambda c: c.cursor(None), "'NoneType' object is not callable"),
        (lambda c: c.executescript(5), "must be str, not int"),
        (lambda c: setattr(c, "isolation_level", 5), "must be str or None"),
    ],
)
def test_errors_of_the_apps_arguments_are_sqlites(call: Any, text: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection, pytest.raises(TypeError, match=text):
        call(connection)


def test_an_authorizer_that_forbids_questions_forbids_nothing_else() -> None:
    def authorize(action: int, name: str | None, value: str | None, *_: Any) -> int:
        return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_PRAGMA and value is None else sqlite3.SQLITE_OK

    with closing(sqlite3.connect(":memory:")) as connection:
        connection.set_authorizer(authorize)
        for value in (1, 0, 1):
            connection.execute(f"PRAGMA foreign_keys = {value}")
            assert connection.execute("SELECT 1").fetchone() == (1,)
        connection.set_authorizer(None)
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_a_function_in_sql_may_use_the_connection() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("CREATE TABLE t (i); INSERT INTO t VALUES (1), (2), (3)")
        connection.create_function(
            "up_to", 1, lambda i: connection.execute("SELECT count(*) FROM t WHERE i <= ?", (i,)).fetchone()[0]
        )
        connection.create_function("wait", 1, lambda i: connection.execute(f"PRAGMA busy_timeout = {i}").fetchone()[0])
        assert connection.execute("SELECT up_to(i), wait(i) FROM t").fetchall() == [(1, 1), (2, 2), (3, 3)]
        rows = connection.executemany(
            "INSERT INTO t VALUES (?)", (connection.execute("SELECT ?", (i,)).fetchone() for i in (4, 5))
        )
        assert (rows.rowcount, connection.execute("SELECT max(i) FROM t").fetchone()) == (2, (5,))


@pytest.mark.parametrize("spans", ["on", "off"])
def test_while_the_app_makes_the_sets_of_a_batch_others_may_use_the_connection(spans: str) -> None:
    with closing(
        sqlite3.connect(":memory:", check_same_thread=False, instrumented_wrapper={"query_spans": spans})
    ) as one:
        one.execute("CREATE TABLE t (i)")
        found: list[Any] = []

        def sets() -> Iterator[Any]:
            for number in range(3):
                other = threading.Thread(
                    target=lambda: found.append(one.execute("SELECT count(*) FROM t").fetchone()[0])
                )
                other.start()
                other.join(10)  # seconds
                yield (number,)

        one.executemany("INSERT INTO t VALUES (?)", sets())
        assert found == [0, 1, 2]
