"""Session state of MariaDB and MySQL, on every driver: carried with its type and put back, or named.

What is compared is what the server says, past what is tracked.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError, reset_session, session_state, switch
from instrumented_wrapper.databases.mysql import questions
from servers import Proxy

from ..socket_options import user_timeout
from .server_session import ask, end, session

CHARACTERS = "SELECT " + ", ".join(
    f"@@character_set_{name}" for name in ("client", "results", "connection")
) + ", @@collation_connection"  # fmt: skip
VARIABLES = {
    "@int": "5 + 0",
    "@big": "18446744073709551615",
    "@exact": "1.50 + 0",
    "@whole": "CAST(5 AS DECIMAL(10, 0))",
    "@double": "1e0",
    "@third": "1e0 / 3",
    "@text": "'x'",
    "@quoted": "'it''s'",
    "@sorted": "'x' COLLATE utf8mb4_bin",
    "@latin": "_latin1'abc'",
    "@bytes": "X'00ff'",
    "@empty": "''",
    "@time": "NOW(6)",
    "@null": "NULL",
}


@pytest.fixture(params=["MariaDB", "MySQL"])
def pair(request: pytest.FixtureRequest) -> Any:
    """A healthy primary and its replica, of each of the two databases."""
    running = request.getfixturevalue(f"running_{request.param.lower()}")
    running.restore()
    return running


@pytest.fixture
def mariadb(pair: Any) -> Any:
    return pair


def types(connection: Any, names: Any = VARIABLES) -> list[str]:
    """Return what a table has for columns whose values are these variables: the server's own word for their types."""
    columns = ", ".join(f"{name} AS c{number}" for number, name in enumerate(names))
    ask(connection, f"CREATE TEMPORARY TABLE types AS SELECT {columns}")
    ((_, text),) = ask(connection, "SHOW CREATE TABLE types")
    ask(connection, "DROP TEMPORARY TABLE types")
    return [line.strip() for line in text.splitlines() if line.strip().startswith("`")]


def values(connection: Any, names: Any = VARIABLES) -> Any:
    return ask(connection, "SELECT " + ", ".join(f"HEX(CONCAT({name})), COLLATION({name})" for name in names))


def is_mysql(connection: Any) -> bool:
    return "MariaDB" not in str(ask(connection, "SELECT VERSION()")[0][0])


# --- user variables -----------------------------------------------------------------------------------------------


@pytest.fixture
def moved(connect: Callable[..., Any]) -> Callable[..., Any]:
    """Make two connections do the same; return what the server says of both when one of them has been moved."""

    def moved(texts: list[str], what: Callable[[Any], Any]) -> tuple[Any, Any]:
        stays, moves = connect(), connect()
        for connection in (stays, moves):
            for text in texts:
                ask(connection, text)
        before = session(moves)
        switch(moves)
        assert session(moves) != before
        return what(stays), what(moves)

    return moved


def test_user_variables_keep_type_and_collation(moved) -> None:
    given = [f"SET {name} = {value}" for name, value in VARIABLES.items() if name != "@time"]
    given += ["SET timestamp = 1700000000", f"SET @time = {VARIABLES['@time']}", "SET timestamp = DEFAULT"]
    typed = [name for name in VARIABLES if name != "@null"]  # a table has any type for it
    before, after = moved(given, lambda connection: (values(connection), types(connection, typed)))
    assert after == before


def test_small_unsigned_numbers_stay_unsigned(moved, pair) -> None:
    if "mariadb" in type(pair.primary).__name__.lower():
        pytest.skip("MariaDB does not tell")
    before, after = moved(["SET @u = CAST(5 AS UNSIGNED)"], lambda connection: types(connection, ["@u"]))
    assert after == before == ["`c0` bigint unsigned DEFAULT NULL"]


def test_a_value_that_fills_several_packets(connect, kind, pair) -> None:
    if "MariaDB" in type(pair).__name__:
        pytest.skip("it takes no such packets by default")
    connection = connect()
    ask(connection, "SET @long = REPEAT('x', 9000000)")
    switch(connection)
    assert ask(connection, "SELECT LENGTH(@long)") == [(9000000,)]


