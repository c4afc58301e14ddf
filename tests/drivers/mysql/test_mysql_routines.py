"""What runs on MariaDB and MySQL without being written in the app's text: EXECUTE, procedures, functions, triggers.

What they set is carried over a loss, or named; never silent.
"""

import functools
from collections.abc import Iterator
from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError, mark_pristine, reset_session
from servers import MySQLCluster, mysql

from .server_session import ask, end, session
from .spelling import create, is_mysql, needs_mariadb

INT = "RETURNS int DETERMINISTIC MODIFIES SQL DATA BEGIN"
ROUTINES = (
    ("PROCEDURE", "sets_nothing", "() INSERT INTO written VALUES (1)"),
    ("PROCEDURE", "shows", "() BEGIN INSERT INTO written VALUES (1); SELECT 1; END"),
    ("PROCEDURE", "sets_tenant", "() SET @tenant = 7"),
    ("PROCEDURE", "sets_and_shows", "() BEGIN SET @tenant = 7; SELECT 1; END"),
    ("PROCEDURE", "sets_both", "() BEGIN SET @tenant = 7; SET SESSION lock_wait_timeout = 9; END"),
    ("PROCEDURE", "gives_and_sets", "(OUT x int) BEGIN SET x = 5; SET @tenant = 7; END"),
    ("FUNCTION", "of_nothing", f"() {INT} INSERT INTO written VALUES (1); RETURN 7; END"),
    ("FUNCTION", "of_tenant", f"() {INT} SET @tenant = 7; RETURN 7; END"),
    ("FUNCTION", "of_both", f"() {INT} SET @tenant = 7; SET SESSION lock_wait_timeout = 9; RETURN 7; END"),
    ("TRIGGER", "on_fired", "BEFORE INSERT ON fired FOR EACH ROW SET @tenant = NEW.i"),
    ("TRIGGER", "on_quiet", "BEFORE INSERT ON quiet FOR EACH ROW INSERT INTO written VALUES (NEW.i)"),
)


@functools.cache
def set_up(server: Any) -> None:
    for name in ("written", "fired", "quiet"):
        server.sql(f"CREATE TABLE IF NOT EXISTS {name} (i int)")
    for kind, name, rest in ROUTINES:
        create(server, kind, name, rest)


@pytest.fixture
def cluster(pair: Any) -> Any:
    set_up(pair.primary)
    pair.wait_streaming()
    return pair


@pytest.fixture(scope="module")
def running_observed() -> Iterator[MySQLCluster]:
    """MySQL with its Performance Schema, in which the app may read its user variables."""
    if not mysql.available():
        pytest.skip(mysql.missing())
    with MySQLCluster("performance-schema=ON") as pair:
        pair.primary.sql("GRANT SELECT ON performance_schema.user_variables_by_thread TO app@'%'")
        pair.wait_streaming()
        yield pair


LISTED = ["MariaDB", "observed"]  # what lists the user variables to the app


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
    assert "prepared statements" in lose(cluster, connection)
    assert ask(connection, "SELECT @x, @@time_zone") == [(7, "+01:00")]


@pytest.mark.parametrize("text", ["EXECUTE IMMEDIATE @text", "EXECUTE IMMEDIATE CONCAT('SET @x ', '= 7')"])
def test_what_is_executed_and_is_no_literal(connect, cluster, text: str) -> None:
    needs_mariadb(cluster, "EXECUTE IMMEDIATE")
    connection = connect()
    ask(connection, "SET @text = 'SET @x = 7'")
    ask(connection, text)
    assert lose(cluster, connection) == ()
    assert ask(connection, "SELECT @x") == [(7,)]


# --- routines and triggers ----------------------------------------------------------------------------------------

SETTING = [
    *("CALL sets_tenant()", "CALL sets_and_shows()", "CALL sets_both()", "CALL gives_and_sets(@given)"),
    *("SELECT of_both()", "INSERT INTO written VALUES (of_tenant())", "SELECT @other := of_tenant()"),
]
QUIET = [
    *("CALL sets_nothing()", "CALL shows()", "SELECT of_nothing()", "INSERT INTO quiet VALUES (1)"),
]


