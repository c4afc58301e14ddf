"""What the pair of MariaDB servers must be able to do for other tests."""

from collections.abc import Iterator

import pytest

from servers import MariaDBCluster, mariadb


@pytest.fixture
def cluster() -> Iterator[MariaDBCluster]:
    if not mariadb.available():
        pytest.skip(mariadb.MISSING)
    with MariaDBCluster() as cluster:
        yield cluster


def test_a_replica_that_is_a_copy_follows_from_where_the_copy_ends(cluster: MariaDBCluster) -> None:
    cluster.primary.sql("CREATE TABLE copied (i int); INSERT INTO copied VALUES (1)")
    cluster.standby.copy(cluster.primary)
    cluster.standby.start()
    cluster.standby.follow(cluster.primary)
    cluster.primary.sql("INSERT INTO copied VALUES (2)")
    cluster.wait_streaming()
    assert cluster.standby.sql("SELECT i FROM copied ORDER BY i") == [("1",), ("2",)]