@pytest.mark.parametrize(
    "texts",
    [
        ["SET NAMES latin1", "SET @text = 'x'"],
        ["SET collation_connection = utf8mb4_bin, @text = 'x'", "SET @text = 'y'"],
        ["SET NAMES utf8mb4 COLLATE utf8mb4_bin", "SELECT 'x' INTO @text"],
    ],
)
def test_a_literal_has_the_collation_that_it_had(moved, texts: list[str]) -> None:
    before, after = moved(texts, lambda connection: values(connection, ["@text"]))
    assert after == before


@pytest.mark.parametrize("value", ["'a?b'", "'?\u00e9?'", "_ucs2 X'003f00e9'", "_latin1 X'813f'"])
def test_a_text_with_question_marks_is_the_same_text(moved, value: str) -> None:
    """MariaDB shows one in place of what is no character."""
    before, after = moved([f"SET @text = {value}"], lambda connection: values(connection, ["@text"]))
    assert after == before


def test_bytes_that_are_no_text_are_carried_or_named(connect) -> None:
    """mysqlclient and mysql-connector write bytes as a text in the character set of the session."""
    connection = connect()
    ask(connection, "SET @text = %s, @other = 'x'", b"a\xff?")
    before = values(connection, ["@text"])
    named: tuple[str, ...] = ()
    try:
        switch(connection)
    except FailoverSuccessError as error:
        named = error.not_restored
    if named:
        ask(connection, "SET @text = NULL")
    assert named in ((), ("@text",))
    assert ask(connection, "SELECT @other") == [("x",)]
    assert named or values(connection, ["@text"]) == before


def test_bytes_that_are_no_text_are_taken_away_in_a_reset(connect) -> None:
    connection = connect()
    ask(connection, "SET @text = %s, @other = 'x'", b"a\xff?")
    assert reset_session(connection)
    assert ask(connection, "SELECT @text IS NULL, @other IS NULL") == [(1, 1)]


def test_names_in_double_quotes_are_names_of_variables_under_ansi_quotes(connect) -> None:
    connection = connect()
    ask(connection, "SET sql_mode = 'ANSI_QUOTES'")
    ask(connection, """SET "time_zone" = '+05:00', @@session."lock_wait_timeout" = 9, SESSION "unique_checks" = 0""")
    question = "SELECT @@time_zone, @@lock_wait_timeout = 9, @@unique_checks"
    before = ask(connection, question)
    switch(connection)
    assert ask(connection, question) == before == [("+05:00", 1, 0)]
    assert reset_session(connection)
    assert ask(connection, question) == [("SYSTEM", 0, 1)]


@pytest.mark.parametrize(
    "texts",
    [
        ["PREPARE p FROM 'SELECT 1'", "DEALLOCATE PREPARE p"],
        ["CREATE TEMPORARY TABLE scratch (i int)", "ALTER TABLE scratch ADD j int", "DROP TEMPORARY TABLE scratch"],
    ],
)
def test_what_is_taken_away_is_not_taken_for_something_unnamed(connect, texts: list[str]) -> None:
    connection = connect()
    for text in texts:
        ask(connection, text)
    lacking: tuple[str, ...] = ()
    try:
        switch(connection)
    except FailoverSuccessError as error:
        lacking = error.not_restored
    assert set(lacking) <= {"temporary tables"}  # whose names are not known after ALTER TABLE


def test_a_value_of_the_same_text_and_another_type_is_carried(connect) -> None:
    """An exact number has another collation and another division than an integer of the same digits."""
    connection = connect()
    ask(connection, "SET @a = CAST(5 AS UNSIGNED), @b = CAST(5 AS DECIMAL(5, 0))")
    ask(connection, "SET @b = @a")
    before = ask(connection, "SELECT HEX(@b), @b / 3, @b DIV 3")
    ask(connection, "SET @b = CAST(5 AS CHAR)")
    text = ask(connection, "SELECT CONCAT(@b, 'x'), COLLATION(@b)")
    switch(connection)
    assert ask(connection, "SELECT CONCAT(@b, 'x'), COLLATION(@b)") == text
    ask(connection, "SET @b = @a")
    switch(connection)
    assert ask(connection, "SELECT HEX(@b), @b / 3, @b DIV 3") == before


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("GET DIAGNOSTICS @found = NUMBER", "@found"),
        ("SELECT 1, 2 INTO /* both */ @one, @found", "@found"),
        ("SELECT @found := 7", "@found"),
        ("DO @found := 7", "@found"),
    ],
)
def test_what_else_sets_user_variables(moved, text: str, name: str) -> None:
    before, after = moved([text], lambda connection: values(connection, [name]))
    assert after == before != [(None, "binary")]