@pytest.mark.parametrize("pair", LISTED, indirect=True)
@pytest.mark.parametrize("text", SETTING)
def test_a_user_variable_that_code_on_the_server_sets(connect, cluster, text: str) -> None:
    connection = connect()
    ask_all(connection, text)
    assert lose(cluster, connection) == ()
    assert ask(connection, "SELECT @tenant") == [(7,)]
    assert lose(cluster, connection) == ()
    assert reset_session(connection)
    assert ask(connection, "SELECT @tenant") == [(None,)]


@pytest.mark.parametrize("text", SETTING)
def test_it_is_named_where_the_server_does_not_list_it(connect, kind, pair, cluster, text: str) -> None:
    if not is_mysql(pair):
        pytest.skip("MariaDB lists it")
    if kind == "pymysql" and "@" in text:
        pytest.skip("what the text names explains what the server reports")
    connection = connect()
    ask_all(connection, text)
    assert set(lose(cluster, connection)) & {"user variables", "session state"}


@pytest.mark.parametrize("pair", LISTED, indirect=True)
@pytest.mark.parametrize("text", QUIET)
def test_code_that_sets_nothing_leaves_nothing(connect, cluster, text: str) -> None:
    connection = connect()
    ask_all(connection, text)
    assert lose(cluster, connection) == ()


@pytest.mark.parametrize("text", QUIET)
def test_code_that_sets_nothing_leaves_nothing_to_pymysql(connect, kind, cluster, text: str) -> None:
    if kind != "pymysql" or "SELECT" in text:
        pytest.skip("what was set is asked for later")
    connection = connect()
    ask_all(connection, text)
    end(cluster.primary, connection.thread_id())
    assert ask(connection, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("text", QUIET)
def test_code_never_has_all_statements_refused(connect, cluster, text: str) -> None:
    """Nobody knows of a user variable that was lost: that it may be so is reported once."""
    connection = connect()
    ask_all(connection, text)
    number = session(connection)
    end(cluster.primary, number)
    named: tuple[str, ...] = ()
    try:
        ask(connection, "SELECT 1")
    except FailoverSuccessError as error:
        named = error.not_restored
    assert set(named) <= {"user variables"}
    assert ask(connection, "SELECT 1") == [(1,)]


def test_code_that_may_have_set_what_the_app_has_set(connect, cluster) -> None:
    """The value that the text of the app gave may be another tenant's by now: no statement runs with it."""
    connection = connect()
    ask(connection, "SET @tenant = 3")
    number = session(connection)
    ask(connection, "CALL sets_tenant()")
    end(cluster.primary, number)
    for _ in range(2):
        with pytest.raises(FailoverSuccessError) as told:
            ask(connection, "SELECT @tenant")
        assert {"@tenant", "session state"} & {*told.value.not_restored}
    ask(connection, "SET @tenant = 4")
    if "session state" not in told.value.not_restored:
        assert ask(connection, "SELECT @tenant") == [(4,)]


@pytest.mark.parametrize("pair", LISTED, indirect=True)
def test_what_a_trigger_sets(connect, kind, cluster) -> None:
    if kind != "pymysql":
        pytest.skip("the others do not learn what the server reports")
    connection = connect()
    ask(connection, "INSERT INTO fired VALUES (7)")
    assert lose(cluster, connection) == ()
    assert ask(connection, "SELECT @tenant") == [(7,)]


def test_rows_of_a_statement_that_writes(connect, cluster) -> None:
    needs_mariadb(cluster, "RETURNING")
    connection = connect()
    for table in ("quiet", "written"):
        ask(connection, f"INSERT INTO {table} VALUES (1) RETURNING i")
        assert lose(cluster, connection) == ()


@pytest.mark.parametrize("pair", LISTED, indirect=True)
def test_what_connecting_has_set_is_pristine(connect, cluster) -> None:
    create(cluster.primary, "PROCEDURE", "changes_first", "() SET @first = 8, @tenant = 7")
    connection = connect(init_command="SET @first = 5")
    ask(connection, "CALL changes_first()")
    assert lose(cluster, connection) == ()
    assert ask(connection, "SELECT @first, @tenant") == [(8, 7)]
    assert reset_session(connection)
    assert ask(connection, "SELECT @first, @tenant") == [(5, None)]


def ask_all(connection: Any, text: str) -> None:
    """Run a statement and read all of its results."""
    cursor = connection.cursor()
    cursor.execute(text)
    while True:
        if cursor.description:
            cursor.fetchall()
        if not cursor.nextset():
            break
    cursor.close()
