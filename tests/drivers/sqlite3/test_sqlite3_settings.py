"""The settings of a connection to SQLite: their values are SQLite's, whatever a text says of them; resets."""

import random
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

import instrumented_wrapper
from instrumented_wrapper import SessionStateTransferHandlers, reset_session, session_state
from instrumented_wrapper.databases import sqlite

HAS_AUTOCOMMIT = sys.version_info >= (3, 12)
since_3_12 = pytest.mark.skipif(not HAS_AUTOCOMMIT, reason="the attribute autocommit came with Python 3.12")
Unpatched = sqlite3.Cursor  # tests are collected before anything is patched
NAMES = """query_only foreign_keys recursive_triggers read_uncommitted ignore_check_constraints automatic_index
    cell_size_check checkpoint_fullfsync fullfsync legacy_alter_table reverse_unordered_selects trusted_schema
    writable_schema full_column_names short_column_names count_changes empty_result_callbacks busy_timeout temp_store
    analysis_limit threads wal_autocheckpoint cache_size synchronous secure_delete max_page_count mmap_size
    journal_size_limit locking_mode""".split()


@pytest.fixture
def connection(tmp_path: Path) -> Any:
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        connection.execute("CREATE TABLE t (i)")
        yield connection


def pragma(connection: Any, name: str) -> str | None:
    row = Unpatched(connection).execute(f"PRAGMA {name}").fetchone()
    return None if row is None else str(row[0])


def known(connection: Any) -> dict[str, tuple[Any, Any]]:
    return {name: (state.pristine_value, state.value) for name, state in session_state(connection).items()}


@pytest.mark.parametrize(
    "text",
    [
        "PRAGMA foreign_keys = 1",
        "pragma Foreign_Keys(yes)",
        " -- comment\n PRAGMA/**/main . [foreign_keys]/* = 0 */='on' ; -- the end",
        'PRAGMA temp."foreign_keys" = TRUE',
        "PRAGMA `foreign_keys` = 5",
        "EXPLAIN QUERY PLAN PRAGMA foreign_keys = 1",  # it sets all the same
        ";PRAGMA foreign_keys = 1",
    ],
)
def test_all_spellings(connection, text) -> None:
    connection.execute(text)
    assert known(connection) == {"foreign_keys": ("0", "1")}
    assert pragma(connection, "foreign_keys") == "1"


@pytest.mark.parametrize(
    "text", ["SELECT 'PRAGMA foreign_keys = 1'", "PRAGMA foreign_keys", "-- PRAGMA foreign_keys = 1"]
)
def test_what_sets_nothing(connection, text) -> None:
    connection.execute(text)
    assert not known(connection)


def test_a_script_sets_several(connection) -> None:
    connection.executescript(
        """CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT CASE WHEN 1 THEN ';' END; SELECT 2; END;
        INSERT INTO t VALUES ('; PRAGMA threads = 2;'); PRAGMA synchronous = NORMAL; -- PRAGMA cache_size = 5;
        PRAGMA busy_timeout = 7"""
    )
    assert known(connection) == {"synchronous": ("2", "1"), "busy_timeout": ("5000", "7")}


def test_a_script_that_fails_may_have_set_something(connection) -> None:
    with pytest.raises(sqlite3.OperationalError):
        connection.executescript("PRAGMA busy_timeout = 7; nonsense; PRAGMA threads = 1")
    assert session_state(connection)["busy_timeout"].value == "7"
    assert reset_session(connection)
    assert pragma(connection, "busy_timeout") == "5000"


def test_what_sqlite_makes_of_a_value_is_what_is_known(connection) -> None:
    before = pragma(connection, "secure_delete")  # SQLite may be built with another default
    connection.execute("PRAGMA busy_timeout = -5")
    connection.execute("PRAGMA secure_delete = fast")
    connection.execute("INSERT INTO t VALUES (1)")
    connection.execute("PRAGMA foreign_keys = 1")  # within a transaction it does nothing
    assert known(connection) == {
        "busy_timeout": ("5000", "0"),
        "secure_delete": (before, "2"),
        "foreign_keys": ("0", "0"),
    }


def test_a_value_that_is_set_in_another_way_than_it_is_told(connection) -> None:
    connection.execute("PRAGMA secure_delete = fast")  # which is told as 2, and 2 would set 1
    instrumented_wrapper.mark_pristine(connection)
    connection.execute("PRAGMA secure_delete = 0")
    assert reset_session(connection)
    assert pragma(connection, "secure_delete") == "2"


