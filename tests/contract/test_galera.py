"""Galera: a node that is not ready answers what is about variables, as `@@read_only`, and refuses the rest (1047)."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError
from servers import guard
from servers.galera import GaleraNode, GaleraNodes

from .driver import DriverUnderTest
from .mysql import connected
from .rows import PATIENCE, insert

pytestmark = pytest.mark.databases("mariadb")

NUMBERS = count(1)


@pytest.fixture
def nodes(running_galera: GaleraNodes) -> Iterator[GaleraNodes]:
    running_galera.restore()
    yield running_galera
    running_galera.restore()


@pytest.fixture
def connect(driver: DriverUnderTest) -> Iterator[Callable[..., Any]]:
    with connected(driver) as connect:
        yield connect


@pytest.fixture
def table(nodes: GaleraNodes) -> str:
    name = f"rows_{next(NUMBERS)}"
    for node in (nodes.first, nodes.second):
        node.sql(f"CREATE TABLE {name} (id int PRIMARY KEY)")
    return name


def ids(node: GaleraNode, table: str) -> list[str | None]:
    return [number for (number,) in node.sql(f"SELECT id FROM {table} ORDER BY id")]


def left(node: GaleraNode) -> list[Any]:
    return node.sql("SELECT id FROM information_schema.processlist WHERE user = 'app'")


def test_a_node_that_begins_to_refuse_is_left(driver: DriverUnderTest, connect, nodes, table: str) -> None:
    connection = connect(nodes.first, nodes.second)
    driver.execute(connection, "SET @tenant = 7")
    nodes.first.refuse()
    driver.execute(connection, insert(table, 1))
    (row,) = driver.execute(connection, "SELECT @@port, @tenant")
    assert [*map(int, row)] == [nodes.second.port, 7]
    nodes.restore()
    assert (ids(nodes.first, table), ids(nodes.second, table)) == ([], ["1"])
    assert guard.wait_until(lambda: not left(nodes.first), PATIENCE)


@pytest.mark.parametrize("end", ["statement", "commit"])
def test_a_transaction_on_a_node_that_begins_to_refuse_is_lost(driver, connect, nodes, table: str, end: str) -> None:
    connection = connect(nodes.first, nodes.second, autocommit=False)
    driver.execute(connection, insert(table, 1))
    nodes.first.refuse()
    with pytest.raises(FailoverSuccessError) as caught:
        driver.commit(connection) if end == "commit" else driver.execute(connection, insert(table, 2))
    assert (caught.value.transaction, caught.value.may_have_run) == ("rolled_back", False)
    with pytest.raises(FailoverSuccessError):
        driver.execute(connection, insert(table, 3))
    driver.rollback(connection)
    driver.execute(connection, insert(table, 4))
    driver.commit(connection)
    nodes.restore()
    assert (ids(nodes.first, table), ids(nodes.second, table)) == ([], ["4"])


def test_a_node_that_refuses_is_no_server_to_go_to(driver: DriverUnderTest, connect, nodes, table: str) -> None:
    connection = connect(nodes.second, nodes.first)
    for (session,) in left(nodes.second):
        nodes.second.sql(f"KILL {session}")
    nodes.second.refuse()  # and reports all the same that it is not read-only
    driver.execute(connection, insert(table, 1))
    assert [int(port) for (port,) in driver.execute(connection, "SELECT @@port")] == [nodes.first.port]
    nodes.restore()
    assert (ids(nodes.first, table), ids(nodes.second, table)) == (["1"], [])
