"""Group Replication: a member that is outside its group takes writes, and must not pass for a primary."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from servers import Proxy, guard
from servers.group import Group, available, missing

from .sides import KINDS, MANY, Side


@pytest.fixture(scope="module")
def group() -> Iterator[Group]:
    if not available():
        pytest.skip(missing())
    with Group() as group:
        yield group


@pytest.fixture(params=[kind for kind in KINDS if kind != "psycopg2"])
def side(request: pytest.FixtureRequest) -> Side:
    try:
        return Side(request.param)
    except ImportError as error:
        pytest.skip(f"{request.param} is not installed, or can only be loaded first (`python -m tests`): {error}")


def test_a_member_outside_its_group_is_no_primary(side: Side, group: Group) -> None:
    assert group.outsider.writable()
    with (
        Proxy(group.member.host, group.member.port) as home,
        Proxy(group.outsider.host, group.outsider.port) as outside,
    ):
        connection = side.connect(home, outside)
        assert ports(side, connection) == [group.member.port]
        home.refuse()
        home.cut()
        with ThreadPoolExecutor(1) as thread:
            asking = thread.submit(ports, side, connection)
            assert guard.wait_until(lambda: outside.connections >= 3, MANY)
            home.accept()
            assert asking.result(MANY) == [group.member.port]
        connection.close()


def ports(side: Side, connection) -> list[int]:
    return [int(port) for (port,) in side.run(connection, "SELECT @@port")]
