"""Galera: a node that is not ready answers what is about variables, as `@@read_only`, and refuses the rest (1047)."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError
from servers import guard
from servers.galera import GaleraCluster, GaleraNode

from .driver import DriverUnderTest
from .mysql import connected
from .rows import PATIENCE, insert

pytestmark = pytest.mark.databases("mariadb")

NUMBERS = count(1)


@pytest.fixture
def nodes(running_galera: GaleraCluster) -> Iterator[tuple[GaleraNode, ...]]:
    if not running_galera.together():
        running_galera.restore()
    yield running_galera.nodes
    running_galera.restore()


@pytest.fixture
def connect(driver: DriverUnderTest) -> Iterator[Callable[..., Any]]:
    with connected(driver) as connect:
        yield connect


@pytest.fixture
def table(nodes: tuple[GaleraNode, ...]) -> str:
    name = f"rows_{next(NUMBERS)}"
    nodes[0].sql(f"CREATE TABLE {name} (id int PRIMARY KEY)")
    return name


def left(node: GaleraNode) -> list[Any]:
    return node.sql("SELECT id FROM information_schema.processlist WHERE user = 'app'")


def port(driver: DriverUnderTest, connection: Any) -> int:
    return int(driver.execute(connection, "SELECT @@port")[0][0])


def test_a_node_that_begins_to_refuse_is_left(driver: DriverUnderTest, connect, running_galera, nodes, table) -> None:
    connection = connect(*nodes[:2])
    driver.execute(connection, "SET @tenant = 7")
    nodes[0].refuse()
    driver.execute(connection, insert(table, 1))
    (row,) = driver.execute(connection, "SELECT @@port, @tenant")
    assert [*map(int, row)] == [nodes[1].port, 7]
    running_galera.restore()
    assert running_galera.rows(f"SELECT id FROM {table}") == [("1",)]
    assert guard.wait_until(lambda: not left(nodes[0]), PATIENCE)


@pytest.mark.parametrize("end", ["statement", "commit"])
def test_a_transaction_on_a_node_that_begins_to_refuse_is_lost(
    driver: DriverUnderTest, connect, running_galera, nodes, table: str, end: str
) -> None:
    connection = connect(*nodes[:2], autocommit=False)
    driver.execute(connection, insert(table, 1))
    nodes[0].refuse()
    with pytest.raises(FailoverSuccessError) as caught:
        driver.commit(connection) if end == "commit" else driver.execute(connection, insert(table, 2))
    assert (caught.value.transaction, caught.value.may_have_run) == ("rolled_back", False)
    with pytest.raises(FailoverSuccessError):
        driver.execute(connection, insert(table, 3))
    driver.rollback(connection)
    driver.execute(connection, insert(table, 4))
    driver.commit(connection)
    assert port(driver, connection) == nodes[1].port
    running_galera.restore()
    assert running_galera.rows(f"SELECT id FROM {table}") == [("4",)]


def test_a_node_that_refuses_is_no_server_to_go_to(
    driver: DriverUnderTest, connect, running_galera, nodes, table: str
) -> None:
    connection = connect(nodes[1], nodes[0])
    for (session,) in left(nodes[1]):
        nodes[1].sql(f"KILL {session}")
    nodes[1].refuse()  # and reports all the same that it is not read-only
    driver.execute(connection, insert(table, 1))
    assert port(driver, connection) == nodes[0].port
    running_galera.restore()
    assert running_galera.rows(f"SELECT id FROM {table}") == [("1",)]
