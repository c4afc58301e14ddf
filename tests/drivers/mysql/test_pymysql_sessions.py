"""PyMySQL: what the server reports of a session, late or incompletely; what the app itself reads is what it was."""

import select
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pymysql = pytest.importorskip("pymysql")

from pymysql.constants import CLIENT  # noqa: E402
from pymysql.cursors import SSCursor  # noqa: E402

from instrumented_wrapper import (  # noqa: E402
    FailoverSuccessError,
    SessionStateTransferHandlers,
    mark_pristine,
    reset_session,
    session_state,
    switch,
)

from ..script import complete  # noqa: E402
from .spelling import create, is_mysql, needs_mariadb, spelled  # noqa: E402

INT = "RETURNS int DETERMINISTIC NO SQL BEGIN"
ROUTINES = (
    ("PROCEDURE", "sets_zone", "() SET time_zone = '+07:00'"),
    ("PROCEDURE", "gives", "(OUT x int) SET x = 5"),
    ("FUNCTION", "sets_limit", f"(n int) {INT} SET sql_select_limit = n; RETURN n; END"),
    ("FUNCTION", "remembers", f"() {INT} SET @hidden = 1; RETURN 1; END"),
)


@pytest.fixture
def server(pair: Any) -> Any:
    for kind, name, rest in ROUTINES:
        create(pair.primary, kind, name, rest)
    return pair.primary


@pytest.fixture
def connect(server: Any) -> Iterator[Callable[..., Any]]:
    with ExitStack() as stack:

        def connect(options: Any = (), **keywords: Any) -> Any:
            given = {"host": server.host, "port": server.port, "user": "app", "password": "app-secret"}
            given |= {"database": "app", "client_flag": CLIENT.MULTI_STATEMENTS, "autocommit": True, **keywords}
            ours = {"failover": "on", "failover_timeout": 5, **dict(options)}
            connection = pymysql.connect(**given, instrumented_wrapper=ours)
            stack.callback(lambda: connection.open and connection.close())
            return connection

        yield connect


def ask(connection: Any, sql: str, *parameters: Any, kind: Any = None) -> Any:
    with connection.cursor(kind) as cursor:
        cursor.execute(sql, parameters or None)
        return cursor.fetchall()


def end(server: Any, connection: Any) -> None:
    server.sql(f"KILL {connection.thread_id()}")
    assert select.select([connection._sock], [], [], 10)[0]


def changed(connection: Any) -> dict[str, Any]:
    return {name: state.value for name, state in session_state(connection).items() if not state.is_pristine}


# --- what is reported late ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, SSCursor])
def test_what_a_function_in_a_query_sets_is_asked_for(connect, kind: Any) -> None:
    connection = connect()
    ask(connection, "SELECT sets_limit(44)", kind=kind)
    ask(connection, "SELECT 1")
    assert changed(connection) == {"sql_select_limit": "44"}
    assert reset_session(connection)
    assert ask(connection, "SELECT @@sql_select_limit = @@global.sql_select_limit") == ((1,),)


def test_it_is_reset_at_once(connect) -> None:
    connection = connect()
    ask(connection, "SELECT sets_limit(44)")
    assert reset_session(connection)
    assert ask(connection, "SELECT @@sql_select_limit = @@global.sql_select_limit") == ((1,),)


def test_it_is_named_when_the_session_is_lost_before(connect, server) -> None:
    connection = connect()
    ask(connection, "SELECT sets_limit(44)")
    end(server, connection)
    with pytest.raises(FailoverSuccessError) as caught:
        ask(connection, "SELECT 1")
    assert caught.value.not_restored == ("session state",)


def test_it_goes_along_in_a_planned_switch(connect, pair) -> None:
    connection = connect()
    ask(connection, "SELECT sets_limit(44)")
    named: tuple[str, ...] = ()
    try:
        switch(connection)
    except FailoverSuccessError as error:
        named = error.not_restored
    assert named == (("user variables",) if is_mysql(pair) else ())  # MySQL does not tell this account
    assert ask(connection, "SELECT @@sql_select_limit") == ((44,),)


def test_what_a_query_does_not_name_is_carried_or_told(connect, server, pair) -> None:
    connection = connect()
    ask(connection, "SELECT remembers()")
    ask(connection, "SELECT 1")
    end(server, connection)
    if not is_mysql(pair):  # MariaDB lists it
        assert ask(connection, "SELECT @hidden") == ((1,),)
        return
    with pytest.raises(FailoverSuccessError) as caught:
        ask(connection, "SELECT 1")
    assert caught.value.not_restored == ("session state",)


@pytest.mark.parametrize("verb", ["ANALYZE", "OPTIMIZE", "REPAIR", "CHECK", "CHECKSUM"])
def test_looking_after_a_table_sets_nothing(connect, server, verb: str) -> None:
    """MariaDB reports a change with the rows of some of these."""
    server.sql("CREATE TABLE IF NOT EXISTS looked_after (i int)")
    connection = connect()
    ask(connection, f"{verb} TABLE looked_after")
    ask(connection, "SELECT 1")
    end(server, connection)
    assert ask(connection, "SELECT 1") == ((1,),)


