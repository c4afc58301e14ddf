"""What runs on MariaDB and MySQL without being written in the app's text: EXECUTE, procedures, functions, triggers.

What they set is carried over a loss, since the servers here list the user variables to the app.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from servers import MySQLCluster, mysql

from .driver import DriverUnderTest
from .routines import QUIET, SETTING, made
from .sites import MySQL
from .sites.mariadb import ACCOUNTS

pytestmark = pytest.mark.databases("mariadb", "mysql")


@pytest.fixture(scope="module")
def running_observed() -> Iterator[MySQLCluster]:
    """MySQL with its Performance Schema, in which the app may read its user variables."""
    if not mysql.available():
        pytest.skip(mysql.missing())
    with MySQLCluster("performance-schema=ON") as observed:
        yield observed


@pytest.fixture(scope="module")
def observed(running_observed: MySQLCluster) -> MySQLCluster:
    MySQL.prepare(running_observed)
    for number in range(ACCOUNTS):
        running_observed.primary.sql(f"GRANT SELECT ON performance_schema.user_variables_by_thread TO account_{number}")
    running_observed.wait_streaming()
    return running_observed


@pytest.fixture
def cluster(request: pytest.FixtureRequest, driver: DriverUnderTest) -> Any:
    """Servers that list the user variables."""
    found = request.getfixturevalue("observed" if driver.site.system == "mysql" else "cluster")
    return made(found)


# --- EXECUTE ------------------------------------------------------------------------------------------------------


@pytest.mark.databases("mariadb")  # MySQL has no EXECUTE IMMEDIATE
@pytest.mark.parametrize(
    "text",
    [
        "EXECUTE IMMEDIATE 'SET @x = 7'",
        'execute immediate "SET @x = 7"',
        "EXECUTE IMMEDIATE 'SET @x = ?' USING 7",
        "EXECUTE IMMEDIATE 'SET @x = 7, time_zone = \\'SYSTEM\\''",
        "EXECUTE IMMEDIATE 'SELECT 7 INTO @x'",
        "EXECUTE IMMEDIATE @text",
        "EXECUTE IMMEDIATE CONCAT('SET @x ', '= 7')",
    ],
)
def test_what_is_executed_is_carried(app, text: str) -> None:
    connection = app()
    connection.ask("SET @text = 'SET @x = 7'")
    connection.ask(text)
    assert connection.after_loss() == ()
    assert connection.ask("SELECT @x") == [(7,)]


def test_a_statement_that_is_prepared_from_a_literal(app) -> None:
    connection = app()
    connection.ask("PREPARE p FROM 'SET @x = ?, time_zone = ''+01:00'''")
    connection.ask("SET @given = 7")
    connection.ask("EXECUTE p USING @given")
    assert "prepared statements" in connection.after_loss()
    assert connection.ask("SELECT @x, @@time_zone") == [(7, "+01:00")]


# --- routines and triggers ----------------------------------------------------------------------------------------


def test_a_user_variable_that_code_on_the_server_sets(app) -> None:
    for text in SETTING:
        connection = app()
        connection.ask(text)
        assert connection.after_loss() == (), text
        assert connection.ask("SELECT @tenant") == [(7,)], text
        assert connection.after_loss() == (), text
        assert connection.reset()
        assert connection.ask("SELECT @tenant") == [(None,)], text


def test_code_that_sets_nothing_leaves_nothing(app) -> None:
    connection = app()
    assert {text: (connection.ask(text), connection.after_loss())[1] for text in QUIET} == dict.fromkeys(QUIET, ())


def test_what_a_trigger_sets(driver: DriverUnderTest, app) -> None:
    driver.needs("session reports")
    connection = app()
    connection.ask("INSERT INTO fired VALUES (7)")
    assert connection.after_loss() == ()
    assert connection.ask("SELECT @tenant") == [(7,)]


@pytest.mark.databases("mariadb")  # MySQL has no RETURNING
def test_rows_of_a_statement_that_writes(app) -> None:
    connection = app()
    for table in ("quiet", "written"):
        connection.ask(f"INSERT INTO {table} VALUES (1) RETURNING i")
        assert connection.after_loss() == ()


def test_what_connecting_has_set_is_pristine(app) -> None:
    connection = app(init_command="SET @first = 5")
    connection.ask("CALL changes_first()")
    assert connection.after_loss() == ()
    assert connection.ask("SELECT @first, @tenant") == [(8, 7)]
    assert connection.reset()
    assert connection.ask("SELECT @first, @tenant") == [(5, None)]
