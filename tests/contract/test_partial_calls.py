"""Calls that send several statements, on MariaDB and MySQL: what has run in part is reported, and never run again."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from instrumented_wrapper import FailoverError, FailoverSuccessError, TransactionResolutionUnknownError
from servers import guard

from .app import App
from .driver import DriverUnderTest
from .rows import PATIENCE

pytestmark = pytest.mark.databases("mariadb", "mysql")

WAITS = "SELECT 1 FROM information_schema.processlist WHERE state = 'User lock'"


@pytest.fixture
def connection(driver: DriverUnderTest, app: Callable[..., App]) -> App:
    """One that takes several statements in one text; a driver may do so only where it is asked for."""
    return app(**driver.for_several)


@pytest.fixture
def batch(driver: DriverUnderTest, connection: App) -> Callable[..., None]:
    """Send a batch, on one cursor."""
    return partial(driver.execute_many, driver.cursor(connection.connection))


class Interrupted(list[tuple[int]]):
    """Sets of parameters; something happens before the last of them is taken for the first time."""

    def __init__(self, numbers: range, happens: Callable[[], Any]) -> None:
        super().__init__((number,) for number in numbers)
        self._happens = happens

    def __iter__(self) -> Iterator[tuple[int]]:
        for place in range(len(self)):
            if place == len(self) - 1:
                happens, self._happens = self._happens, lambda: None
                happens()
            yield self[place]


def has_run_in_part(error: BaseException | None) -> bool:
    return isinstance(error, FailoverSuccessError) and (error.transaction, error.may_have_run) == ("none", True)


@pytest.fixture
def refused_half_way(site: Any, app: Callable[..., App], background: Callable[..., Any]) -> Callable[..., Any]:
    """Make a call that waits for a lock half way, and demote the primary meanwhile; return what it raises."""
    holder = app()

    def refused_half_way(lock: str, function: Callable[..., Any], *arguments: Any) -> BaseException | None:
        holder.ask(f"SELECT GET_LOCK('{lock}', 0)")
        called = background(function, *arguments)
        assert guard.wait_until(lambda: bool(site.sql(WAITS)), PATIENCE)
        site.cluster.switchover()
        holder.ask(f"DO RELEASE_LOCK('{lock}')")
        return called.exception(PATIENCE)  # type: ignore[no-any-return]

    return refused_half_way


def writes_twice(table: str) -> str:
    return f"INSERT INTO {table} VALUES (1); DO GET_LOCK('{table}', 30); INSERT INTO {table} VALUES (2)"


# --- executemany --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [False, True])
def test_a_batch_that_was_refused_half_way_is_not_sent_again(driver, connection, site, table, used: bool) -> None:
    cursor = driver.cursor(connection.connection)
    insert = f"INSERT INTO {table} SELECT %s"
    if used:
        driver.execute_with(cursor, insert, (0,))
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute_many(cursor, insert, Interrupted(range(1, 3), site.cluster.switchover))
    assert has_run_in_part(caught.value)
    assert site.ids(table) == [0, 1][not used :]
    driver.execute_many(cursor, insert, [(2,), (3,)])
    assert site.ids(table)[-3:] == [1, 2, 3]


@pytest.mark.parametrize("form", ["SELECT %s", "VALUES (%s)"])
def test_a_batch_that_was_refused_at_once_is_carried_out_elsewhere(batch, site, table, form: str) -> None:
    batch(f"INSERT INTO {table} {form}", [(1,), (2,)])
    site.cluster.switchover()
    batch(f"INSERT INTO {table} {form}", [(3,), (4,)])
    assert site.ids(table) == [1, 2, 3, 4]


def test_a_batch_that_is_sent_in_portions(driver: DriverUnderTest, connection, site, table) -> None:
    driver.needs("portions of batches")
    cursor = driver.cursor(connection.connection)
    cursor.max_stmt_length = 1
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute_many(
            cursor, f"INSERT INTO {table} VALUES (%s)", Interrupted(range(1, 4), site.cluster.switchover)
        )
    assert has_run_in_part(caught.value)
    assert site.ids(table) == [1]


def in_one_text(driver: DriverUnderTest, connection: App, portion: int) -> Any:
    """Return a cursor that sends a batch as texts of so many statements."""
    cursor = driver.cursor(connection.connection)
    if not hasattr(cursor, "max_multi_stmt_count"):
        pytest.skip("newer versions of mysqlclient alone do that")
    cursor.executemany_fallback, cursor.max_multi_stmt_count = "multi", portion
    return cursor


def test_a_batch_that_is_sent_as_texts_of_several_statements(driver, connection, site, table) -> None:
    cursor = in_one_text(driver, connection, 2)
    with pytest.raises(FailoverSuccessError) as caught:
        cursor.executemany(f"INSERT INTO {table} SELECT %s", Interrupted(range(1, 6), site.cluster.switchover))
    assert has_run_in_part(caught.value)
    assert site.ids(table) == [1, 2]
    site.cluster.switchover()
    cursor.executemany(f"INSERT INTO {table} SELECT %s", [(3,), (4,)])  # refused at once
    assert site.ids(table)[2:] == [3, 4]


@pytest.fixture
def ended_within(driver: DriverUnderTest, site: Any, table: str, background: Callable[..., Any]) -> Callable[..., Any]:
    """End the session within a batch that is sent as one text; return what was raised."""

    def ended_within(connection: App) -> BaseException | None:
        cursor = in_one_text(driver, connection, 2)
        # MySQL may still write what SLEEP then returns.
        insert = f"INSERT INTO {table} SELECT IF(%s = 2, 5 + SLEEP(30), 1)"
        called = background(cursor.executemany, insert, [(1,), (2,)])
        site.wait_running()
        site.end_sessions()
        return called.exception(PATIENCE)  # type: ignore[no-any-return]

    return ended_within


def test_a_session_that_ended_within_such_a_text(connection, ended_within, site, table) -> None:
    assert has_run_in_part(ended_within(connection))
    assert site.ids(table) in ([1], [1, 6])
    assert connection.ask("SELECT 1") == [(1,)]


def test_the_driver_closes_such_a_connection_itself_and_its_error_is_the_apps(driver, app, ended_within) -> None:
    connection = app(options={"failover": "off", "traces": False, "metrics": False})
    error = ended_within(connection)
    assert isinstance(error, driver.operational_error)
    assert not isinstance(error, FailoverError)
    assert error.args[0] == 2013
    assert driver.is_closed(connection.connection)


def test_a_batch_in_a_transaction_is_rolled_back(driver: DriverUnderTest, app, site, table) -> None:
    connection = app(autocommit=False)
    cursor = driver.cursor(connection.connection)
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute_many(cursor, f"INSERT INTO {table} SELECT %s", Interrupted(range(1, 3), site.cluster.switchover))
    assert (caught.value.transaction, caught.value.may_have_run) == ("rolled_back", False)
    connection.rollback()
    assert site.ids(table) == []


def test_a_batch_of_a_prepared_statement(driver: DriverUnderTest, connection, site, table) -> None:
    cursor = driver.prepared_cursor(connection.connection)
    insert = f"INSERT INTO {table} SELECT %s"
    driver.execute_many(cursor, insert, [(1,), (2,)])
    with pytest.raises(FailoverSuccessError) as caught:
        driver.execute_many(cursor, insert, Interrupted(range(3, 5), site.cluster.switchover))
    assert has_run_in_part(caught.value)
    assert site.ids(table) == [1, 2, 3]


def test_a_batch_whose_session_ended_half_way(batch, site, table) -> None:
    with pytest.raises(FailoverSuccessError) as caught:
        batch(f"INSERT INTO {table} SELECT %s", Interrupted(range(1, 3), site.end_sessions))
    assert has_run_in_part(caught.value)
    assert site.ids(table) == [1]


# --- procedures ---------------------------------------------------------------------------------------------------


@pytest.fixture
def procedure(driver: DriverUnderTest, connection: App, site: Any) -> Callable[..., None]:
    """Make a procedure of the app's, and return what calls it."""

    def procedure(name: str, rest: str, caller: App = connection) -> Callable[..., None]:
        caller.ask(f"CREATE PROCEDURE {name}{rest}")
        site.cluster.wait_streaming()
        return partial(driver.call, driver.cursor(caller.connection).callproc, name)

    return procedure


