"""Session state of MariaDB and MySQL, on every driver: carried with its type and put back, or named.

What is compared is what the server says, past what is tracked.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from drivers.mysql.spelling import create
from drivers.socket_options import user_timeout

from instrumented_wrapper import FailoverSuccessError
from instrumented_wrapper.databases.mysql import questions

from .app import App
from .driver import DriverUnderTest

pytestmark = pytest.mark.databases("mariadb", "mysql")

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


def types(connection: App, names: Any = VARIABLES) -> list[str]:
    """Return what a table has for columns whose values are these variables: the server's own word for their types."""
    columns = ", ".join(f"{name} AS c{number}" for number, name in enumerate(names))
    connection.ask(f"CREATE TEMPORARY TABLE types AS SELECT {columns}")
    ((_, text),) = connection.ask("SHOW CREATE TABLE types")
    connection.ask("DROP TEMPORARY TABLE types")
    return [line.strip() for line in text.splitlines() if line.strip().startswith("`")]


def values(connection: App, names: Any = VARIABLES) -> Any:
    return connection.ask("SELECT " + ", ".join(f"HEX(CONCAT({name})), COLLATION({name})" for name in names))


# --- user variables -----------------------------------------------------------------------------------------------


@pytest.fixture
def moved(app: Callable[..., App]) -> Callable[..., Any]:
    """Make two connections do the same; return what the server says of both when one of them has been moved."""

    def moved(texts: list[str], what: Callable[[App], Any]) -> tuple[Any, Any]:
        stays, moves = app(), app()
        for connection in (stays, moves):
            for text in texts:
                connection.ask(text)
        before = moves.number()
        moves.switch()
        assert moves.number() != before
        return what(stays), what(moves)

    return moved


def test_user_variables_keep_type_and_collation(moved) -> None:
    given = [f"SET {name} = {value}" for name, value in VARIABLES.items() if name != "@time"]
    given += ["SET timestamp = 1700000000", f"SET @time = {VARIABLES['@time']}", "SET timestamp = DEFAULT"]
    typed = [name for name in VARIABLES if name != "@null"]  # a table has any type for it
    before, after = moved(given, lambda connection: (values(connection), types(connection, typed)))
    assert after == before


@pytest.mark.databases("mysql")  # MariaDB does not expose it
def test_small_unsigned_numbers_stay_unsigned(moved) -> None:
    before, after = moved(["SET @u = CAST(5 AS UNSIGNED)"], lambda connection: types(connection, ["@u"]))
    assert after == before == ["`c0` bigint unsigned DEFAULT NULL"]


@pytest.mark.databases("mysql")  # MariaDB takes no such packets by default
def test_a_value_that_fills_several_packets(app) -> None:
    connection = app()
    connection.ask("SET @long = REPEAT('x', 9000000)")
    connection.switch()
    assert connection.ask("SELECT LENGTH(@long)") == [(9000000,)]


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


def test_bytes_that_are_no_text_are_carried_or_named(driver, app) -> None:
    """mysqlclient and mysql-connector write bytes as a text in the character set of the session."""
    driver.needs("bytes as parameters")
    connection = app()
    connection.ask("SET @text = %s, @other = 'x'", b"a\xff?")
    before = values(connection, ["@text"])
    named: tuple[str, ...] = ()
    try:
        connection.switch()
    except FailoverSuccessError as error:
        named = error.not_restored
    if named:
        connection.ask("SET @text = NULL")
    assert named in ((), ("@text",))
    assert connection.ask("SELECT @other") == [("x",)]
    assert named or values(connection, ["@text"]) == before


def test_bytes_that_are_no_text_are_taken_away_in_a_reset(driver, app) -> None:
    driver.needs("bytes as parameters")
    connection = app()
    connection.ask("SET @text = %s, @other = 'x'", b"a\xff?")
    assert connection.reset()
    assert connection.ask("SELECT @text IS NULL, @other IS NULL") == [(1, 1)]


def test_names_in_double_quotes_are_names_of_variables_under_ansi_quotes(app) -> None:
    connection = app()
    connection.ask("SET sql_mode = 'ANSI_QUOTES'")
    connection.ask("""SET "time_zone" = '+05:00', @@session."lock_wait_timeout" = 9, SESSION "unique_checks" = 0""")
    question = "SELECT @@time_zone, @@lock_wait_timeout = 9, @@unique_checks"
    before = connection.ask(question)
    connection.switch()
    assert connection.ask(question) == before == [("+05:00", 1, 0)]
    assert connection.reset()
    assert connection.ask(question) == [("SYSTEM", 0, 1)]


