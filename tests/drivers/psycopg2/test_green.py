"""Green mode: psycopg2 waits in a callback of the app's, which polls the connection, and ends what it finds lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from psycopg2 import extensions, extras

from instrumented_wrapper import FailoverSuccessError, TransactionResolutionUnknownError
from servers import Proxy

from ..side import dsn
from ..watch import Watch, eventually
from .conftest import lose, rows


@pytest.fixture(autouse=True)
def green() -> Iterator[None]:
    extensions.set_wait_callback(extras.wait_select)
    yield
    extensions.set_wait_callback(None)


def test_what_is_set_is_carried(connect, watch: Watch) -> None:
    connection = connect()
    connection.autocommit = True
    rows(connection, "SET statement_timeout = '7s'")
    lose(connection, watch)
    assert rows(connection, "SHOW statement_timeout") == [("7s",)]
    with pytest.raises(FailoverSuccessError) as caught:
        rows(connection, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert (caught.value.transaction, caught.value.may_have_run) == ("none", True)
    assert rows(connection, "SHOW statement_timeout") == [("7s",)]


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_connection_that_breaks_without_a_word(connect, watch: Watch, proxy: Proxy, autocommit: bool) -> None:
    connection = connect(dsn(proxy, watch.cluster.primary))
    connection.autocommit = autocommit
    proxy.cut_when(b"INSERT", forward=True)
    with pytest.raises(FailoverSuccessError) as caught:
        rows(connection, watch.insert("sent"))
    expected = ("none", True) if autocommit else ("rolled_back", False)
    assert (caught.value.transaction, caught.value.may_have_run) == expected
    assert connection.closed == 0
    connection.rollback()
    rows(connection, watch.insert("after"))
    connection.commit()
    assert watch.words() == ["sent", "after"] if autocommit else ["after"]


def test_a_commit_that_breaks_without_a_word(connect, watch: Watch, proxy: Proxy) -> None:
    connection = connect(dsn(proxy, watch.cluster.primary))
    rows(connection, watch.insert("committed"))
    proxy.cut_when(b"COMMIT", forward=True)
    with pytest.raises(TransactionResolutionUnknownError):
        connection.commit()
    assert rows(connection, f"SELECT word FROM {watch.table}") == [("committed",)]


def test_an_error_of_the_callback_is_a_loss_to_psycopg2(connect, watch: Watch) -> None:
    """It ends the connection, for it cannot know what the server makes of a statement that nobody waits for."""

    def impatient(connection: Any) -> None:
        raise ZeroDivisionError

    connection = connect()
    rows(connection, watch.insert("lost"))
    extensions.set_wait_callback(impatient)
    with pytest.raises(ZeroDivisionError):
        rows(connection, "SELECT 1")
    extensions.set_wait_callback(extras.wait_select)
    assert connection.closed == 2
    with pytest.raises(FailoverSuccessError) as caught:
        rows(connection, "SELECT 1")
    assert caught.value.transaction == "rolled_back"
    connection.rollback()
    assert rows(connection, f"SELECT * FROM {watch.table}") == []


def test_an_error_of_the_callback_where_a_loss_is_a_loss(connect, watch: Watch) -> None:
    connection = connect(instrumented_wrapper={"failover": "off"})
    cursor = connection.cursor()
    extensions.set_wait_callback(lambda connection: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cursor.execute("SELECT 1")
    with pytest.raises(psycopg2.InterfaceError):
        cursor.execute("SELECT 1")
    connection.close()
    assert eventually(lambda: not watch.sessions())
