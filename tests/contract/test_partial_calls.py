"""Calls that send several statements, on MariaDB and MySQL: what has run in part is reported, and never run again."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from instrumented_wrapper import FailoverError, FailoverSuccessError, TransactionResolutionUnknownError
from servers import guard

from .server_session import ask, end, make_table, session
from .spelling import is_mysql

MULTI_STATEMENTS = 1 << 16
WAITS = "SELECT 1 FROM information_schema.processlist WHERE state = 'User lock'"


@pytest.fixture
def cluster(pair: Any) -> Any:
    return pair


@pytest.fixture
def table(cluster: Any) -> str:
    return make_table(cluster)


@pytest.fixture
def connection(connect: Callable[..., Any], kind: str) -> Any:
    """A connection that takes several statements in one text; it is PyMySQL's only where it is asked for."""
    return connect(**({"client_flag": MULTI_STATEMENTS} if kind == "pymysql" else {}))


class Interrupted(list[tuple[int]]):
    """Sets of parameters; something happens before the last but `left` of them is taken."""

    def __init__(self, numbers: range, happens: Callable[[], Any], left: int = 0) -> None:
        super().__init__((number,) for number in numbers)
        self._happens, self._at = happens, len(numbers) - 1 - left

    def __iter__(self) -> Iterator[tuple[int]]:
        for place in range(len(self)):
            if place == self._at:
                self._happens()
            yield self[place]


def rows(cluster: Any, table: str) -> list[Any]:
    return cluster.primary.sql(f"SELECT i FROM {table} ORDER BY i")


def has_run_in_part(error: BaseException | None) -> bool:
    return isinstance(error, FailoverSuccessError) and (error.transaction, error.may_have_run) == ("none", True)


def refused_half_way(cluster: Any, holder: Any, lock: str, call: Callable[[], Any]) -> BaseException | None:
    """Make a call that waits for a lock half way, and demote the primary meanwhile."""
    ask(holder, f"SELECT GET_LOCK('{lock}', 0)")
    with ThreadPoolExecutor() as threads:
        called = threads.submit(call)
        assert guard.wait_until(lambda: cluster.primary.sql(WAITS), 10)
        cluster.switchover()
        ask(holder, f"DO RELEASE_LOCK('{lock}')")
        return called.exception(30)


def writes_twice(table: str) -> str:
    return f"INSERT INTO {table} VALUES (1); DO GET_LOCK('{table}', 30); INSERT INTO {table} VALUES (2)"


def read_all(cursor: Any, text: str) -> None:
    cursor.execute(text)
    while cursor.nextset():
        pass


# --- executemany --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [False, True])
def test_a_batch_that_was_refused_half_way_is_not_sent_again(connection, cluster, table, used: bool) -> None:
    cursor = connection.cursor()
    insert = f"INSERT INTO {table} SELECT %s"
    if used:
        cursor.execute(insert, (0,))
    with pytest.raises(FailoverSuccessError) as caught:
        cursor.executemany(insert, Interrupted(range(1, 3), cluster.switchover))
    assert has_run_in_part(caught.value)
    assert rows(cluster, table) == [("0",), ("1",)][not used :]
    cursor.executemany(insert, [(2,), (3,)])
    assert rows(cluster, table)[-3:] == [("1",), ("2",), ("3",)]


@pytest.mark.parametrize("form", ["SELECT", "VALUES"])
def test_a_batch_that_was_refused_at_once_is_carried_out_elsewhere(connection, cluster, table, form: str) -> None:
    cursor = connection.cursor()
    text = f"INSERT INTO {table} SELECT %s" if form == "SELECT" else f"INSERT INTO {table} VALUES (%s)"
    cursor.executemany(text, [(1,), (2,)])
    cluster.switchover()
    cursor.executemany(text, [(3,), (4,)])
    assert rows(cluster, table) == [("1",), ("2",), ("3",), ("4",)]


def test_a_batch_that_is_sent_in_portions(connection, cluster, table, kind: str) -> None:
    if kind.startswith("mysql.connector"):
        pytest.skip("it sends such a batch as one statement, however long")
    cursor = connection.cursor()
    cursor.max_stmt_length = 1
    with pytest.raises(FailoverSuccessError) as caught:
        cursor.executemany(f"INSERT INTO {table} VALUES (%s)", Interrupted(range(1, 4), cluster.switchover))
    assert has_run_in_part(caught.value)
    assert rows(cluster, table) == [("1",)]


