"""MySQL's ``STATEMENT_DIGEST_TEXT()`` on generated texts: no literal that it replaces is shown, its tables are ours."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest

from instrumented_wrapper.databases.mysql.summary import READING, words_of
from servers.replicating import ACCOUNT

from .texts import Dialect, Texts, nothing_shown, targets_of

DIALECT = Dialect(
    strings=[
        "'{}'",
        "'{}\\\\'",
        '"{}"',
        "N'{}'",
        "_utf8mb4'{}'",
        "_binary '{}'",
        "x'{}'",
        "'{}' '{}'",
        "'\\\"{}'",
        "DATE '{}'",
    ],
    numbers=["{}", "{}.5", "-{}", "1{}e5", "0x{}", ".{}", "b'101'", "0b101"],
    names=["{}", "`{}`", "app.{}", "`app`.`{}`"],
    operators=[
        "{} = {}",
        "{} <=> {}",
        "{} IS NULL",
        "{} IS NOT TRUE",
        "{} OR {}",
        "{} LIKE {}",
        "{} BETWEEN {} AND 1",
        "{} DIV {}",
    ],
    comments=["/* {} */", "-- {}\n", "# {}\n", "/* '{} */"],
    joins=[", ", " JOIN ", " LEFT JOIN ", " STRAIGHT_JOIN "],
    extras=[
        "SET @al1 = {value}, @al2 = {string}",
        "SET GLOBAL max_connections = {value}",
        "INSERT IGNORE {table} VALUES ({value}), (@al1), (NOW()), (DEFAULT)",
        "INSERT INTO {table} VALUES ROW({value}, @al1), ROW(NULL, 2)",
        "INSERT INTO {table} (col1) VALUES ({value}) ON DUPLICATE KEY UPDATE col1 = {value}, col2 = VALUES(col2)",
        "INSERT INTO {table} SELECT col1, col2 FROM tbl8, tbl9 ON DUPLICATE KEY UPDATE col1 = {value}, col2 = col1",
        "INSERT INTO {table} SET col1 = {value}, col2 = @al1",
        "REPLACE INTO {table} VALUES ({value}, NULL)",
        "UPDATE LOW_PRIORITY {table} al1 JOIN tbl9 al2 ON al1.col1 = {value} SET al1.col1 = {value}, al2.col2 = 1",
        "DELETE QUICK FROM {table} WHERE col1 = {value}",
        "SELECT {value} INTO @al1 FROM {table}",
        "SELECT {value} INTO OUTFILE {string} FROM {table}",
        "CREATE USER 'bob'@{string} IDENTIFIED BY {string}",
        "ALTER USER bob IDENTIFIED BY {string}",
        "CREATE TABLE {table} {select}",
        "CREATE TABLE {table} (col1 int DEFAULT 5 COMMENT {string}) COMMENT {string}",
        "CALL p({value}, {string}, @al1)",
        "PREPARE p FROM {string}",
        "SELECT /*! STRAIGHT_JOIN */ {value} FROM {table}",
        "SELECT col1 FROM {table} USE INDEX (i, j), tbl9 PARTITION (p0)",
        "SELECT TRIM(LEADING {string} FROM col1), EXTRACT(YEAR FROM col2) FROM {table}",
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = {string}, SOURCE_PASSWORD = {string}",
        "VALUES ROW({value}, 1), ROW(NULL, @al1)",
        "CREATE FUNCTION f() RETURNS INT LANGUAGE JAVASCRIPT AS $x$ it's {string} $$ $x$",
    ],
)


@pytest.fixture
def ask(running_mysql: Any) -> Iterator[Any]:
    running_mysql.restore()
    primary = running_mysql.primary
    connection = pymysql.connect(host=primary.host, port=primary.port, database="app", autocommit=True, **ACCOUNT)
    with connection, connection.cursor() as cursor:

        def ask(text: str) -> str | None:
            """Return the digest text; None where MySQL does not accept the text."""
            try:
                cursor.execute("SELECT STATEMENT_DIGEST_TEXT(%s)", (text,))
            except pymysql.MySQLError:
                return None
            ((digest,),) = cursor.fetchall()
            return str(digest)

        yield ask


@pytest.mark.parametrize("seed", range(4))
def test_no_literal_is_shown_and_the_tables_are_those_of_the_digest(ask: Any, seed: int) -> None:
    texts = Texts(DIALECT, random.Random(seed))
    judged = shown = 0
    while judged < 500:
        text = texts.statement()
        if (digest := ask(text)) is None:
            continue
        judged += 1
        words = words_of(text)
        shown += words.text is not None
        assert not any(mark in digest for mark in texts.marks) or "ORDER BY" in text or "LIMIT" in text, (text, digest)
        assert nothing_shown(words, texts.marks), text
        ours = targets_of(text, READING)
        assert {name for name in ours if name.startswith("tbl")} == set(re.findall(r"`(tbl\d)`", digest)), (
            text,
            digest,
        )
        assert not any(name.startswith(("col", "@")) for name in ours if not text.startswith("SET")), text
    assert shown > judged / 2