@pytest.mark.parametrize(
    "texts",
    [
        ["PREPARE p FROM 'SELECT 1'", "DEALLOCATE PREPARE p"],
        ["CREATE TEMPORARY TABLE scratch (i int)", "ALTER TABLE scratch ADD j int", "DROP TEMPORARY TABLE scratch"],
    ],
)
def test_what_is_taken_away_is_not_taken_for_something_unnamed(app, texts: list[str]) -> None:
    connection = app()
    for text in texts:
        connection.ask(text)
    lacking: tuple[str, ...] = ()
    try:
        connection.switch()
    except FailoverSuccessError as error:
        lacking = error.not_restored
    assert set(lacking) <= {"temporary tables"}  # whose names are not known after ALTER TABLE


def test_a_value_of_the_same_text_and_another_type_is_carried(app) -> None:
    """An exact number has another collation and another division than an integer of the same digits."""
    connection = app()
    connection.ask("SET @a = CAST(5 AS UNSIGNED), @b = CAST(5 AS DECIMAL(5, 0))")
    connection.ask("SET @b = @a")
    before = connection.ask("SELECT HEX(@b), @b / 3, @b DIV 3")
    connection.ask("SET @b = CAST(5 AS CHAR)")
    text = connection.ask("SELECT CONCAT(@b, 'x'), COLLATION(@b)")
    connection.switch()
    assert connection.ask("SELECT CONCAT(@b, 'x'), COLLATION(@b)") == text
    connection.ask("SET @b = @a")
    connection.switch()
    assert connection.ask("SELECT HEX(@b), @b / 3, @b DIV 3") == before


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


def test_what_load_data_sets(driver, app, tmp_path) -> None:
    driver.needs("LOAD DATA LOCAL")
    file = tmp_path / "rows"
    file.write_text("1\tword\n")
    connection = app(**driver.takes_files)
    connection.ask("CREATE TEMPORARY TABLE loaded (i int)")
    with suppress(driver.error):  # a server that takes no files
        connection.ask(f"LOAD DATA LOCAL INFILE '{file}' INTO TABLE loaded (i, @word)")
    before = values(connection, ["@word"])
    with pytest.raises(FailoverSuccessError) as caught:
        connection.switch()
    assert caught.value.not_restored == ("temporary tables",)
    assert values(connection, ["@word"]) == before


def test_load_data_may_be_left_unread_by_a_busy_server(driver, app, background, tmp_path) -> None:
    driver.needs("LOAD DATA LOCAL")
    connection = app(**driver.takes_files)
    connection.ask("CREATE TEMPORARY TABLE loaded (i int)")
    descriptor = driver.descriptor(connection.connection)
    assert user_timeout(descriptor) == 5000
    pipe, seen = tmp_path / "rows", []
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("w") as rows:  # opens when the driver does
            seen.append(user_timeout(descriptor))
            rows.write("1\n")

    done = background(write)
    try:
        connection.ask(f"LOAD DATA LOCAL INFILE '{pipe}' INTO TABLE loaded")
    finally:
        os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))  # lets the writer go on where the driver has not
    done.result()
    assert seen == [0]
    assert user_timeout(descriptor) == 5000


# --- roles --------------------------------------------------------------------------------------------------------


@pytest.fixture
def roles(site: Any) -> None:
    """Grant the account of the test two roles."""
    for name in ("reader", 'odd "one'):
        site.sql(f"CREATE ROLE IF NOT EXISTS `{name}`; GRANT `{name}` TO {site.user}")
    site.cluster.wait_streaming()


ROLES = "SELECT CURRENT_ROLE()"
ONE_ROLE = ("reader", '`odd "one`')
SEVERAL_ROLES = ("ALL", "ALL EXCEPT reader", 'reader, `odd "one`')  # MariaDB has one role at a time


@pytest.mark.parametrize("mode", ["", "ANSI_QUOTES"])
def test_roles_are_restored_and_carried_over(app, site, roles, mode: str) -> None:
    connection = app()
    connection.ask(f"SET sql_mode = '{mode}'")
    pristine = connection.ask(ROLES)
    for text in (*ONE_ROLE, *(SEVERAL_ROLES if site.system == "mysql" else ())):
        connection.ask(f"SET ROLE {text}")
        before = connection.ask(ROLES)
        assert before != pristine
        connection.switch()
        assert connection.ask(ROLES) == before
        assert connection.reset()
        assert connection.ask(ROLES) == pristine
        connection.ask(f"SET sql_mode = '{mode}'")


