"""What the server reports, and no statement of the app names: a trigger sets the time zone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
from psycopg2 import pool

from instrumented_wrapper import FailoverSuccessError, session_state

from ..watch import Watch
from .conftest import lose, rows

SUICIDE = "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)"


@pytest.fixture
def write(watch: Watch) -> Callable[[Any], None]:
    """Write to a table whose trigger sets the time zone: once to learn the text, once for the test."""
    watch.sql(f"""
        CREATE FUNCTION zone_{watch.table}() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM set_config('timezone', NEW.word, false); RETURN NEW; END $$;
        CREATE TRIGGER zone BEFORE INSERT ON {watch.table} FOR EACH ROW EXECUTE FUNCTION zone_{watch.table}();
    """)

    def write(connection: Any) -> None:
        for zone in ("UTC", "Asia/Tokyo"):
            connection.cursor().execute(f"INSERT INTO {watch.table} VALUES (%s)", (zone,))
            assert connection.autocommit or connection.commit() is None

    return write


def ends_under_way(connection: Any, watch: Watch) -> None:
    with pytest.raises(FailoverSuccessError):
        connection.cursor().execute(SUICIDE)


@pytest.mark.parametrize(("autocommit", "end"), [(True, lose), (True, ends_under_way), (False, lose)])
def test_it_is_carried_over(connect, watch: Watch, write: Any, autocommit: bool, end: Any) -> None:
    connection = connect()
    connection.autocommit = autocommit
    write(connection)
    end(connection, watch)
    assert rows(connection, "SHOW timezone") == [("Asia/Tokyo",)]
    assert session_state(connection)["timezone"].value == "Asia/Tokyo"


def test_where_a_later_transaction_is_lost_it_is_named(connect, watch: Watch, write: Any) -> None:
    connection = connect()
    write(connection)
    with pytest.raises(FailoverSuccessError) as told:
        connection.cursor().execute(SUICIDE)
    assert told.value.not_restored == ("timezone",)


@pytest.mark.parametrize("text", ["SET timezone = 'Asia/Tokyo'", "SET LOCAL timezone = 'Asia/Tokyo'"])
def test_what_the_lost_transaction_has_named_is_rolled_back(connect, text: str) -> None:
    connection = connect()
    connection.cursor().execute(text)
    with pytest.raises(FailoverSuccessError) as told:
        connection.cursor().execute(SUICIDE)
    assert told.value.not_restored == ()


def test_what_a_function_sets_in_a_transaction_is_noticed_when_it_has_ended(connect, watch: Watch) -> None:
    watch.sql(f"""
        CREATE FUNCTION moves_{watch.table}() RETURNS text LANGUAGE sql AS
            $$ SELECT set_config('timezone', 'Asia/Tokyo', false) $$
    """)
    connection = connect()
    rows(connection, f"SELECT moves_{watch.table}()")
    connection.commit()
    lose(connection, watch)
    assert rows(connection, "SHOW timezone") == [("Asia/Tokyo",)]


def test_a_return_to_the_pool_resets_it(watch: Watch, write: Any) -> None:
    connections = pool.SimpleConnectionPool(1, 1, watch.dsn())
    connection = connections.getconn()
    before = rows(connection, "SHOW timezone")
    write(connection)
    connections.putconn(connection)
    again = connections.getconn()
    assert again is connection and isinstance(again, psycopg2.extensions.connection)
    assert rows(again, "SHOW timezone") == before
    connections.closeall()
