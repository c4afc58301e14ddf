"""MariaDB and MySQL: ends of transactions that only they have, on a session that was lost and replaced."""

from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError

from .test_mariadb_drivers import ask, end, make_table, session


@pytest.fixture
def cluster(pair: Any) -> Any:
    return pair


def rows(cluster: Any, table: str) -> list[Any]:
    return list(cluster.primary.sql(f"SELECT i FROM {table}"))


def prepare(connection: Any, cluster: Any, table: str) -> str:
    """Prepare a transaction; return its name."""
    for text in (
        f"XA START '{table}'",
        f"INSERT INTO {table} VALUES (1)",
        f"XA END '{table}'",
        f"XA PREPARE '{table}'",
    ):
        ask(connection, text)
    return table


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("looks", [True, False])
@pytest.mark.parametrize("verb", ["COMMIT", "ROLLBACK"])
def test_a_prepared_transaction_of_a_session_that_was_lost_is_ended(
    connect, cluster, autocommit: bool, looks: bool, verb: str
) -> None:
    """The end was not sent when the loss was found: it is done on the new session."""
    table = make_table(cluster)
    connection = connect(autocommit=autocommit)
    number = session(connection)
    connection.rollback()
    name = prepare(connection, cluster, table)
    end(cluster.primary, number)
    ask(connection, "SET @looks = 1") if looks else None
    ask(connection, f"XA {verb} '{name}'")
    assert rows(cluster, table) == [("1",)] * (verb == "COMMIT")
    assert cluster.primary.sql("XA RECOVER") == []
    assert ask(connection, "SELECT @@autocommit") == [(int(autocommit),)]
    ask(connection, f"INSERT INTO {table} VALUES (2)")
    connection.rollback()
    assert (("2",) in rows(cluster, table)) == autocommit


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_transaction_that_was_not_prepared_is_rolled_back_already(connect, cluster, autocommit: bool) -> None:
    table = make_table(cluster)
    connection = connect(autocommit=autocommit)
    number = session(connection)
    connection.rollback()
    ask(connection, f"XA START '{table}'")
    ask(connection, f"INSERT INTO {table} VALUES (1)")
    end(cluster.primary, number)
    with pytest.raises(FailoverSuccessError) as caught:
        ask(connection, f"XA END '{table}'")
    assert caught.value.transaction == "rolled_back"
    ask(connection, f"XA ROLLBACK '{table}'")
    ask(connection, f"INSERT INTO {table} VALUES (2)")
    connection.commit()
    assert rows(cluster, table) == [("2",)]