@pytest.mark.parametrize("parameters", [(), (7,)])
def test_a_procedure_that_was_refused_half_way_is_not_called_again(
    procedure, refused_half_way, site, table, parameters: Any
) -> None:
    given = "n int" if parameters else ""
    call = procedure(f"{table}_writes", f"({given}) BEGIN {writes_twice(table)}; END")
    assert has_run_in_part(refused_half_way(table, call, parameters))
    assert site.ids(table) == [1]


def test_a_procedure_may_have_committed_before_it_was_refused(app, procedure, refused_half_way, site, table) -> None:
    connection, insert = app(autocommit=False), f"INSERT INTO {table} VALUES"
    body = f"BEGIN {insert} (1); COMMIT; DO GET_LOCK('{table}', 30); {insert} (2); END"
    call = procedure(f"{table}_commits", f"() {body}", connection)
    connection.ask(f"{insert} (0)")
    error = refused_half_way(table, call, ())
    assert isinstance(error, TransactionResolutionUnknownError) and error.may_have_run
    assert site.ids(table) == [0, 1]


def test_the_parameters_of_a_procedure_are_carried_over(driver, connection, procedure, site, table) -> None:
    name = f"{table}_doubles"
    procedure(name, "(a int, INOUT b int) SET b = a + b")((20, 22))
    connection.lose()
    if site.system == "mysql" and not driver.has("session reports"):  # whether it has set others, nobody tells
        with pytest.raises(FailoverSuccessError) as caught:
            connection.ask("SELECT 1")
        assert caught.value.not_restored == ("user variables",)
    first, second = driver.parameter_names
    assert connection.ask(f"SELECT @_{name}{first}, @_{name}{second}") == [(20, 42)]