def in_one_text(cursor: Any, portion: int) -> Any:
    if not hasattr(cursor, "max_multi_stmt_count"):
        pytest.skip("newer versions of mysqlclient alone do that")
    cursor.executemany_fallback, cursor.max_multi_stmt_count = "multi", portion
    return cursor


def test_a_batch_that_is_sent_as_texts_of_several_statements(connection, cluster, table) -> None:
    cursor = in_one_text(connection.cursor(), 2)
    with pytest.raises(FailoverSuccessError) as caught:
        cursor.executemany(f"INSERT INTO {table} SELECT %s", Interrupted(range(1, 6), cluster.switchover))
    assert has_run_in_part(caught.value)
    assert rows(cluster, table) == [("1",), ("2",)]
    cluster.switchover()
    cursor.executemany(f"INSERT INTO {table} SELECT %s", [(3,), (4,)])  # refused at once
    assert rows(cluster, table)[2:] == [("3",), ("4",)]


def ended_within(cluster: Any, connection: Any, table: str) -> BaseException | None:
    """End the session within a batch that is sent as one text, and return what was raised."""
    cursor, number = in_one_text(connection.cursor(), 2), session(connection)
    insert = f"INSERT INTO {table} SELECT IF(%s = 2, 5 + SLEEP(30), 1)"  # MySQL may still write what SLEEP then returns
    with ThreadPoolExecutor() as threads:
        called = threads.submit(cursor.executemany, insert, [(1,), (2,)])
        sleeps = f"SELECT 1 FROM information_schema.processlist WHERE id = {number} AND state = 'User sleep'"
        assert guard.wait_until(lambda: cluster.primary.sql(sleeps), 10)
        end(cluster.primary, number)
        return called.exception(30)


def test_a_session_that_ended_within_such_a_text(connection, cluster, table) -> None:
    assert has_run_in_part(ended_within(cluster, connection, table))
    assert rows(cluster, table) in ([("1",)], [("1",), ("6",)])
    assert ask(connection, "SELECT 1") == [(1,)]


def test_the_driver_closes_such_a_connection_itself_and_its_error_is_the_apps(connect, cluster, table) -> None:
    connection = connect(options={"failover": "off", "traces": False, "metrics": False})
    error = ended_within(cluster, connection, table)
    assert isinstance(error, connection.OperationalError)
    assert not isinstance(error, FailoverError)
    assert error.args[0] == 2013
    assert not connection.open


def test_a_batch_in_a_transaction_is_rolled_back(connect, cluster, table) -> None:
    connection = connect(autocommit=False)
    with pytest.raises(FailoverSuccessError) as caught:
        connection.cursor().executemany(f"INSERT INTO {table} SELECT %s", Interrupted(range(1, 3), cluster.switchover))
    assert (caught.value.transaction, caught.value.may_have_run) == ("rolled_back", False)
    connection.rollback()
    assert rows(cluster, table) == []


def test_a_batch_of_a_prepared_statement(connection, cluster, table, kind: str) -> None:
    if not kind.startswith("mysql.connector"):
        pytest.skip("mysql-connector alone prepares statements")
    cursor = connection.cursor(prepared=True)
    insert = f"INSERT INTO {table} SELECT %s"
    cursor.executemany(insert, [(1,), (2,)])
    with pytest.raises(FailoverSuccessError) as caught:
        cursor.executemany(insert, Interrupted(range(3, 5), cluster.switchover))
    assert has_run_in_part(caught.value)
    assert rows(cluster, table) == [("1",), ("2",), ("3",)]


def test_a_batch_whose_session_ended_half_way(connection, cluster, table) -> None:
    number = session(connection)
    batch = Interrupted(range(1, 3), lambda: end(cluster.primary, number))
    with pytest.raises(FailoverSuccessError) as caught:
        connection.cursor().executemany(f"INSERT INTO {table} SELECT %s", batch)
    assert has_run_in_part(caught.value)
    assert rows(cluster, table) == [("1",)]


