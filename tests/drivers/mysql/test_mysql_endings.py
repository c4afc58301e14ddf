"""MariaDB and MySQL: ends of transactions that only they have, on a session that was lost and replaced."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError, TransactionResolutionUnknownError
from servers import Proxy

from .server_session import ask, end, make_table, session


@pytest.fixture
def cluster(pair: Any) -> Any:
    return pair


MOMENTS = ("before", "on its way", "before the answer")


def cut(proxy: Proxy, moment: str, kind: str, verb: str) -> None:
    """Cut the connection now, or have it cut when the end is sent or answered."""
    if moment == "before":
        proxy.cut()
        return
    proxy.cut_when((verb.lower() if kind.endswith("in C") else verb).encode(), forward=moment != "on its way")


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


# --- completion_type ----------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(cluster: Any) -> Iterator[Proxy]:
    with Proxy(cluster.primary.host, cluster.primary.port) as proxy:
        yield proxy


@pytest.fixture
def chained(connect, cluster, proxy: Proxy) -> tuple[Any, str]:
    """A connection in autocommit with a row in a transaction, whose end begins the next one."""
    table = make_table(cluster)
    connection = connect(proxy, cluster.primary)
    ask(connection, "SET completion_type = CHAIN")
    ask(connection, "BEGIN")
    ask(connection, f"INSERT INTO {table} VALUES (1)")
    return connection, table


def is_in_transaction(connection: Any, cluster: Any, table: str) -> None:
    """Check that a row is not committed, and that a loss is one of a transaction."""
    ask(connection, f"INSERT INTO {table} VALUES (2)")
    number = session(connection)
    assert ("2",) not in rows(cluster, table)
    end(cluster.primary, number)
    with pytest.raises(FailoverSuccessError) as caught:
        ask(connection, "SELECT 1")
    assert caught.value.transaction == "rolled_back"
    connection.rollback()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_silent_rollback_begins_the_next_transaction(chained, cluster, kind: str, proxy: Proxy, moment: str) -> None:
    connection, table = chained
    cut(proxy, moment, kind, "ROLLBACK")
    connection.rollback()
    is_in_transaction(connection, cluster, table)
    assert rows(cluster, table) == []


@pytest.mark.parametrize("how", ["commit()", "rollback()", "COMMIT", "ROLLBACK"])
def test_an_end_begins_the_next_transaction(chained, cluster, how: str) -> None:
    connection, table = chained
    ask(connection, how) if how.isupper() else getattr(connection, how.removesuffix("()"))()
    is_in_transaction(connection, cluster, table)
    assert rows(cluster, table) == [("1",)] * how.lower().startswith("commit")


@pytest.mark.parametrize("text", ["COMMIT AND NO CHAIN", "CREATE TABLE IF NOT EXISTS made (i int)"])
def test_an_end_that_says_otherwise_begins_none(chained, cluster, text: str) -> None:
    connection, table = chained
    ask(connection, text)
    ask(connection, f"INSERT INTO {table} VALUES (2)")
    assert rows(cluster, table) == [("1",), ("2",)]
    end(cluster.primary, session(connection))
    assert ask(connection, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("moment", MOMENTS[1:])
def test_a_commit_whose_outcome_is_not_known_begins_none(chained, cluster, kind, proxy: Proxy, moment: str) -> None:
    connection, table = chained
    cut(proxy, moment, kind, "COMMIT")
    with pytest.raises(TransactionResolutionUnknownError):
        connection.commit()
    ask(connection, f"INSERT INTO {table} VALUES (2)")
    assert ("2",) in rows(cluster, table)


@pytest.mark.parametrize("verb", ["commit", "rollback"])
@pytest.mark.parametrize("moment", [*MOMENTS, "never"])
def test_an_end_that_releases_the_session(connect, cluster, kind, proxy: Proxy, verb: str, moment: str) -> None:
    """The server ends the session after its answer, perhaps while the next statement is on its way."""
    if verb == "commit" and moment != "never":
        pytest.skip("its outcome is not known")
    table = make_table(cluster)
    connection = connect(proxy, cluster.primary)
    ask(connection, "SET completion_type = 2")
    ask(connection, "BEGIN")
    ask(connection, f"INSERT INTO {table} VALUES (1)")
    cut(proxy, moment, kind, verb.upper()) if moment != "never" else None
    getattr(connection, verb)()
    with suppress(FailoverSuccessError):
        ask(connection, "SELECT 1")
    ask(connection, f"INSERT INTO {table} VALUES (2)")
    assert rows(cluster, table) == [("1",)] * (verb == "commit") + [("2",)]
    assert ask(connection, "SELECT @@completion_type") == [("RELEASE",)]
