"""A user variable of the app that code on the server has set once more: no statement runs with the old value.

Each test asks the server for the value that a statement would use. MySQL does not list the user variables here.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from instrumented_wrapper import FailoverError, FailoverSuccessError

from .app import App
from .driver import DriverUnderTest
from .routines import QUIET, SETTING, made

pytestmark = pytest.mark.databases("mariadb", "mysql")

FEW = ("CALL sets_both()", "CALL gives_and_sets(@given)", "SELECT of_tenant()", "SET @other = of_tenant()")
ALL = (
    *SETTING,
    *("CALL sets_by_another()", "CALL sets_by_a_function()", "CALL sets_by_prepare()", "CALL sets_all()"),
    *("SELECT of_tenant()", "SELECT of_another()", "DO of_tenant()", "SET @other = of_tenant()"),
    *("SELECT of_tenant() INTO @other", "DELETE FROM written WHERE i = of_tenant() + 1", "EXECUTE prepared"),
)


@pytest.fixture
def cluster(cluster: Any) -> Any:
    return made(cluster)


@pytest.fixture
def with_tenant(driver: DriverUnderTest, app: Callable[..., App]) -> Callable[..., App]:
    """Connect, to several statements in one text if need be, and set the tenant."""

    def with_tenant(*hosts: Any) -> App:
        connection = app(*hosts, **driver.for_several)
        connection.ask("SET @tenant = 3, @text = 'SELECT of_tenant()'")
        connection.ask("PREPARE prepared FROM @text")
        return connection

    return with_tenant


def is_never_stale(connection: App) -> bool:
    """The value is the one that the code has set, or nothing runs until the app has set it again."""
    for _ in range(2):
        try:
            return connection.ask("SELECT @tenant") == [(7,)]
        except FailoverSuccessError as error:
            missing = error.not_restored
    if "session state" in missing:
        connection.reset()
    for name in {"@tenant", *(name for name in missing if name.startswith("@"))}:
        connection.ask(f"SET {name} = 4")
    return connection.ask("SELECT @tenant") == [(4,)]


def test_lost_at_once(with_tenant) -> None:
    for text in ALL:
        connection = with_tenant()
        number = connection.number()
        connection.ask(text)
        connection.site.end_sessions(only=number)
        assert is_never_stale(connection), text


def test_lost_after_a_statement(with_tenant) -> None:
    for text in FEW:
        connection = with_tenant()
        connection.ask(text)
        connection.lose()
        assert is_never_stale(connection), text


def test_lost_under_way(with_tenant, cluster, proxy) -> None:
    for text in (*FEW, "EXECUTE prepared"):
        connection = with_tenant(proxy, cluster.primary)
        proxy.cut_when(text.encode(), forward=True)
        with pytest.raises(FailoverError):
            connection.ask(text)
        assert is_never_stale(connection), text


# --- other ways to run it -----------------------------------------------------------------------------------------


def a_text_of_two(connection: App) -> None:
    connection.ask("SELECT 1; SELECT of_tenant()")


def a_method(connection: App) -> None:
    driver = connection.driver
    driver.call(driver.cursor(connection.connection).callproc, "sets_tenant")


def a_prepared_cursor(connection: App) -> None:
    driver = connection.driver
    cursor = driver.prepared_cursor(connection.connection)
    driver.execute_with(cursor, "SELECT of_given(%s)", (1,))
    driver.call(cursor.close)


def one_that_fails(connection: App) -> None:
    with pytest.raises(connection.driver.error, match="refused by the routine"):
        connection.ask("SELECT of_failing()")


def a_procedure_that_fails(connection: App) -> None:
    with pytest.raises(connection.driver.error, match="refused by the routine"):
        connection.ask("CALL fails()")


def in_a_transaction(connection: App) -> None:
    connection.ask("BEGIN")
    connection.ask("SELECT of_tenant()")
    connection.rollback()


def rows_from_the_server(connection: App) -> None:
    driver = connection.driver
    cursor = driver.unbuffered_cursor(connection.connection)
    driver.call(cursor.execute, "SELECT of_tenant()")
    driver.call(cursor.fetchone)
    driver.call(cursor.close)


WAYS = (
    *(a_text_of_two, a_method, a_prepared_cursor, one_that_fails, a_procedure_that_fails, in_a_transaction),
    rows_from_the_server,
)


@pytest.mark.parametrize("way", WAYS)
def test_other_ways(with_tenant, way: Callable[[App], None]) -> None:
    for also in ((), ("SELECT 1",)):
        connection = with_tenant()
        number = connection.number()
        way(connection)
        for text in also:
            connection.ask(text)
        connection.site.end_sessions(only=number)
        assert is_never_stale(connection), also


# --- what is not known ------------------------------------------------------------------------------------------------


def test_code_that_may_have_set_what_the_app_has_set(app) -> None:
    """The value that the text of the app gave may be another tenant's by now: no statement runs with it."""
    connection = app()
    connection.ask("SET @tenant = 3")
    number = connection.number()
    connection.ask("CALL sets_tenant()")
    connection.site.end_sessions(only=number)
    for _ in range(2):
        with pytest.raises(FailoverSuccessError) as caught:
            connection.ask("SELECT @tenant")
        assert {"@tenant", "session state"} & {*caught.value.not_restored}
    connection.ask("SET @tenant = 4")
    if "session state" not in caught.value.not_restored:
        assert connection.ask("SELECT @tenant") == [(4,)]