def test_settings_of_another_database_are_not_the_connections(connection) -> None:
    connection.execute("PRAGMA temp.cache_size = 5")
    assert not known(connection)
    connection.execute("PRAGMA temp.busy_timeout = 5")  # this one is, whatever database is named
    assert known(connection) == {"busy_timeout": ("5000", "5")}


@since_3_12
def test_what_setconfig_sets_is_known(connection) -> None:
    connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_FKEY)
    assert known(connection) == {"foreign_keys": ("0", "1")}


@since_3_12
@pytest.mark.parametrize("mode", [True, False, -1])
@pytest.mark.parametrize("other", [True, False, -1])
def test_a_reset_ends_no_transaction_and_leaves_none(tmp_path, mode, other) -> None:
    with closing(sqlite3.connect(tmp_path / "app.db", autocommit=mode)) as connection:
        connection.autocommit = True
        connection.execute("PRAGMA foreign_keys = 1")
        connection.autocommit = other
        assert reset_session(connection)
        assert (connection.autocommit, connection.in_transaction) == (mode, mode is False)
        assert pragma(connection, "foreign_keys") == "0"  # within a transaction nothing would have set it


@since_3_12
def test_a_reset_in_an_open_transaction_is_refused(tmp_path) -> None:
    with closing(sqlite3.connect(tmp_path / "app.db", autocommit=False)) as connection:
        connection.execute("CREATE TABLE t (i)")
        with pytest.raises(sqlite3.ProgrammingError):
            reset_session(connection)
        connection.commit()
        assert reset_session(connection)
        connection.execute("COMMIT")  # by SQL: now none is open, until the next commit()
        connection.execute("PRAGMA foreign_keys = 1")
        assert reset_session(connection)
        assert (pragma(connection, "foreign_keys"), connection.in_transaction) == ("0", True)
        assert reset_session(connection)


def test_a_handler_at_a_close_commits_nothing_of_the_app(tmp_path) -> None:
    """What is put back after it may not commit either: setting ``isolation_level`` to None would."""
    SessionStateTransferHandlers.set_reset_session_state_on_close_func(lambda state, connection: False)
    connection = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    connection.execute("CREATE TABLE t (i)")
    connection.isolation_level = ""
    connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
    with closing(sqlite3.connect(tmp_path / "app.db")) as other:
        assert other.execute("SELECT count(*) FROM t").fetchone() == (0,)


# --- reset_scope=session -----------------------------------------------------------------------------------------