def test_what_load_data_sets(connect, driver, kind, tmp_path) -> None:
    file = tmp_path / "rows"
    file.write_text("1\tword\n")
    names = {"pymysql": "local_infile", "MySQLdb": "local_infile"}
    connection = connect(**{names.get(kind, "allow_local_infile"): True})
    ask(connection, "CREATE TEMPORARY TABLE loaded (i int)")
    with suppress(driver.Error):  # a server that takes no files
        ask(connection, f"LOAD DATA LOCAL INFILE '{file}' INTO TABLE loaded (i, @word)")
    before = values(connection, ["@word"])
    with pytest.raises(FailoverSuccessError) as caught:
        switch(connection)
    assert caught.value.not_restored == ("temporary tables",)
    assert values(connection, ["@word"]) == before


@pytest.mark.parametrize("kind", ["pymysql", "MySQLdb"], indirect=True)  # the others do not tell their socket
def test_load_data_may_be_left_unread_by_a_busy_server(connect, driver, kind, tmp_path) -> None:
    connection = connect(local_infile=True)
    ask(connection, "CREATE TEMPORARY TABLE loaded (i int)")
    descriptor = connection._sock.fileno() if kind == "pymysql" else connection.fileno()
    assert user_timeout(descriptor) == 5000
    pipe, seen = tmp_path / "rows", []
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("w") as rows:  # opens when the driver does
            seen.append(user_timeout(descriptor))
            rows.write("1\n")

    with ThreadPoolExecutor() as threads:
        done = threads.submit(write)
        ask(connection, f"LOAD DATA LOCAL INFILE '{pipe}' INTO TABLE loaded")
        done.result()
    assert seen == [0]
    assert user_timeout(descriptor) == 5000


# --- roles --------------------------------------------------------------------------------------------------------


@pytest.fixture
def roles(pair) -> tuple[str, str]:
    sql = pair.primary.sql
    for name in ("reader", 'odd "one'):
        sql(f"CREATE ROLE IF NOT EXISTS `{name}`; GRANT `{name}` TO app@'%'")
    pair.wait_streaming()
    return "reader", 'odd "one'


ROLES = "SELECT CURRENT_ROLE()"


@pytest.mark.parametrize("mode", ["", "ANSI_QUOTES"])
@pytest.mark.parametrize("text", ["reader", '`odd "one`', "ALL", "ALL EXCEPT reader", 'reader, `odd "one`'])
def test_roles(connect, roles, mode: str, text: str) -> None:
    connection = connect()
    if not is_mysql(connection) and ("," in text or "ALL" in text):
        pytest.skip("MariaDB has one role at a time")
    ask(connection, f"SET sql_mode = '{mode}'")
    pristine = ask(connection, ROLES)
    ask(connection, f"SET ROLE {text}")
    before = ask(connection, ROLES)
    assert before != pristine
    switch(connection)
    assert ask(connection, ROLES) == before
    assert reset_session(connection)
    assert ask(connection, ROLES) == pristine


def test_a_default_role_that_was_laid_down_stays_so(connect, roles, pair) -> None:
    of = "" if "MariaDB" in type(pair).__name__ else "`reader` TO app@'%'"
    pair.primary.sql(f"SET DEFAULT ROLE {of or '`reader` FOR app@`%`'}")
    try:
        connection = connect()
        pristine = ask(connection, ROLES)
        assert "reader" in str(pristine)
        ask(connection, "SET ROLE NONE")
        switch(connection)
        assert "reader" not in str(ask(connection, ROLES))
        assert reset_session(connection)
        assert ask(connection, ROLES) == pristine
    finally:
        pair.primary.sql(f"SET DEFAULT ROLE NONE {'TO' if of else 'FOR'} app@'%'")


def test_a_database_that_only_the_role_may_use(connect, roles, pair) -> None:
    pair.primary.sql("CREATE DATABASE IF NOT EXISTS of_role; GRANT ALL ON of_role.* TO reader")
    connection = connect()
    ask(connection, "SET ROLE reader")
    ask(connection, "USE of_role")
    end(pair.primary, session(connection))
    assert ask(connection, "SELECT DATABASE()") == [("of_role",)]
    assert reset_session(connection)
    assert ask(connection, "SELECT DATABASE()") == [("app",)]