def test_a_default_role_that_was_laid_down_stays_so(app, site, roles) -> None:
    of = "TO" if site.system == "mysql" else "FOR"
    site.sql(f"SET DEFAULT ROLE `reader` {of} {site.user}")
    try:
        connection = app()
        pristine = connection.ask(ROLES)
        assert "reader" in str(pristine)
        connection.ask("SET ROLE NONE")
        connection.switch()
        assert "reader" not in str(connection.ask(ROLES))
        assert connection.reset()
        assert connection.ask(ROLES) == pristine
    finally:
        site.sql(f"SET DEFAULT ROLE NONE {of} {site.user}")


def test_a_database_that_only_the_role_may_use(app, site, roles) -> None:
    site.sql("CREATE DATABASE IF NOT EXISTS of_role; GRANT ALL ON of_role.* TO reader")
    connection = app()
    connection.ask("SET ROLE reader")
    connection.ask("USE of_role")
    connection.lose()
    assert connection.ask("SELECT DATABASE()") == [("of_role",)]
    assert connection.reset()
    assert connection.ask("SELECT DATABASE()") == [("app",)]


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
def test_character_sets(driver, app, text: str) -> None:
    if text == "SET NAMES binary":
        driver.needs("text of any bytes")
    connection = app()
    pristine = connection.ask(CHARACTERS)
    connection.ask(text)
    before = connection.ask(CHARACTERS)
    connection.switch()
    assert connection.ask(CHARACTERS) == before != pristine
    assert connection.reset()
    assert connection.ask(CHARACTERS) == pristine


# --- variables ----------------------------------------------------------------------------------------------------


def test_a_time_that_was_set_is_carried_and_taken_back(app) -> None:
    connection = app()
    for given in ("1700000000", "UNIX_TIMESTAMP('2020-01-01')"):
        connection.ask(f"SET timestamp = {given}")
        before = connection.ask("SELECT @@timestamp")
        connection.switch()
        assert connection.ask("SELECT @@timestamp") == before
        assert connection.reset()
        assert connection.ask("SELECT @@timestamp > 1750000000") == [(1,)]
    connection.ask("SET timestamp = 5")
    connection.ask("SET timestamp = DEFAULT")
    connection.switch()
    assert connection.ask("SELECT @@timestamp > 1750000000") == [(1,)]


@pytest.mark.parametrize(
    ("text", "name"), [("SET insert_id = 7", "insert_id"), ("SET last_insert_id = 7", "last_insert_id")]
)
def test_what_means_another_thing_elsewhere_is_named_and_reset(app, text: str, name: str) -> None:
    connection = app()
    connection.ask(text)
    with pytest.raises(FailoverSuccessError) as caught:
        connection.switch()
    assert caught.value.not_restored == (name,)
    assert connection.ask(f"SELECT @@{name}") == [(0,)]
    connection.ask(text)
    assert connection.reset()
    assert connection.ask(f"SELECT @@{name}") == [(0,)]


def test_what_cannot_be_read_is_named(app) -> None:
    connection = app()
    connection.ask("SET rand_seed1 = 1, @x = 2")
    with pytest.raises(FailoverSuccessError) as caught:
        connection.switch()
    assert caught.value.not_restored == ("rand_seed1",)
    assert connection.ask("SELECT @x") == [(2,)]


def test_what_the_app_has_reported(app) -> None:
    connection = app()
    question = "SELECT @@session_track_schema, @@session_track_state_change"
    pristine = connection.ask(question)
    connection.ask("SET session_track_schema = 0, session_track_state_change = 0")
    connection.switch()
    assert connection.ask(question) == [(0, 0)]
    assert connection.reset()
    assert connection.ask(question) == pristine


@pytest.mark.databases("mysql")  # MariaDB has no resource groups
def test_a_resource_group_is_named(app, site) -> None:
    site.sql(f"GRANT RESOURCE_GROUP_USER ON *.* TO {site.user}")
    connection = app()
    connection.ask("SET RESOURCE GROUP USR_default")
    with pytest.raises(FailoverSuccessError) as caught:
        connection.switch()
    assert caught.value.not_restored == ("resource group",)
    connection.ask("SET RESOURCE GROUP USR_default")
    assert connection.reset()
    connection.switch()


# --- the current database -----------------------------------------------------------------------------------------