# --- several statements in one text -------------------------------------------------------------------------------


def test_a_text_that_was_refused_half_way_is_not_sent_again(connection, refused_half_way, site, table) -> None:
    assert has_run_in_part(refused_half_way(table, connection.ask, writes_twice(table)))
    assert site.ids(table) == [1]
    connection.ask(f"INSERT INTO {table} VALUES (3)")
    assert site.ids(table) == [1, 3]


def test_a_later_statement_that_was_refused_is_told(connection, site, table) -> None:
    site.cluster.switchover()
    with pytest.raises(FailoverSuccessError) as caught:
        connection.ask(f"DO 1; INSERT INTO {table} VALUES (1)")
    assert has_run_in_part(caught.value)
    assert site.ids(table) == []


def test_what_was_refused_and_not_read_is_told_by_the_next_statement(driver, connection, site, table) -> None:
    driver.needs("results that are left unread")
    site.cluster.switchover()
    cursor = driver.cursor(connection.connection)
    driver.call(cursor.execute, f"DO 1; INSERT INTO {table} VALUES (1)")
    with pytest.raises(FailoverSuccessError) as caught:
        driver.call(cursor.execute, f"INSERT INTO {table} VALUES (2)")
    assert has_run_in_part(caught.value)
    assert site.ids(table) == []


def test_a_session_that_ended_before_all_was_read(connection, background, site, table) -> None:
    called = background(connection.ask, f"INSERT INTO {table} VALUES (1); DO SLEEP(30)")
    site.wait_running()
    site.end_sessions()
    assert has_run_in_part(called.exception(PATIENCE))
    assert site.ids(table) == [1]