# --- character sets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "SET NAMES binary",
        "SET NAMES latin1",
        "SET CHARACTER SET latin1",
        "SET character_set_client = latin1",
        "SET character_set_results = NULL",
    ],
)
def test_character_sets(connect, kind, text: str) -> None:
    if (kind, text) == ("MySQLdb", "SET NAMES binary"):
        pytest.skip("mysqlclient itself cannot read a row then")
    connection = connect()
    pristine = ask(connection, CHARACTERS)
    ask(connection, text)
    before = ask(connection, CHARACTERS)
    switch(connection)
    assert ask(connection, CHARACTERS) == before != pristine
    assert reset_session(connection)
    assert ask(connection, CHARACTERS) == pristine


# --- variables ----------------------------------------------------------------------------------------------------


def test_a_time_that_was_set_is_carried_and_taken_back(connect) -> None:
    connection = connect()
    for given in ("1700000000", "UNIX_TIMESTAMP('2020-01-01')"):
        ask(connection, f"SET timestamp = {given}")
        before = ask(connection, "SELECT @@timestamp")
        switch(connection)
        assert ask(connection, "SELECT @@timestamp") == before
        assert reset_session(connection)
        assert ask(connection, "SELECT @@timestamp > 1750000000") == [(1,)]
    ask(connection, "SET timestamp = 5")
    ask(connection, "SET timestamp = DEFAULT")
    switch(connection)
    assert ask(connection, "SELECT @@timestamp > 1750000000") == [(1,)]


@pytest.mark.parametrize(
    ("text", "name"), [("SET insert_id = 7", "insert_id"), ("SET last_insert_id = 7", "last_insert_id")]
)
def test_what_means_another_thing_elsewhere_is_named_and_reset(connect, text: str, name: str) -> None:
    connection = connect()
    ask(connection, text)
    with pytest.raises(FailoverSuccessError) as caught:
        switch(connection)
    assert caught.value.not_restored == (name,)
    assert ask(connection, f"SELECT @@{name}") == [(0,)]
    ask(connection, text)
    assert reset_session(connection)
    assert ask(connection, f"SELECT @@{name}") == [(0,)]


def test_what_cannot_be_read_is_named(connect) -> None:
    connection = connect()
    ask(connection, "SET rand_seed1 = 1, @x = 2")
    with pytest.raises(FailoverSuccessError) as caught:
        switch(connection)
    assert caught.value.not_restored == ("rand_seed1",)
    assert ask(connection, "SELECT @x") == [(2,)]


def test_what_the_app_has_reported(connect) -> None:
    connection = connect()
    question = "SELECT @@session_track_schema, @@session_track_state_change"
    pristine = ask(connection, question)
    ask(connection, "SET session_track_schema = 0, session_track_state_change = 0")
    switch(connection)
    assert ask(connection, question) == [(0, 0)]
    assert reset_session(connection)
    assert ask(connection, question) == pristine


@pytest.fixture
def night(pair) -> None:
    if "MariaDB" in type(pair).__name__:
        pytest.skip("MariaDB has no resource groups")
    pair.primary.sql("GRANT RESOURCE_GROUP_USER ON *.* TO app@'%'")


def test_a_resource_group_is_named(connect, night) -> None:
    connection = connect()
    ask(connection, "SET RESOURCE GROUP USR_default")
    with pytest.raises(FailoverSuccessError) as caught:
        switch(connection)
    assert caught.value.not_restored == ("resource group",)
    ask(connection, "SET RESOURCE GROUP USR_default")
    assert reset_session(connection)
    switch(connection)


# --- the current database -----------------------------------------------------------------------------------------


def test_a_database_that_was_chosen_is_taken_away_or_the_reset_fails(connect, kind, spans) -> None:
    connection = connect(database="")
    ask(connection, "SET time_zone = '+01:00'")
    ask(connection, "USE other")
    can = kind != "pymysql"  # it has no COM_CHANGE_USER
    assert reset_session(connection) is can
    assert ask(connection, "SELECT DATABASE(), @@time_zone") == [(None if can else "other", "SYSTEM")]
    assert session_state(connection)["database"].is_pristine is can
    (span,) = spans.named("session_state.reset")
    outcomes = {event.attributes["name"]: event.attributes["outcome"] for event in span.events}
    assert outcomes == {"time_zone": "reset", "database": "reset" if can else "failed"}
    assert span.status.is_ok is can