@pytest.mark.databases("mysql")  # MariaDB lists it
def test_it_is_named_where_the_server_does_not_list_it(driver: DriverUnderTest, app) -> None:
    for text in SETTING:
        if driver.has("session reports") and "@" in text:
            continue  # what the text names explains what the server reports
        connection = app()
        connection.ask(text)
        connection.lose()
        with pytest.raises(FailoverSuccessError) as caught:
            connection.ask("SELECT 1")
        assert {*caught.value.not_restored} & {"user variables", "session state"}, text


# --- code that sets nothing ---------------------------------------------------------------------------------------


def test_code_never_has_all_statements_refused(app) -> None:
    """Nobody knows of a user variable that was lost: that it may be so is reported once."""
    for text in QUIET:
        connection = app()
        connection.ask(text)
        connection.lose()
        with suppress(FailoverSuccessError):
            connection.ask("SELECT 1")
        assert connection.ask("SELECT 1") == [(1,)], text


def test_code_that_sets_nothing_refuses_nothing(app) -> None:
    """The wrapper has asked: the value is the same, and is carried."""
    for text in QUIET:
        connection = app()
        connection.ask("SET @tenant = 3")
        connection.ask(text)
        assert {*connection.after_loss()} <= {"user variables"}, text
        assert connection.ask("SELECT @tenant") == [(3,)], text


def test_what_the_server_would_have_reported(driver: DriverUnderTest, app) -> None:
    driver.needs("session reports")
    for text in (text for text in QUIET if "SELECT" not in text):
        connection = app()
        connection.ask("SET @tenant = 3")
        connection.ask(text)
        connection.site.end_sessions()
        assert connection.ask("SELECT @tenant") == [(3,)], text


@pytest.mark.parametrize("begin", [[], ["BEGIN"]], ids=["autocommit", "transaction"])
def test_code_under_way_refuses_nothing(app, cluster, proxy, begin: list[str]) -> None:
    """The app has set nothing that code could have set once more."""
    for text in ("CALL sets_nothing()", "SELECT of_nothing()"):
        connection = app(proxy, cluster.primary)
        for first in begin:
            connection.ask(first)
        proxy.cut_when(text.encode(), forward=True)
        with pytest.raises(FailoverError):
            connection.ask(text)
        connection.rollback()
        assert connection.ask("SELECT 1") == [(1,)]