class Furnished(sqlite3.Connection):
    """Has things of its own that belong to the baseline."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("CREATE TEMP TABLE built (i)")
        self.execute("ATTACH ':memory:' AS built")


def test_the_scope_session_clears_what_the_app_has_left(tmp_path, spans) -> None:
    options = {"reset_scope": "session"}
    with closing(sqlite3.connect(tmp_path / "a.db", factory=Furnished, instrumented_wrapper=options)) as connection:
        connection.executescript(
            """PRAGMA foreign_keys = 1; CREATE TEMP TABLE one (i PRIMARY KEY); CREATE TABLE temp.two (i REFERENCES one);
            INSERT INTO one VALUES (1); INSERT INTO two VALUES (1); CREATE TEMP VIEW "a ""view" AS SELECT 1;
            CREATE TEMP TRIGGER r AFTER INSERT ON one BEGIN SELECT 1; END; CREATE INDEX temp.x ON one (i);
            PRAGMA query_only = 1"""
        )
        connection.execute("ATTACH ? AS other", (":memory:",))
        assert reset_session(connection)
        assert connection.execute("SELECT name FROM temp.sqlite_master").fetchall() == [("built",)]
        assert [row[1] for row in connection.execute("PRAGMA database_list")] == ["main", "temp", "built"]
        assert (pragma(connection, "foreign_keys"), pragma(connection, "query_only")) == ("0", "0")
        (span,) = spans.named("session_state.reset")
        assert set(span.attributes["instrumented_wrapper.settings"]) == {
            *("foreign_keys", "read_only", "temporary tables", "attached databases")
        }
        spans.clear()
        assert reset_session(connection)
        assert not spans.named("session_state.reset")  # there is nothing any more


def test_what_is_being_read_cannot_be_cleared_and_settings_go_back_all_the_same(tmp_path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db", instrumented_wrapper={"reset_scope": "session"})) as connection:
        connection.executescript("PRAGMA foreign_keys = 1; CREATE TEMP TABLE one AS SELECT 1 UNION SELECT 2")
        rows = connection.execute("SELECT * FROM one")
        next(rows)
        assert not reset_session(connection)
        assert pragma(connection, "foreign_keys") == "0"
        rows.close()
        assert reset_session(connection)
        assert not connection.execute("SELECT name FROM temp.sqlite_master").fetchall()


def test_without_it_they_stay(connection) -> None:
    connection.execute("CREATE TEMP TABLE one (i)")
    assert reset_session(connection)
    assert connection.execute("SELECT name FROM temp.sqlite_master").fetchall() == [("one",)]


def test_what_was_marked_pristine_stays(tmp_path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db", instrumented_wrapper={"reset_scope": "session"})) as connection:
        connection.execute("CREATE TEMP TABLE one (i)")
        instrumented_wrapper.mark_pristine(connection)
        assert reset_session(connection)
        connection.execute("CREATE TEMP TABLE two (i)")
        assert reset_session(connection)
        assert connection.execute("SELECT name FROM temp.sqlite_master").fetchall() == [("one",)]


# --- any text ----------------------------------------------------------------------------------------------------


def _spelled(rng: random.Random) -> str:
    def gap() -> str:
        return rng.choice(["", "", " ", "\n", "/*x*/", "--c\n", "/* PRAGMA foreign_keys=1; */"])

    name = "".join(rng.choice((letter, letter.upper())) for letter in rng.choice(NAMES))
    quoted = rng.choice(["%s", "%s", "%s", '"%s"', "[%s]", "`%s`", "'%s'"]) % name
    schema = rng.choice(["", "", "", f"main{gap()}.{gap()}", "temp.", '"MAIN".', "nowhere."])
    value = rng.choice("0 1 2 -5 +3 1000 on 'no' \"yes\" true FULL memory fast exclusive banana 0x10 1.5".split())
    given = rng.choice([f"{gap()}={gap()}{value}", f"{gap()}({gap()}{value}{gap()})", ""])
    before = rng.choice(["", "", "", "EXPLAIN ", "explain query plan ", " ; "])
    return f"{gap()}{before}PRAGMA {gap()}{schema}{quoted}{given}{gap()}{rng.choice(['', ';', ' ; --x'])}"


def _step(rng: random.Random, connection: Any) -> None:
    kind = rng.randrange(9 if HAS_AUTOCOMMIT else 8)
    if kind < 3:
        connection.execute(_spelled(rng)).fetchall()
    elif kind == 3:
        connection.executescript(";".join(_spelled(rng) for _ in range(3)) + rng.choice(["", "; nonsense"]))
    elif kind == 4:
        connection.execute(rng.choice(["BEGIN", "COMMIT", "ROLLBACK", "CREATE TEMP TABLE IF NOT EXISTS x (i)"]))
    elif kind == 5:
        rng.choice([connection.commit, connection.rollback])()
    elif kind == 6:
        connection.execute("INSERT INTO t VALUES (1)")
    elif kind == 7:
        connection.isolation_level = rng.choice([None, "", "IMMEDIATE"])
    else:
        connection.autocommit = rng.choice([True, False, -1])


def _present(connection: Any) -> dict[str, Any]:
    found = {name: pragma(connection, name) for name in NAMES}
    found["read_only"] = found.pop("query_only") == "1"
    attributes = ("isolation_level", "autocommit") if HAS_AUTOCOMMIT else ("isolation_level",)
    return found | {name: getattr(connection, name) for name in attributes}


def _walks(count: int) -> Iterator[random.Random]:
    return map(random.Random, range(count))


def test_every_tracked_pragma_is_tried() -> None:
    assert set(NAMES) == sqlite._OF_CONNECTION | sqlite._OF_DATABASE


def test_random_sessions_are_what_sqlite_says() -> None:
    for rng in _walks(300):
        modes: dict[str, Any] = {"autocommit": rng.choice([True, False, -1])} if HAS_AUTOCOMMIT else {}
        with closing(sqlite3.connect(":memory:", isolation_level=rng.choice([None, ""]), **modes)) as connection:
            connection.executescript("CREATE TABLE t (i)")
            pristine = _present(connection)
            for _ in range(rng.randint(1, 8)):
                with suppress(sqlite3.Error):
                    _step(rng, connection)
                present, said = _present(connection), known(connection)
                told = {name: said.get(name, (pristine[name],) * 2) for name in present}
                assert (
                    told == {name: (pristine[name], present[name]) for name in present} or present["cache_size"] == "0"
                )
            with suppress(sqlite3.ProgrammingError):
                reset_session(connection)
                assert _present(connection) == pristine
