"""PyMySQL: what a loss or a demotion means for several statements, procedures, and what is still to be read."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest

pymysql = pytest.importorskip("pymysql")

from pymysql.constants import CLIENT  # noqa: E402

from instrumented_wrapper import FailoverSuccessError, TransactionResolutionUnknownError  # noqa: E402
from servers import Proxy, guard  # noqa: E402

from .spelling import create, needs_mariadb  # noqa: E402

_numbers = count(1)


@pytest.fixture
def cluster(pair: Any) -> Any:
    return pair


@pytest.fixture
def connect(cluster: Any) -> Iterator[Callable[..., Any]]:
    """Connect to the primary, or to what is in front of it; the replica is known as the other host."""
    with ExitStack() as stack:

        def connect(server: Any = None, **keywords: Any) -> Any:
            server = server or cluster.primary
            hosts = ",".join(f"{host.host}:{host.port}" for host in (server, cluster.primary, cluster.standby))
            where = {"host": server.host, "port": server.port, "user": "app", "password": "app-secret"}
            given = {"database": "app", "client_flag": CLIENT.MULTI_STATEMENTS, "autocommit": True, **keywords}
            connection = pymysql.connect(**where, **given, instrumented_wrapper={"failover_hosts": hosts})
            stack.callback(lambda: connection.open and connection.close())
            return connection

        yield connect


@pytest.fixture
def proxy(cluster: Any) -> Iterator[Proxy]:
    with Proxy(cluster.primary.host, cluster.primary.port) as proxy:
        yield proxy


@pytest.fixture
def table(cluster: Any) -> str:
    name = f"lossy_{next(_numbers)}"
    create(cluster.primary, "TABLE", name, "(i int)")
    cluster.wait_streaming()
    return name


def ask(connection: Any, sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def end(server: Any, connection: Any) -> None:
    number = connection.thread_id()
    server.sql(f"KILL {number}")
    assert guard.wait_until(
        lambda: not server.sql(f"SELECT 1 FROM information_schema.processlist WHERE id={number}"), 9
    )


def rows(cluster: Any, table: str) -> list[Any]:
    return cluster.primary.sql(f"SELECT i FROM {table} ORDER BY i")


# --- a loss -------------------------------------------------------------------------------------------------------


def test_a_commit_among_what_is_still_to_be_read_is_in_doubt(cluster, connect, proxy, table) -> None:
    connection = connect(proxy, autocommit=False)
    cursor = connection.cursor()
    cursor.execute(f"INSERT INTO {table} VALUES (1); DO SLEEP(0.5); COMMIT")
    proxy.hold()
    assert guard.wait_until(lambda: rows(cluster, table) == [("1",)], 10)
    proxy.cut()
    with pytest.raises(TransactionResolutionUnknownError):
        while cursor.nextset():
            pass


def test_what_is_still_to_be_read_of_a_transaction_is_rolled_back(cluster, connect, proxy, table) -> None:
    connection = connect(proxy, autocommit=False)
    cursor = connection.cursor()
    cursor.execute(f"INSERT INTO {table} VALUES (1); DO SLEEP(30)")
    proxy.cut()
    with pytest.raises(FailoverSuccessError) as caught:
        cursor.nextset()
    assert caught.value.transaction == "rolled_back"
    connection.rollback()


@pytest.mark.parametrize("how", ["CALL {0}_commits()", "EXECUTE IMMEDIATE 'COMMIT'"])
def test_a_procedure_may_have_committed(cluster, connect, proxy, table, how: str) -> None:
    if "IMMEDIATE" in how:
        needs_mariadb(cluster, "EXECUTE IMMEDIATE")
    create(cluster.primary, "PROCEDURE", f"{table}_commits", "() COMMIT")
    connection = connect(proxy, autocommit=False)
    ask(connection, f"INSERT INTO {table} VALUES (1)")
    proxy.cut_when(how.format(table).encode(), forward=True)
    with pytest.raises(TransactionResolutionUnknownError):
        ask(connection, how.format(table))
    assert guard.wait_until(lambda: rows(cluster, table) == [("1",)], 10)


def test_a_statement_that_failed_after_it_had_committed(cluster, connect, table) -> None:
    connection = connect(autocommit=False)
    ask(connection, f"INSERT INTO {table} VALUES (1)")
    with pytest.raises(pymysql.err.OperationalError):
        ask(connection, f"CREATE TABLE {table} (i int)")
    end(cluster.primary, connection)
    connection.commit()  # nothing is open any more
    assert rows(cluster, table) == [("1",)]


def test_a_statement_that_failed_before_it_could_commit(cluster, connect, table) -> None:
    connection = connect(autocommit=False)
    ask(connection, f"INSERT INTO {table} VALUES (1)")
    with pytest.raises(pymysql.err.ProgrammingError):
        ask(connection, "CREATE TABLE (")
    end(cluster.primary, connection)
    with pytest.raises(FailoverSuccessError) as caught:
        connection.commit()
    assert caught.value.transaction == "rolled_back"
    assert rows(cluster, table) == []


def test_a_lock_that_a_query_took_is_not_taken_to_be_held(cluster, connect, table) -> None:
    connection = connect(autocommit=False)
    ask(connection, f"SELECT * FROM {table} FOR UPDATE")
    end(cluster.primary, connection)
    with pytest.raises(FailoverSuccessError) as caught:
        ask(connection, f"INSERT INTO {table} VALUES (1)")
    assert caught.value.transaction == "rolled_back"


def test_what_is_prepared_outlives_its_session(cluster, connect, table) -> None:
    connection = connect()
    for text in (
        f"XA START '{table}'",
        f"INSERT INTO {table} VALUES (1)",
        f"XA END '{table}'",
        f"XA PREPARE '{table}'",
    ):
        ask(connection, text)
    end(cluster.primary, connection)
    ask(connection, f"XA COMMIT '{table}'")
    assert rows(cluster, table) == [("1",)]
    ask(connection, f"XA START '{table}'")
    ask(connection, f"INSERT INTO {table} VALUES (2)")
    end(cluster.primary, connection)
    with pytest.raises(FailoverSuccessError) as caught:
        ask(connection, f"XA END '{table}'")
    assert caught.value.transaction == "rolled_back"


# --- a demotion ---------------------------------------------------------------------------------------------------


def test_a_procedure_that_was_refused_half_way_is_not_called_again(cluster, connect, table) -> None:
    insert = f"INSERT INTO {table} VALUES"
    body = f"BEGIN {insert} (1); DO GET_LOCK('{table}', 30); {insert} (2); END"
    connection, holder = connect(), connect()
    ask(connection, f"DROP PROCEDURE IF EXISTS {table}_writes")
    ask(connection, f"CREATE PROCEDURE {table}_writes() {body}")  # the administrator's would not be refused
    cluster.wait_streaming()
    ask(holder, f"SELECT GET_LOCK('{table}', 0)")
    with ThreadPoolExecutor() as threads:
        called = threads.submit(ask, connection, f"CALL {table}_writes()")
        waits = "SELECT 1 FROM information_schema.processlist WHERE state = 'User lock'"
        assert guard.wait_until(lambda: cluster.primary.sql(waits), 10)
        cluster.switchover()
        ask(holder, f"DO RELEASE_LOCK('{table}')")
        error = called.exception(30)
    assert isinstance(error, FailoverSuccessError)
    assert (error.transaction, error.may_have_run) == ("none", True)
    assert rows(cluster, table) == [("1",)]


def test_a_commit_that_was_refused_is_rolled_back(cluster, connect, table) -> None:
    connection = connect(autocommit=False)
    ask(connection, f"INSERT INTO {table} VALUES (1)")
    cluster.switchover()
    with pytest.raises(FailoverSuccessError) as caught:
        connection.commit()
    assert caught.value.transaction == "rolled_back"
    assert rows(cluster, table) == []


def test_what_would_commit_was_refused(cluster, connect, table) -> None:
    connection = connect(autocommit=False)
    ask(connection, f"INSERT INTO {table} VALUES (1)")
    cluster.switchover()
    with pytest.raises(FailoverSuccessError) as caught:
        ask(connection, f"CREATE TABLE {table}_more (i int)")
    assert caught.value.transaction == "rolled_back"
    assert rows(cluster, table) == []
