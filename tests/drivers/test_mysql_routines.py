"""What runs on MariaDB and MySQL without being written in the app's text: EXECUTE, procedures, functions, triggers.

What they set is carried over a loss, or named; never silent.
"""

from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError, mark_pristine

from .spelling import needs_mariadb
from .test_mariadb_drivers import ask, end, session


@pytest.fixture
def cluster(pair: Any) -> Any:
    return pair


def lose(cluster: Any, connection: Any) -> tuple[str, ...]:
    """End the session after a plain statement; return what the next one says is missing, and accept that."""
    ask(connection, "SELECT 1")
    end(cluster.primary, session(connection))
    try:
        ask(connection, "SELECT 1")
    except FailoverSuccessError as error:
        mark_pristine(connection)
        return error.not_restored
    return ()


# --- EXECUTE ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "EXECUTE IMMEDIATE 'SET @x = 7'",
        'execute immediate "SET @x = 7"',
        "EXECUTE IMMEDIATE 'SET @x = ?' USING 7",
        "EXECUTE IMMEDIATE 'SET @x = 7, time_zone = \\'SYSTEM\\''",
        "EXECUTE IMMEDIATE 'SELECT 7 INTO @x'",
    ],
)
def test_a_literal_that_is_executed_is_carried(connect, cluster, text: str) -> None:
    needs_mariadb(cluster, "EXECUTE IMMEDIATE")
    connection = connect()
    ask(connection, text)
    assert lose(cluster, connection) == ()
    assert ask(connection, "SELECT @x") == [(7,)]


def test_a_statement_that_is_prepared_from_a_literal(connect, cluster) -> None:
    connection = connect()
    ask(connection, "PREPARE p FROM 'SET @x = ?, time_zone = ''+01:00'''")
    ask(connection, "SET @given = 7")
    ask(connection, "EXECUTE p USING @given")
    assert lose(cluster, connection) == ("prepared statements",)
    assert ask(connection, "SELECT @x, @@time_zone") == [(7, "+01:00")]
