"""A connection that nobody holds any more goes at once, and its server session with it, as psycopg2's own do."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from instrumented_wrapper import FailoverSuccessError
from instrumented_wrapper.drivers.psycopg2.classes import kept_by

from ..watch import Watch, eventually
from .conftest import lose, rows


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def nothing(connection: Any, watch: Watch) -> None:
    rows(connection, "SELECT 1")


def error(connection: Any, watch: Watch) -> None:
    with pytest.raises(psycopg2.errors.DivisionByZero):
        rows(connection, "SELECT 1/0")


def error_of_a_setting(connection: Any, watch: Watch) -> None:
    with pytest.raises(psycopg2.errors.UndefinedObject):
        rows(connection, "SET nonsense = 1")


def error_of_a_commit(connection: Any, watch: Watch) -> None:
    rows(connection, "CREATE TEMPORARY TABLE once (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)")
    rows(connection, "INSERT INTO once VALUES (1), (1)")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        connection.commit()


def silent_switch(connection: Any, watch: Watch) -> None:
    connection.autocommit = True
    lose(connection, watch)


def switch_that_is_told(connection: Any, watch: Watch) -> None:
    with pytest.raises(FailoverSuccessError):
        rows(connection, "SELECT pg_terminate_backend(pg_backend_pid())")


@pytest.mark.parametrize(
    "after", [nothing, error, error_of_a_setting, error_of_a_commit, silent_switch, switch_that_is_told]
)
def test_without_a_close(watch: Watch, after: Callable[[Any, Watch], None]) -> None:
    connection = psycopg2.connect(watch.dsn())
    after(connection, watch)
    kept = weakref.ref(connection)
    del connection
    for thread in threading.enumerate():
        if thread.name == "failover":  # an attempt at another server, which nobody waits for any more
            thread.join()
    assert kept() is None
    assert eventually(lambda: not watch.sessions())


def test_how_many_references_a_constructor_keeps_is_measured() -> None:
    """The references that are given back after a switch are those that this psycopg2 keeps, and no others."""
    seen: list[Any] = []

    def clean(cursor: Any, connection: Any) -> None:
        """Keep nothing, as a psycopg2 without that leak."""

    def twice(cursor: Any, connection: Any) -> None:
        for _ in range(2):
            psycopg2.extensions.cursor.__init__(cursor, connection)
        seen.append(weakref.ref(connection))

    assert (kept_by(clean), kept_by(twice)) == (0, 2 * kept_by(psycopg2.extensions.cursor.__init__))
    assert seen[0]() is None