def test_an_entry_of_a_plan_that_nobody_carries_out_is_told(connect, monkeypatch, spans) -> None:
    """Whatever part of ours forgets it."""
    connection, assign = connect(), questions.assign

    def forgets(given: Any, dialect: Any) -> Any:
        return assign([assignment for assignment in given if assignment.name != "time_zone"], dialect)

    monkeypatch.setattr(questions, "assign", forgets)
    ask(connection, "SET time_zone = '+01:00', lock_wait_timeout = 9")
    assert not reset_session(connection)
    assert ask(connection, "SELECT @@time_zone, @@lock_wait_timeout = 9") == [("+01:00", 0)]
    (span,) = spans.named("session_state.reset")
    outcomes = {event.attributes["name"]: event.attributes["outcome"] for event in span.events}
    assert outcomes == {"time_zone": "failed", "lock_wait_timeout": "reset"}
    with pytest.raises(FailoverSuccessError) as caught:
        switch(connection)
    assert caught.value.not_restored == ("time_zone",)
    assert ask(connection, "SELECT @@time_zone") == [("SYSTEM",)]


SOME = "CREATE PROCEDURE sets_for_all() SQL SECURITY DEFINER SET sql_log_bin = 0, time_zone = '+04:00'"


def test_what_may_not_be_set_here_does_not_keep_the_rest_away(connect, kind, pair) -> None:
    if kind != "pymysql":
        pytest.skip("what a procedure sets is reported to PyMySQL only")
    pair.primary.sql(f"DROP PROCEDURE IF EXISTS sets_for_all; {SOME}")
    pair.wait_streaming()
    connection = connect()
    ask(connection, "CALL app.sets_for_all()")
    ask(connection, "USE information_schema")  # the new session has it at once
    with pytest.raises(FailoverSuccessError) as caught:
        switch(connection)
    assert set(caught.value.not_restored) - {"user variables"} == {"sql_log_bin"}  # MySQL tells of none
    assert ask(connection, "SELECT @@sql_log_bin, @@time_zone, DATABASE()") == [(1, "+04:00", "information_schema")]


def test_writes_are_answered_without_a_question(connect, kind, pair) -> None:
    """MySQL reports the number of the statement with each answer, which no app has set."""
    with Proxy(pair.primary.host, pair.primary.port) as proxy:
        connection = connect(proxy, pair.primary)
        ask(connection, "CREATE TEMPORARY TABLE written (i int)")
        ask(connection, "SELECT 1")
        before = len(proxy.seen("client"))
        for _ in range(20):
            ask(connection, "INSERT INTO written VALUES (1)")
        sent = proxy.seen("client")[before:]
        assert sent.count(b"INSERT INTO written") == 20
        assert not sent.count(b"SELECT") and not sent.count(b"SET")
        assert not any(not state.is_pristine for state in session_state(connection).values())


def test_the_pool_of_mysql_connector_hands_out_no_database_of_others(pair, kind, driver) -> None:
    if not kind.startswith("mysql.connector"):
        pytest.skip("it has no pool")
    pooling = pytest.importorskip("mysql.connector.pooling")
    where = {"host": pair.primary.host, "port": pair.primary.port, "user": "app", "password": "app-secret"}
    pool = pooling.MySQLConnectionPool(1, f"chosen_{id(pair)}_{kind[-1]}", **where, use_pure=not kind.endswith("C"))
    first = pool.get_connection()
    ask(first, "USE other")
    first.close()
    second = pool.get_connection()
    assert ask(second, "SELECT DATABASE()") == [(None,)]
    second.close()


def test_an_app_that_limits_its_selects_to_no_row_at_all(connect, pair) -> None:
    connection = connect(options={"failover": "on"})
    ask(connection, "SET sql_select_limit = 0")
    ask(connection, "SET time_zone = '+02:00'")
    ask(connection, "SET @n = 5")
    shown = "SELECT @@sql_select_limit, @@time_zone, @n LIMIT 1"
    assert ask(connection, shown) == [(0, "+02:00", 5)]
    end(pair.primary, ask(connection, "SELECT CONNECTION_ID() LIMIT 1")[0][0])
    assert ask(connection, shown) == [(0, "+02:00", 5)]
    assert reset_session(connection)
    assert ask(connection, shown) == [(2**64 - 1, "SYSTEM", None)]