def test_a_database_that_was_chosen_is_taken_away_or_the_reset_fails(driver, app, spans) -> None:
    connection = app(**driver.no_database)
    connection.ask("SET time_zone = '+01:00'")
    connection.ask("USE other")
    can = driver.has("COM_CHANGE_USER")
    assert connection.reset() is can
    assert connection.ask("SELECT DATABASE(), @@time_zone") == [(None if can else "other", "SYSTEM")]
    assert connection.state()["database"].is_pristine is can
    (span,) = spans.named("session_state.reset")
    outcomes = {event.attributes["name"]: event.attributes["outcome"] for event in span.events}
    assert outcomes == {"time_zone": "reset", "database": "reset" if can else "failed"}
    assert span.status.is_ok is can


def test_an_entry_of_a_plan_that_nobody_carries_out_is_told(app, monkeypatch, spans) -> None:
    """Whatever part of ours forgets it."""
    connection, assign = app(), questions.assign

    def forgets(given: Any, dialect: Any) -> Any:
        return assign([assignment for assignment in given if assignment.name != "time_zone"], dialect)

    monkeypatch.setattr(questions, "assign", forgets)
    connection.ask("SET time_zone = '+01:00', lock_wait_timeout = 9")
    assert not connection.reset()
    assert connection.ask("SELECT @@time_zone, @@lock_wait_timeout = 9") == [("+01:00", 0)]
    (span,) = spans.named("session_state.reset")
    outcomes = {event.attributes["name"]: event.attributes["outcome"] for event in span.events}
    assert outcomes == {"time_zone": "failed", "lock_wait_timeout": "reset"}
    with pytest.raises(FailoverSuccessError) as caught:
        connection.switch()
    assert caught.value.not_restored == ("time_zone",)
    assert connection.ask("SELECT @@time_zone") == [("SYSTEM",)]


SOME = "CREATE PROCEDURE sets_for_all() SQL SECURITY DEFINER SET sql_log_bin = 0, time_zone = '+04:00'"


def test_what_may_not_be_set_here_does_not_keep_the_rest_away(driver, app, site) -> None:
    driver.needs("session reports")  # what a procedure sets
    site.sql(f"DROP PROCEDURE IF EXISTS sets_for_all; {SOME}")
    site.cluster.wait_streaming()
    connection = app()
    connection.ask("CALL app.sets_for_all()")
    connection.ask("USE information_schema")  # the new session has it at once
    with pytest.raises(FailoverSuccessError) as caught:
        connection.switch()
    assert set(caught.value.not_restored) - {"user variables"} == {"sql_log_bin"}  # MySQL tells of none
    assert connection.ask("SELECT @@sql_log_bin, @@time_zone, DATABASE()") == [(1, "+04:00", "information_schema")]


def test_writes_are_answered_without_a_question(app, cluster, proxy) -> None:
    """MySQL reports the number of the statement with each answer, which no app has set."""
    connection = app(proxy, cluster.primary)
    connection.ask("CREATE TEMPORARY TABLE written (i int)")
    connection.ask("SELECT 1")
    before = len(proxy.seen("client"))
    for _ in range(20):
        connection.ask("INSERT INTO written VALUES (1)")
    sent = proxy.seen("client")[before:]
    assert sent.count(b"INSERT INTO written") == 20
    assert not sent.count(b"SELECT") and not sent.count(b"SET")
    assert all(state.is_pristine for state in connection.state().values())


def test_a_pool_hands_out_no_database_of_others(driver: DriverUnderTest, pool, site) -> None:
    driver.needs("pools")
    opened = pool(kwargs=driver.no_database)
    first = driver.take(opened)
    driver.execute(first, "USE other")
    driver.give_back(opened, first)
    second = driver.take(opened)
    assert driver.execute(second, "SELECT DATABASE()") == [(None,)]
    driver.give_back(opened, second)


def test_an_app_that_limits_its_selects_to_no_row_at_all(app, site) -> None:
    connection = app(options={"failover": "on"})
    connection.ask("SET sql_select_limit = 0")
    connection.ask("SET time_zone = '+02:00'")
    connection.ask("SET @n = 5")
    shown = "SELECT @@sql_select_limit, @@time_zone, @n LIMIT 1"
    assert connection.ask(shown) == [(0, "+02:00", 5)]
    site.end_sessions()
    assert connection.ask(shown) == [(0, "+02:00", 5)]
    assert connection.reset()
    assert connection.ask(shown) == [(2**64 - 1, "SYSTEM", None)]


# --- all together ---------------------------------------------------------------------------------------------------