def test_what_a_query_does_not_name_is_reset(connect) -> None:
    connection = connect()
    ask(connection, "SELECT remembers()")
    assert ask(connection, "SELECT @hidden") == ((1,),)
    assert reset_session(connection)
    assert ask(connection, "SELECT @hidden") == ((None,),)
    switch(connection)


def test_the_new_server_reports_as_well(connect, server) -> None:
    connection = connect()
    end(server, connection)
    ask(connection, "CALL sets_zone()")
    ask(connection, "SELECT 1")
    assert changed(connection) == {"time_zone": "+07:00"}


def test_values_that_a_procedure_gives_back(connect, server) -> None:
    connection = connect()
    ask(connection, "CALL gives(@given)")
    with connection.cursor() as cursor:
        cursor.callproc("gives", (0,))
    ask(connection, "SELECT 1")
    end(server, connection)
    assert ask(connection, "SELECT @given, @_gives_0") == ((5, 5),)


def test_user_variables_that_are_asked_for_keep_their_type(connect, server) -> None:
    connection = connect()
    question = "SELECT @n, @d, @s, @b, @u, @nothing"
    ask(connection, "SET @n = 5 + 0, @d = 1.50 + 0, @s = CONCAT('0', '5'), @b = X'ff27005c'")
    ask(connection, "SET @u = 'grüße', @nothing = @none")
    before = ask(connection, question)
    end(server, connection)
    assert ask(connection, question) == before
    assert [type(cell).__name__ for cell in before[0]] == ["int", "Decimal", "str", "bytes", "str", "NoneType"]


def test_a_value_that_is_too_long_to_be_carried_is_named(connect, server) -> None:
    connection = connect()
    ask(connection, "SET @long = REPEAT('x', @@max_allowed_packet / 2 + 1000)")  # it is sent as hexadecimal
    ask(connection, "SELECT 1")
    end(server, connection)
    with pytest.raises(FailoverSuccessError) as caught:
        ask(connection, "SELECT 1")
    assert caught.value.not_restored == ("@long",)


def test_what_is_of_one_statement_only(connect, pair) -> None:
    needs_mariadb(pair, "SET STATEMENT")
    connection = connect()
    ask(connection, "SET STATEMENT lock_wait_timeout = 5, time_zone = '+09:00' FOR DO 0")
    ask(connection, "SET STATEMENT lock_wait_timeout = 5 FOR CALL sets_zone()")
    ask(connection, "SELECT 1")
    assert changed(connection) == {"time_zone": "+07:00"}


def test_what_is_of_the_next_transaction_only(connect, server, pair) -> None:
    connection = connect(autocommit=False)
    ask(connection, spelled(pair, "SET @@tx_isolation = 'SERIALIZABLE'"))
    assert changed(connection) == {}
    end(server, connection)
    with pytest.raises(FailoverSuccessError) as caught:
        ask(connection, "SELECT 1")
    assert caught.value.not_restored == ("SET TRANSACTION",)
    ask(connection, spelled(pair, "SET @@tx_isolation = 'SERIALIZABLE'"))
    connection.commit()
    end(server, connection)
    ask(connection, "SELECT 1")


def test_what_a_refused_statement_would_have_set(connect) -> None:
    connection = connect()
    with connection.cursor() as cursor:
        cursor.execute("SET @a = 1; SET time_zone = '+01:00', no_such_variable = 1")
        with pytest.raises(pymysql.err.OperationalError):
            cursor.nextset()
    ask(connection, "SELECT 1")
    assert changed(connection) == {"@a": "1"}


def test_an_app_that_tracks_its_session_itself(connect) -> None:
    connection = connect(client_flag=CLIENT.SESSION_TRACK)
    with connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+01:00'")
        assert b"time_zone" in cursor._result.message
    assert ask(connection, "SELECT @@session_track_system_variables <> '*'") == ((1,),)
    assert changed(connection) == {"time_zone": "+01:00"}


def test_an_app_that_chooses_what_is_reported(connect) -> None:
    connection = connect()
    ask(connection, "SET session_track_system_variables = 'autocommit'")
    ask(connection, "CALL sets_zone()")
    ask(connection, "SELECT 1")
    assert changed(connection) == {"session_track_system_variables": "autocommit", "time_zone": "+07:00"}


# --- how the driver writes ----------------------------------------------------------------------------------------


def test_what_is_written_after_a_reset_is_in_the_right_characters(connect) -> None:
    connection = connect()
    connection.set_character_set("latin1")
    assert reset_session(connection)
    assert (connection.character_set_name(), connection.encoding) == ("utf8mb4", "utf8")
    assert ask(connection, "SELECT HEX(%s)", "é€") == (("C3A9E282AC",),)


