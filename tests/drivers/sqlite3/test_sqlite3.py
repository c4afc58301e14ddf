"""What is special to sqlite3: both transaction modes, PRAGMAs, subclasses through ``factory=``; no server."""

import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

import instrumented_wrapper
from instrumented_wrapper import SessionStateTransferHandlers, reset_session, session_state

from ..script import complete


@pytest.fixture
def connection(tmp_path: Path) -> Any:
    connection = sqlite3.connect(tmp_path / "app.db")
    connection.execute("CREATE TABLE t (i int)")
    yield connection
    connection.close()


def pragma(connection: Any, name: str) -> int:
    return sqlite3.Cursor(connection).execute(f"PRAGMA {name}").fetchone()[0]


def known(connection: Any) -> dict[str, tuple[Any, Any]]:
    return {name: (state.pristine_value, state.value) for name, state in session_state(connection).items()}


def test_settings_are_known_and_put_back(connection) -> None:
    connection.isolation_level = "IMMEDIATE"
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA foreign_keys(1)")
    connection.execute("pragma main.busy_timeout=123")
    assert known(connection) == {
        "isolation_level": ("", "IMMEDIATE"),
        "read_only": (False, True),
        "foreign_keys": ("0", "1"),
        "busy_timeout": ("5000", "123"),
    }
    assert session_state(connection)["query_only"].value is True
    assert reset_session(connection)
    assert connection.isolation_level == ""
    assert [pragma(connection, name) for name in ("query_only", "foreign_keys", "busy_timeout")] == [0, 0, 5000]
    connection.execute("INSERT INTO t VALUES (1)")  # it may write again


def pragmas_of(connection: Any) -> list[tuple[str, str]]:
    """What SQLite is told by PRAGMAs from now on: the authorizer sees all of it, ours too."""
    seen: list[tuple[str, str]] = []

    def authorize(action: int, name: str, value: str, *_: Any) -> int:
        if action == sqlite3.SQLITE_PRAGMA:
            seen.append((name, value))
        return sqlite3.SQLITE_OK

    connection.set_authorizer(authorize)
    return seen


def test_a_close_puts_back_before_it_closes(connection, spans) -> None:
    connection.execute("PRAGMA foreign_keys = 1")
    seen = pragmas_of(connection)
    connection.close()
    assert seen == [("foreign_keys", "0")]
    (span,) = spans.named("session_state.reset")
    assert span.attributes["db.system.name"] == "sqlite"


def test_a_close_in_a_transaction_sends_nothing(connection) -> None:
    connection.execute("PRAGMA foreign_keys = 1")
    connection.execute("INSERT INTO t VALUES (1)")
    seen = pragmas_of(connection)
    connection.close()
    assert not seen


def test_a_close_with_nothing_changed_sends_nothing(connection, spans) -> None:
    seen = pragmas_of(connection)
    connection.close()
    assert (seen, spans.named("session_state.reset")) == ([], [])


def test_a_pragma_outlives_a_rollback(connection) -> None:
    connection.execute("INSERT INTO t VALUES (1)")
    connection.execute("PRAGMA busy_timeout = 7")
    connection.rollback()
    assert session_state(connection)["busy_timeout"].value == "7" == str(pragma(connection, "busy_timeout"))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the attribute autocommit came with Python 3.12")
@pytest.mark.parametrize("mode", [True, False])
def test_the_autocommit_attribute(tmp_path: Path, mode: bool) -> None:
    connection = sqlite3.connect(tmp_path / "app.db", autocommit=mode)
    connection.autocommit = not mode
    assert known(connection) == {"autocommit": (mode, not mode)}
    assert reset_session(connection)
    assert connection.autocommit is mode
    connection.close()


def test_classes_of_the_app(tmp_path: Path) -> None:
    class Own(sqlite3.Connection):
        def commit(self) -> None:
            self.commits = getattr(self, "commits", 0) + 1
            super().commit()

    class OwnCursor(sqlite3.Cursor):
        pass

    connection = sqlite3.connect(":memory:", factory=Own)
    cursor = connection.cursor(OwnCursor)
    assert isinstance(connection, Own)
    assert isinstance(cursor, OwnCursor)
    assert cursor.connection is connection
    connection.commit()
    assert connection.commits == 1
    connection.execute("PRAGMA query_only = 1")
    assert session_state(connection)["read_only"].value is True
    connection.close()


def test_the_type_is_the_modules_own() -> None:
    connection = sqlite3.connect(":memory:")
    assert type(connection) is sqlite3.Connection
    target = sqlite3.connect(":memory:")
    connection.backup(target)
    for one in (connection, target):
        one.close()


def test_query_spans(connection, spans) -> None:
    connection.execute("INSERT INTO t VALUES (?)", (1,))
    connection.executemany("INSERT INTO t VALUES (?)", [(2,), (3,)])
    connection.execute("SELECT i FROM t WHERE i = 'secret'").fetchall()
    told = [(span.name, span.attributes.get("db.query.text")) for span in spans.all()]
    assert told == [
        ("INSERT t", "INSERT INTO t VALUES (?)"),
        ("BATCH INSERT t", "INSERT INTO t VALUES (?)"),
        ("SELECT t", "SELECT i FROM t WHERE i = ?"),
    ]
    assert {span.attributes["db.system.name"] for span in spans.all()} == {"sqlite"}


def test_errors_are_told_without_their_text(connection, spans) -> None:
    with pytest.raises(sqlite3.OperationalError):
        connection.execute("SELECT secret_name")
    (span,) = spans.all()
    assert span.attributes["error.type"] == "SQLITE_ERROR"
    assert "no such column" not in span.to_json()


def test_nothing_can_be_switched(connection) -> None:
    with pytest.raises(instrumented_wrapper.FailoverFailedError):
        instrumented_wrapper.switch(connection)
    connection.execute("INSERT INTO t VALUES (1)")  # it is as it was


def test_uninstrumented_again() -> None:
    text = """
        import sqlite3, instrumented_wrapper
        before = sqlite3.connect, sqlite3.Connection
        instrumented_wrapper.instrument()
        connection = sqlite3.connect(":memory:")
        instrumented_wrapper.uninstrument()
        assert (sqlite3.connect, sqlite3.Connection) == before
        print(connection.execute("SELECT 1").fetchone(), isinstance(connection, sqlite3.Connection))
        connection.close()
    """
    assert complete(text) == "(1,) True"


def test_a_close_that_is_interrupted_closes() -> None:
    connection = sqlite3.connect(":memory:")

    def interrupted(state: Any, connection: Any) -> bool:
        raise KeyboardInterrupt

    SessionStateTransferHandlers.set_reset_session_state_on_close_func(interrupted)
    with pytest.raises(KeyboardInterrupt):
        connection.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
