"""Group Replication: a member that is outside its group takes writes, and must not pass for a primary."""

from collections.abc import Iterator

import pytest

from servers import Proxy, guard
from servers.group import Group, GroupMember, available, missing

from .driver import DriverUnderTest
from .mysql import connected
from .rows import PATIENCE

pytestmark = pytest.mark.databases("mysql")


@pytest.fixture(scope="module")
def group() -> Iterator[Group]:
    if not available():
        pytest.skip(missing())
    with Group() as group:
        yield group


@pytest.fixture(scope="module")
def outsider(group: Group) -> GroupMember:
    """A member that has been restarted, and has not joined its group since."""
    outsider, *_ = group.others(group.primary)
    outsider.kill()
    outsider.start()
    return outsider


def test_a_member_outside_its_group_is_no_primary(driver: DriverUnderTest, group: Group, outsider, background) -> None:
    assert outsider.writable()
    primary = group.primary
    with (
        Proxy(primary.host, primary.port) as home,
        Proxy(outsider.host, outsider.port) as outside,
        connected(driver) as connect,
    ):
        connection = connect(home, outside)
        home.refuse()
        home.cut()
        asking = background(driver.execute, connection, "SELECT @@port")
        assert guard.wait_until(lambda: outside.connections >= 3, PATIENCE)
        home.accept()
        ((port,),) = asking.result(PATIENCE)
        assert int(port) == primary.port