@pytest.fixture
def state(site: Any) -> str:
    """What the server is asked for all of it; it calls some variables otherwise than MariaDB."""
    read_only, level = (site.asked[name].removeprefix("SELECT ") for name in ("read_only", "isolation_level"))
    return f"SELECT @@autocommit, @@time_zone, DATABASE(), @x, {level}, {read_only}"


def test_settings_are_known_and_put_back(driver: DriverUnderTest, app, state: str) -> None:
    connection = app()
    pristine = connection.ask(state)
    driver.set(connection.connection, "autocommit", False)
    driver.set(connection.connection, "read_only", True)
    connection.ask("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    connection.ask("SET time_zone = '+01:00', @x = 5")
    connection.ask("USE other")
    connection.rollback()
    known = connection.state()
    values = {name: (known[name].pristine_value, known[name].value) for name in ("autocommit", "read_only", "database")}
    assert values == {"autocommit": (True, False), "read_only": (False, True), "database": ("app", "other")}
    assert (known["isolation_level"].value, known["time_zone"].value) == ("READ-COMMITTED", "+01:00")
    assert known["@X"].value == "5"
    assert connection.reset()
    assert connection.ask(state) == pristine


def test_values_set_by_parameters_are_carried_over(app) -> None:
    connection = app()
    connection.ask("SET @x = %s, time_zone = %s", "it's \"é\\", "-03:00")
    connection.ask("SELECT 1")
    connection.lose()
    assert connection.ask("SELECT @x, @@time_zone") == [("it's \"é\\", "-03:00")]


def test_a_procedure_that_sets(driver: DriverUnderTest, app, site) -> None:
    create(site.cluster.primary, "PROCEDURE", "zone", "() SET time_zone = '+04:00'")
    connection = app()
    driver.call(driver.cursor(connection.connection).callproc, "zone")
    connection.ask("SELECT 1")
    assert connection.state()["time_zone"].value == "+04:00"
    assert connection.reset()
    assert connection.ask("SELECT @@time_zone") == [("SYSTEM",)]


def commands(sent: bytes, wanted: bytes = b"") -> int:
    """Count the commands that a client has sent: 3 bytes of length, a number, which is 0 where one begins."""
    count = 0
    while sent:
        size, number = int.from_bytes(sent[:3], "little"), sent[3]
        command = sent[4 : 4 + size]
        # PyMySQL and its forks ask before: after rows the server does not report what a function has changed.
        count += number == 0 and wanted in command and b"DO 0" not in command
        sent = sent[4 + size :]
    return count


QUESTION = "SELECT @@time_zone, @x, @@lock_wait_timeout, DATABASE()"
SETTINGS = "SET time_zone = '+02:00', @x = 'acme', lock_wait_timeout = 77"


def test_a_reset_is_one_round_trip(driver: DriverUnderTest, app, proxy) -> None:
    connection = app(proxy, options={"failover": "off"})
    pristine = connection.ask(QUESTION)
    for text in (SETTINGS, "USE other", "SELECT 1"):
        connection.ask(text)
    proxy.clear()
    assert connection.reset()
    assert commands(proxy.seen("client")) == driver.commands_at_once
    assert connection.ask(QUESTION) == pristine


def test_a_transfer_is_one_round_trip(driver: DriverUnderTest, app, cluster, proxy) -> None:
    """What a new session is sent after its login: what kind of server it is, and all that it is given."""
    connection = app(cluster.primary, options={"failover": "off"})
    for text in (SETTINGS, "SELECT 1"):
        connection.ask(text)
    before = connection.ask(QUESTION)
    connection.switch(proxy.host, proxy.port)
    assert commands(proxy.seen("client"), b"lock_wait_timeout") == driver.commands_at_once
    assert connection.ask(QUESTION) == before


def test_without_a_transfer_all_is_at_the_baseline(driver: DriverUnderTest, app, state: str) -> None:
    characters = "@@character_set_client, @@character_set_results, @@collation_connection"
    question = f"{state}, {characters}, @@sql_mode"
    off = {"transfer_session_state_on_switch": False}
    connection = app(charset="latin1", sql_mode="ANSI_QUOTES", options=off)
    before = connection.ask(question)
    for statement in ("USE other", "SET NAMES utf8mb4", "SET @x = 1, sql_mode = '', time_zone = '+03:00'"):
        connection.ask(statement)
    driver.use_charset(connection.connection, "utf8mb4")
    connection.lose()
    assert connection.ask(question) == before
    assert connection.ask("SELECT HEX(%s)", "é") == [("E9",)]  # the driver's side of it, too
    assert not connection.state()
