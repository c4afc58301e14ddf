"""What of sqlite3 is told as a database operation: what SQLite is sent, and no COMMIT that it is not."""

import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from ..script import complete

HAS_AUTOCOMMIT = sys.version_info >= (3, 12)


@pytest.fixture
def connection(tmp_path: Path) -> Any:
    with closing(sqlite3.connect(tmp_path / "app.db", instrumented_wrapper={"transaction_spans": "on"})) as connection:
        connection.execute("CREATE TABLE t (i UNIQUE)")
        yield connection


def names(spans: Any) -> list[str]:
    told = [span for span in spans.all() if not span.name.startswith("session_state")]
    return [span.name.removesuffix(span.attributes["db.namespace"]).strip() for span in told]


def test_a_block_commits_or_rolls_back_once(connection, spans) -> None:
    with connection:
        connection.execute("INSERT INTO t VALUES (1)")
    with suppress(KeyError), connection:
        connection.execute("INSERT INTO t VALUES (2)")
        raise KeyError
    assert names(spans) == ["INSERT t", "COMMIT", "INSERT t", "ROLLBACK"]
    assert connection.execute("SELECT i FROM t").fetchall() == [(1,)]


def test_what_is_not_sent_is_not_told(connection, spans) -> None:
    seen: list[str] = []
    connection.set_trace_callback(seen.append)
    with connection:
        connection.execute("SELECT i FROM t")
    connection.commit()
    connection.rollback()
    assert (names(spans), seen) == (["SELECT t"], ["SELECT i FROM t"])


@pytest.mark.skipif(not HAS_AUTOCOMMIT, reason="the attribute autocommit came with Python 3.12")
def test_both_transaction_modes(connection, spans) -> None:
    seen: list[str] = []
    connection.autocommit = True
    connection.set_trace_callback(seen.append)
    with connection:
        connection.execute("BEGIN")
    connection.commit()  # with autocommit=True it does nothing
    assert (names(spans), seen, connection.in_transaction) == (["BEGIN"], ["BEGIN"], True)
    connection.execute("ROLLBACK")
    connection.autocommit = False
    connection.commit()
    assert seen[-3:] == ["BEGIN", "COMMIT", "BEGIN"] and names(spans)[-1] == "COMMIT"
    connection.autocommit = True


def test_a_commit_that_fails_is_told_with_its_code(connection, spans) -> None:
    connection.executescript(
        "PRAGMA foreign_keys = 1; CREATE TABLE u (i REFERENCES t (i) DEFERRABLE INITIALLY DEFERRED)"
    )
    spans.clear()
    with pytest.raises(sqlite3.IntegrityError), connection:
        connection.execute("INSERT INTO u VALUES (5)")
    assert names(spans) == ["INSERT u", "COMMIT"]
    assert spans.all()[-1].attributes["error.type"] == "SQLITE_CONSTRAINT_FOREIGNKEY"
    assert not connection.in_transaction  # the block has rolled back, as it does without us


def test_a_commit_is_told_within_something_that_is_recorded_only(tmp_path, spans) -> None:
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        for _ in range(2):
            connection.execute("CREATE TABLE IF NOT EXISTS t (i)")
            connection.execute("BEGIN")
            connection.commit()
        assert "COMMIT" not in {span.name.split()[0] for span in spans.all()}


def test_scripts_and_shortcuts(connection, spans) -> None:
    connection.executescript("INSERT INTO t VALUES ('secret'); PRAGMA foreign_keys = 1; DELETE FROM t")
    connection.executemany("INSERT INTO t VALUES (?)", ((i,) for i in range(2)))
    connection.cursor().execute("SELECT i FROM t WHERE i = :i", {"i": 1}).fetchall()
    script, batch, query = [span for span in spans.all() if span.name != "session_state.pristine_fetch"]
    assert script.attributes["db.query.text"] == "INSERT INTO t VALUES (?); PRAGMA foreign_keys = ?; DELETE FROM t"
    assert batch.name == "BATCH INSERT t"
    assert query.attributes["db.query.text"] == "SELECT i FROM t WHERE i = :i"


def test_the_namespace_is_the_file_without_the_parameters_of_a_uri(spans) -> None:
    with closing(sqlite3.connect("file:app?mode=memory&key=secret", uri=True)) as connection:
        connection.execute("SELECT 1")
    (span,) = spans.all()
    assert span.attributes["db.namespace"] == "file:app"
    assert "secret" not in span.to_json()


def test_where_the_app_names_the_file_itself(tmp_path, spans) -> None:
    class Own(sqlite3.Connection):
        def __init__(self) -> None:
            super().__init__(tmp_path / "own.db")

    with closing(Own()) as connection:
        connection.execute("SELECT 1")
    (span,) = spans.all()
    assert span.attributes["db.namespace"] == str(tmp_path / "own.db")


def test_without_query_spans_nothing_is_told() -> None:
    text = """
    import sqlite3, instrumented_wrapper
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    instrumented_wrapper.instrument(tracer_provider=tracers, query_spans="off", transaction_spans="on")
    connection = sqlite3.connect(":memory:")
    with connection:
        connection.execute("CREATE TABLE t (i)")
        connection.execute("BEGIN")
    connection.execute("PRAGMA foreign_keys = 1")
    connection.close()
    print(*(span.name for span in exporter.get_finished_spans()))
    """
    assert complete(text) == "session_state.pristine_fetch session_state.reset"
