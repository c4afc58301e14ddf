"""SQLite itself on generated texts: the literals of its byte code, the tables that its authorizer is asked about."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator

import pytest

from instrumented_wrapper.databases.sqlite import READING, words_of

from .texts import Dialect, Texts, nothing_shown, targets_of

DIALECT = Dialect(
    strings=["'{}'", '"{}"', "x'{}'", "'{}' || '{}'"],
    numbers=["{}", "{}.5", "-{}", "1{}e5", "0x{}", ".{}"],
    names=["{}", '"{}"', "`{}`", "[{}]", "main.{}", 'main."{}"'],
    functions=["coalesce({}, {})", "CASE WHEN {} THEN {} END", "CAST({} AS text)", "iif({}, {}, 1)"],
    operators=[
        "{} = {}",
        "{} IS NULL",
        "{} IS DISTINCT FROM {}",
        "{} IS NOT DISTINCT FROM {}",
        "{} OR {}",
        "{} LIKE {}",
    ],
    comments=["/* {} */", "-- {}\n", "/* '{} */", '/* " */'],
    joins=[", ", " JOIN ", " LEFT JOIN ", " CROSS JOIN "],
    extras=[
        "PRAGMA cache_size = {value}",
        "PRAGMA main.user_version({value})",
        "INSERT OR REPLACE INTO {table} (col1) VALUES ({value}), (NULL)",
        "REPLACE INTO {table} (col1) VALUES ({value})",
        "UPDATE OR IGNORE {table} SET col1 = {value}",
        "CREATE VIEW al2 AS {select}",
        "CREATE TABLE al3 AS {select}",
        "ATTACH {string} AS al4",
        "SELECT {value} FROM {table} NOT INDEXED, tbl5 WHERE col1 IS NOT DISTINCT FROM {value}",
        "SELECT * FROM {table} WHERE {value} IS DISTINCT FROM {value}",
        "SELECT col1 FROM {table} ORDER BY {value}",
        "SELECT {value} AS {string} FROM {table}",
        "VALUES ({value}, {value}), (1, {value})",
    ],
)
READS = {sqlite3.SQLITE_READ, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}
TABLES = {f"tbl{number}" for number in range(1, 6)}


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", cached_statements=0)  # each text is prepared, and authorized, again
    for table in TABLES:
        connection.execute(f"CREATE TABLE {table} ({', '.join(f'col{number}' for number in range(1, 6))})")
    yield connection
    connection.close()


@pytest.mark.parametrize("seed", range(4))
def test_no_literal_is_shown_and_the_tables_are_those_that_sqlite_uses(database: sqlite3.Connection, seed: int) -> None:
    texts = Texts(DIALECT, random.Random(seed))
    used: set[str] = set()

    def authorize(action: int, first: str | None, *_: object) -> int:
        if action in READS and first is not None:
            used.add(first.lower())
        return sqlite3.SQLITE_OK

    database.set_authorizer(authorize)
    judged = shown = literals = 0
    while judged < 500:
        text = texts.statement()
        used.clear()
        try:
            code = database.execute(f"EXPLAIN {text}").fetchall()
        except sqlite3.Error:
            continue
        judged += 1
        told = str(code)
        literals += any(mark in told for mark in texts.marks)
        words = words_of(text)
        shown += words.text is not None
        assert nothing_shown(words, texts.marks), text
        ours = targets_of(text, READING)
        unused = text.startswith(("WITH", "CREATE VIEW"))  # SQLite does not look into those that nothing uses yet
        assert ours & TABLES == used & TABLES or (unused and ours >= used & TABLES), text
        assert not any("col" in name for name in ours), text
    assert shown > judged / 2
    assert literals > judged / 2, "the values are in the byte code of most: they are literals to SQLite, too"
