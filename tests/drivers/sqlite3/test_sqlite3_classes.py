"""sqlite3's classes: what the app derives from them, passes as a factory or calls goes on as it did, and is seen."""

import sqlite3
import threading
from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import pytest

from instrumented_wrapper import session_state

from ..script import complete

CLASSES = """
    import logging, sqlite3, sys, warnings
    from sqlite3 import Connection, Cursor, connect

    class Meta(type):
        pass

    class Early(sqlite3.Connection):
        def __init__(self, *args, extra=0, **kwargs):
            super().__init__(*args, **kwargs)
            self.extra = extra

    class WithMeta(sqlite3.Connection, metaclass=Meta):
        pass

    class Final(sqlite3.Connection):
        def __init_subclass__(cls):
            raise RuntimeError("final")

    class EarlyCursor(sqlite3.Cursor):
        def execute(self, *args):
            self.count = getattr(self, "count", 0) + 1
            return super().execute(*args)

    def found():
        return [dict(vars(sqlite3)), dict(vars(sqlite3.dbapi2)), dict(sqlite3.adapters)]

    before = found()
    import instrumented_wrapper
    instrumented_wrapper.instrument(query_spans="off")
    from instrumented_wrapper import session_state

    def changed(connection):
        with __import__("contextlib").closing(connection):
            connection.cursor().execute("PRAGMA foreign_keys = 1")
            return "foreign_keys" in session_state(connection)
"""


def known(connection: Any) -> set[str]:
    return set(session_state(connection))


def changed(connection: Any) -> set[str]:
    connection.execute("PRAGMA foreign_keys = 1")
    return known(connection)


def test_a_class_that_is_called_makes_connections_that_are_seen() -> None:
    class Own(sqlite3.Connection):
        def __init__(self, path: str, extra: int) -> None:
            super().__init__(path)
            self.extra = extra
            self.execute("PRAGMA busy_timeout = 7")  # what the constructor sets is the baseline

    for connection in (sqlite3.Connection(":memory:"), Own(":memory:", 3)):
        assert changed(connection) == {"foreign_keys"}
        connection.close()
    assert (type(connection), connection.extra) == (Own, 3)


def test_abstract_classes_and_functions_as_factories() -> None:
    class Abstract(sqlite3.Connection, ABC):
        @abstractmethod
        def name(self) -> str: ...

    class Own(Abstract):
        def name(self) -> str:
            return "own"

    def make(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        return sqlite3.Connection(*args, **kwargs)

    for factory in (Own, make, partial(Own), lambda path, factory: Own(path)):
        connection = sqlite3.connect(":memory:", factory=factory)
        assert changed(connection) == {"foreign_keys"}
        connection.close()


def test_early_classes() -> None:
    text = """
    def of(factory):
        return changed(sqlite3.connect(":memory:", factory=factory))

    warnings.simplefilter("ignore")
    logging.disable()
    early = sqlite3.connect(":memory:", factory=Early)
    print(isinstance(early, Early), early.extra, type(early).__name__, changed(early))
    in_order = sys.version_info < (3, 15)  # since then all arguments but the first are keywords
    print(of(WithMeta), changed(sqlite3.connect(":memory:", 5, 0, None, True, Early)) if in_order else of(Early))
    print(of(Final), changed(Early(":memory:")), changed(connect(":memory:")))

    class Another(sqlite3.Connection):
        def __new__(cls):
            return connect(":memory:")

    print(changed(Another()))
    """
    # a class that may not be derived from, what an early class makes itself, an early `connect`: C's own, not seen
    assert complete(CLASSES + text).splitlines() == ["True 0 Early True", "True True", "False False False", "False"]


def test_early_connections_are_of_the_modules_classes() -> None:
    text = """
    one, other = connect(":memory:"), sqlite3.connect(":memory:")
    print(isinstance(one, sqlite3.Connection), isinstance(one.cursor(), sqlite3.Cursor))
    print(issubclass(Early, sqlite3.Connection), issubclass(EarlyCursor, sqlite3.Cursor))
    print(isinstance(1, sqlite3.Connection), isinstance(other, Connection), isinstance(other.cursor(), Cursor))
    print(sqlite3.Connection.execute(one, "SELECT 1").fetchone(), sqlite3.Cursor(one).execute("SELECT 2").fetchone())
    cursor = other.cursor(EarlyCursor)
    print(cursor.execute("SELECT 3").fetchone(), cursor.count)
    one.close(); other.close()
    """
    assert complete(CLASSES + text).splitlines() == [
        "True True",
        "True True",
        "False True True",
        "(1,) (2,)",
        "(3,) 1",
    ]


def test_uninstrumented_all_is_as_it_was() -> None:
    text = """
    class Late(sqlite3.Connection):
        pass

    ours = [sqlite3.connect(":memory:"), Late(":memory:"), sqlite3.connect(":memory:", factory=Early)]
    cursors = [connection.execute("SELECT 1") for connection in ours]
    instrumented_wrapper.uninstrument()
    print(found() == before)
    for connection, cursor in zip(ours, cursors):
        with connection:
            connection.executescript("CREATE TABLE t (i)")
            cursor.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
        connection.isolation_level = None
        counted = connection.execute("SELECT count(*) FROM t").fetchone()
        print(counted, dict(session_state(connection)), connection.execute.__module__)
        connection.close()
    late = Late(":memory:")
    print(late.execute("SELECT 1").fetchone(), dict(session_state(late)))
    late.close()
    instrumented_wrapper.instrument(query_spans="off")
    print(changed(Late(":memory:")))
    """
    assert complete(CLASSES + text).splitlines() == ["True", *["(2,) {} None"] * 3, "(1,) {}", "True"]


def test_the_same_object_may_open_another_database() -> None:
    connection = sqlite3.connect(":memory:")
    assert changed(connection) == {"foreign_keys"}
    connection.__init__(":memory:")  # type: ignore[misc]
    assert not known(connection)
    assert changed(connection) == {"foreign_keys"}
    assert session_state(connection)["foreign_keys"].pristine_value == "0"
    connection.close()


@pytest.mark.parametrize("name", ["connect", "Connection"])
def test_our_keywords_are_taken_out(name: str) -> None:
    make = getattr(sqlite3, name)
    connection = make(":memory:", reset_session_state_on_close=False, instrumented_wrapper={"failover": "on"})
    assert changed(connection) == {"foreign_keys"}  # failover=on has no effect, and does no harm
    connection.close()


def test_threads_that_share_a_connection(tmp_path: Any) -> None:
    connection = sqlite3.connect(tmp_path / "app.db", check_same_thread=False, isolation_level=None)
    other = sqlite3.connect(":memory:")
    lock, refused = threading.Lock(), []

    def work(number: int) -> None:
        for count in range(50):
            with lock:  # sqlite3 itself does not bear more
                connection.execute(f"PRAGMA busy_timeout = {number * 100 + count}")
        for call in (other.commit, other.close, lambda: other.execute("PRAGMA foreign_keys = 1")):
            with pytest.raises(sqlite3.ProgrammingError, match="same thread"):
                call()
            refused.append(call)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    value = sqlite3.Cursor(connection).execute("PRAGMA busy_timeout").fetchone()[0]
    assert (session_state(connection)["busy_timeout"].value, len(refused)) == (str(value), 12)
    assert not known(other)
    for one in (connection, other):
        one.close()