@pytest.mark.parametrize("carried", [True, False])
def test_what_is_written_after_a_switch_is_in_the_right_characters(connect, server, carried: bool) -> None:
    connection = connect({"transfer_session_state_on_switch": carried})
    connection.set_character_set("latin1")
    ask(connection, "SELECT 1")
    end(server, connection)
    assert ask(connection, "SELECT HEX(CONVERT(%s USING utf8mb4))", "é") == (("C3A9",),)
    assert connection.character_set_name() == ("latin1" if carried else "utf8mb4")


def test_what_a_planned_switch_leaves_behind_is_reset(connect, caplog) -> None:
    connection = connect()
    connection.set_character_set("latin1")
    switch(connection)
    assert ask(connection, "SELECT HEX(CONVERT(%s USING utf8mb4))", "é") == (("C3A9",),)
    assert "reset failed" not in caplog.text


def test_a_transfer_handler_may_choose_the_characters(connect, server) -> None:
    connection = connect()
    connection.set_character_set("latin1")
    ask(connection, "SELECT 1")

    def handler(state: Any, new: Any) -> bool:
        new.set_character_set("utf8mb3")
        return True

    SessionStateTransferHandlers.set_transfer_session_state_on_switch_func(handler)
    end(server, connection)
    assert ask(connection, "SELECT HEX(CONVERT(%s USING utf8mb4)), @@character_set_client", "é") == (
        ("C3A9", "utf8mb3"),
    )


def test_an_empty_result_character_set_is_carried(connect, server) -> None:
    connection = connect()
    ask(connection, "SET character_set_results = NULL")
    end(server, connection)
    assert ask(connection, "SELECT @@character_set_results") == ((None,),)


def test_the_socket_of_an_option_file(server, tmp_path: Path) -> None:
    file = tmp_path / "options.cnf"
    file.write_text(f"[client]\nsocket = {server.socket}\nuser = app\npassword = app-secret\n")
    options = {"failover_hosts": f"{server.host}:{server.port}", "failover": "on"}
    connection = pymysql.connect(read_default_file=str(file), autocommit=True, instrumented_wrapper=options)
    end(server, connection)
    ask(connection, "SELECT 1")
    assert (connection.unix_socket, connection.port) == (None, server.port)
    connection.close()


# --- what the app reads is what it was ----------------------------------------------------------------------------

READING = """
import json, sys, pymysql
from pymysql.constants import CLIENT
connection = pymysql.connect(**json.loads(sys.argv[1]), autocommit=True, client_flag=CLIENT.MULTI_STATEMENTS)
told = []
def run(text, *args):
    with connection.cursor() as cursor:
        count = cursor.execute(text, *args)
        rows = cursor.fetchall()
        told.append([text, count, rows, cursor.rowcount, cursor.lastrowid, cursor.warning_count])
        told.append([connection.affected_rows(), connection.insert_id(), str(cursor._result.message)])
run("CREATE TEMPORARY TABLE t (i int PRIMARY KEY AUTO_INCREMENT, j tinyint)")
run("SET sql_mode = ''")
for before in ("INSERT INTO t (j) VALUES (1), (999), (3)", "UPDATE t SET j = 7", "SELECT 1/0, CAST('x' AS SIGNED)",
               "SELECT sets_limit(44) FROM t", "SELECT SQL_CALC_FOUND_ROWS * FROM t LIMIT 1", "CALL sets_zone()"):
    for after in ("SHOW WARNINGS", "SELECT ROW_COUNT()", "SELECT FOUND_ROWS()", "SELECT LAST_INSERT_ID()",
                  "SELECT @@warning_count", "SET @n{} = ROW_COUNT(), @f{} = FOUND_ROWS()".format(len(told), len(told)),
                  "GET DIAGNOSTICS @g{} = NUMBER".format(len(told)), "SHOW COUNT(*) WARNINGS"):
        run(before)
        run(after)
        run("SELECT @n{}, @f{}, @g{}".format(len(told) - 4, len(told) - 4, len(told) - 4))
    run(before)
    told.append(connection.show_warnings())
print(json.dumps(told, default=str))
connection.close()
"""


def test_what_a_statement_leaves_to_be_read(server) -> None:
    import json

    where = {"host": server.host, "port": server.port, "user": "app", "password": "app-secret", "database": "app"}
    given = READING.replace("sys.argv[1]", repr(json.dumps(where)))
    bare = json.loads(complete(given))
    server.sql("SELECT 1")
    watched = json.loads(complete("import instrumented_wrapper; instrumented_wrapper.instrument()\n" + given))
    assert watched == bare


def test_the_present_state_as_the_baseline(connect, server) -> None:
    connection = connect()
    ask(connection, "SELECT sets_limit(44)")
    ask(connection, "SET time_zone = '+01:00', @x = 1")
    mark_pristine(connection)
    assert changed(connection) == {}
    ask(connection, "SET time_zone = '+02:00', @x = 2")
    assert reset_session(connection)
    assert ask(connection, "SELECT @@time_zone, @x, @@sql_select_limit") == (("+01:00", 1, 44),)
