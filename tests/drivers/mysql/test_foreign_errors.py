"""Errors of the four blocking drivers of MySQL that are not theirs, or that hide what has happened."""

from contextlib import closing
from importlib import import_module
from typing import Any

import pytest

from instrumented_wrapper import FailoverFailedError

from .server_session import ask, end, session


@pytest.fixture
def cluster(pair: Any) -> Any:
    return pair


def test_what_is_shut_for_good_is_closed_without_a_word(connect, cluster) -> None:
    """The app is told why, and not what its cursors and its own close come upon."""
    connection = connect(options={"failover_timeout": 0.3})
    before = connection.cursor()
    cluster.primary.kill()
    with (
        pytest.raises(FailoverFailedError),
        closing(connection),
        closing(before),
        closing(connection.cursor()) as cursor,
    ):
        cursor.execute("SELECT 1")


def class_of(kind: str) -> tuple[type[Any], str]:
    """Return the class of a driver's connections, and a method that each new session of it calls."""
    if kind == "pymysql":
        return import_module("pymysql.connections").Connection, "connect"
    if kind == "MySQLdb":
        return import_module("MySQLdb.connections").Connection, "autocommit"
    name = "CMySQLConnection" if kind.endswith("C") else "MySQLConnection"
    return getattr(import_module("mysql.connector"), name), "connect"


@pytest.mark.parametrize("error", [RuntimeError("no token yet"), TypeError("no token yet")], ids=["Runtime", "Type"])
def test_an_error_that_is_not_the_drivers_is_no_final_answer(driver, kind, cluster, error: Exception) -> None:
    """An app's own class may ask a service for its token, which answers a moment later."""
    parent, name = class_of(kind)
    errors: list[Exception] = []

    def fails_once(self: Any, *args: Any, **keywords: Any) -> Any:
        if errors:
            raise errors.pop()
        return getattr(parent, name)(self, *args, **keywords)

    where = {"host": cluster.primary.host, "port": cluster.primary.port, "user": "app", "password": "app-secret"}
    options = {"failover": "on", "failover_timeout": 30}
    make = type("Own", (parent,), {name: fails_once})
    with closing(make(**where, database="app", autocommit=True, instrumented_wrapper=options)) as connection:
        errors.append(error)
        end(cluster.primary, session(connection))
        assert ask(connection, "SELECT 1") == [(1,)]
        assert not errors


def test_wrong_arguments_are_the_drivers_affair(connect, driver) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        connect().cursor().callproc("zone", None)
    assert caught.traceback[-1].frame.f_globals["__name__"].startswith(driver.__name__)