# --- procedures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [(), (7,)])
def test_a_procedure_that_was_refused_half_way_is_not_called_again(connection, connect, cluster, table, parameters):
    name, given = f"{table}_writes", "n int" if parameters else ""
    ask(connection, f"CREATE PROCEDURE {name}({given}) BEGIN {writes_twice(table)}; END")
    cluster.wait_streaming()
    error = refused_half_way(cluster, connect(), table, lambda: connection.cursor().callproc(name, parameters))
    assert has_run_in_part(error)
    assert rows(cluster, table) == [("1",)]


def test_a_procedure_may_have_committed_before_it_was_refused(connect, cluster, table) -> None:
    connection, insert = connect(autocommit=False), f"INSERT INTO {table} VALUES"
    body = f"BEGIN {insert} (1); COMMIT; DO GET_LOCK('{table}', 30); {insert} (2); END"
    ask(connection, f"CREATE PROCEDURE {table}_commits() {body}")
    cluster.wait_streaming()
    ask(connection, f"{insert} (0)")
    call = partial(connection.cursor().callproc, f"{table}_commits", ())
    error = refused_half_way(cluster, connect(), table, call)
    assert isinstance(error, TransactionResolutionUnknownError) and error.may_have_run
    assert rows(cluster, table) == [("0",), ("1",)]


def test_the_parameters_of_a_procedure_are_carried_over(connection, cluster, kind: str, table) -> None:
    name = f"{table}_doubles"
    ask(connection, f"CREATE PROCEDURE {name}(a int, INOUT b int) SET b = a + b")
    cluster.wait_streaming()
    connection.cursor().callproc(name, (20, 22))
    end(cluster.primary, session(connection))
    if is_mysql(cluster) and kind != "pymysql":  # whether it has set others, nobody tells this account
        with pytest.raises(FailoverSuccessError) as caught:
            ask(connection, "SELECT 1")
        assert caught.value.not_restored == ("user variables",)
    first, second = ("_arg1", "_arg2") if kind.startswith("mysql.connector") else ("_0", "_1")
    assert ask(connection, f"SELECT @_{name}{first}, @_{name}{second}") == [(20, 42)]


# --- several statements in one text -------------------------------------------------------------------------------


def test_a_text_that_was_refused_half_way_is_not_sent_again(connection, connect, cluster, table) -> None:
    cursor = connection.cursor()
    error = refused_half_way(cluster, connect(), table, lambda: read_all(cursor, writes_twice(table)))
    assert has_run_in_part(error)
    assert rows(cluster, table) == [("1",)]
    cursor.execute(f"INSERT INTO {table} VALUES (3)")
    assert rows(cluster, table) == [("1",), ("3",)]


def test_a_later_statement_that_was_refused_is_told(connection, cluster, table) -> None:
    cluster.switchover()
    cursor = connection.cursor()
    with pytest.raises(FailoverSuccessError) as caught:
        read_all(cursor, f"DO 1; INSERT INTO {table} VALUES (1)")
    assert has_run_in_part(caught.value)
    assert rows(cluster, table) == []


def test_what_was_refused_and_not_read_is_told_by_the_next_statement(connection, cluster, table, kind) -> None:
    if kind.startswith("mysql.connector"):
        pytest.skip("it sends nothing before all was read, or takes what is left for the answer")
    cluster.switchover()
    cursor = connection.cursor()
    cursor.execute(f"DO 1; INSERT INTO {table} VALUES (1)")
    with pytest.raises(FailoverSuccessError) as caught:
        cursor.execute(f"INSERT INTO {table} VALUES (2)")
    assert has_run_in_part(caught.value)
    assert rows(cluster, table) == []


def test_a_session_that_ended_before_all_was_read(connection, cluster, table) -> None:
    number = session(connection)
    cursor = connection.cursor()
    with ThreadPoolExecutor() as threads:
        called = threads.submit(read_all, cursor, f"INSERT INTO {table} VALUES (1); DO SLEEP(30)")
        waits = f"SELECT 1 FROM information_schema.processlist WHERE id = {number} AND state = 'User sleep'"
        assert guard.wait_until(lambda: cluster.primary.sql(waits), 10)
        end(cluster.primary, number)
        error = called.exception(30)
    assert has_run_in_part(error)
    assert rows(cluster, table) == [("1",)]
