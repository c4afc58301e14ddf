"""Galera: a node that is not ready answers what is about variables, as `@@read_only`, and refuses the rest (1047)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from instrumented_wrapper import FailoverSuccessError
from servers.galera import GaleraNode, GaleraNodes

from .sides import KINDS, Side

NUMBERS = count(1)


@pytest.fixture(params=[kind for kind in KINDS if kind != "psycopg2"])
def side(request: pytest.FixtureRequest) -> Side:
    try:
        return Side(request.param)
    except ImportError as error:
        pytest.skip(f"{request.param} is not installed, or can only be loaded first (`python -m tests`): {error}")


@pytest.fixture
def nodes(running_galera: GaleraNodes) -> Iterator[GaleraNodes]:
    running_galera.restore()
    yield running_galera
    running_galera.restore()


@pytest.fixture
def table(nodes: GaleraNodes) -> str:
    name = f"rows_{next(NUMBERS)}"
    for node in (nodes.first, nodes.second):
        node.sql(f"CREATE TABLE {name} (id int PRIMARY KEY)")
    return name


def ids(node: GaleraNode, table: str) -> list[str | None]:
    return [number for (number,) in node.sql(f"SELECT id FROM {table} ORDER BY id")]


def test_a_node_that_begins_to_refuse_is_left(side: Side, nodes: GaleraNodes, table: str) -> None:
    connection = side.connect(nodes.first, nodes.second)
    side.run(connection, "SET @tenant = 7")
    nodes.first.refuse()
    side.run(connection, f"INSERT INTO {table} VALUES (1)")
    assert [tuple(map(int, row)) for row in side.run(connection, "SELECT @@port, @tenant")] == [(nodes.second.port, 7)]
    nodes.restore()
    assert (ids(nodes.first, table), ids(nodes.second, table)) == ([], ["1"])
    assert side.none_left(nodes.first)
    connection.close()


@pytest.mark.parametrize("end", ["statement", "commit"])
def test_a_transaction_on_a_node_that_begins_to_refuse_is_lost(side, nodes: GaleraNodes, table: str, end: str) -> None:
    connection = side.connect(nodes.first, nodes.second, autocommit=False)
    side.run(connection, f"INSERT INTO {table} VALUES (1)")
    nodes.first.refuse()
    with pytest.raises(FailoverSuccessError) as caught:
        connection.commit() if end == "commit" else side.run(connection, f"INSERT INTO {table} VALUES (2)")
    assert (caught.value.transaction, caught.value.may_have_run) == ("rolled_back", False)
    with pytest.raises(FailoverSuccessError):
        side.run(connection, f"INSERT INTO {table} VALUES (3)")
    connection.rollback()
    side.run(connection, f"INSERT INTO {table} VALUES (4)")
    connection.commit()
    nodes.restore()
    assert (ids(nodes.first, table), ids(nodes.second, table)) == ([], ["4"])
    connection.close()


def test_a_node_that_refuses_is_no_server_to_go_to(side: Side, nodes: GaleraNodes, table: str) -> None:
    connection = side.connect(nodes.second, nodes.first)
    side.end_sessions(nodes.second)
    nodes.second.refuse()  # and says all the same that it is not read-only
    side.run(connection, f"INSERT INTO {table} VALUES (1)")
    assert [int(port) for (port,) in side.run(connection, "SELECT @@port")] == [nodes.first.port]
    nodes.restore()
    assert (ids(nodes.first, table), ids(nodes.second, table)) == (["1"], [])
    connection.close()
