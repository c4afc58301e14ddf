"""What a pair of MariaDB or MySQL servers must be able to do for other tests."""

from collections.abc import Iterator
from typing import Any

import pytest

from servers import MariaDBCluster, MySQLCluster, guard, mariadb, mysql, mysql_programs

KINDS = {"MariaDB": MariaDBCluster, "MySQL": MySQLCluster}
ROWS = "SELECT i FROM rows_ ORDER BY i"


@pytest.fixture(scope="module", params=KINDS)
def running(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "MariaDB" and not mariadb.available():
        pytest.skip(mariadb.MISSING)
    if request.param == "MySQL" and not mysql.available():
        pytest.skip(mysql.missing())
    with KINDS[request.param]() as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Any) -> Any:
    running.restore()
    running.primary.sql("DROP TABLE IF EXISTS rows_; CREATE TABLE rows_ (i int); INSERT INTO rows_ VALUES (1)")
    running.wait_streaming()
    return running


def test_the_replica_has_what_the_primary_has_and_refuses_the_rest(cluster: Any) -> None:
    assert cluster.standby.sql(ROWS) == [("1",)]
    assert (cluster.primary.writable(), cluster.standby.writable()) == (True, False)


def test_a_killed_primary_comes_back_as_a_replica(cluster: Any) -> None:
    cluster.failover()
    cluster.primary.sql("INSERT INTO rows_ VALUES (2)")
    cluster.rejoin()
    cluster.primary.sql("INSERT INTO rows_ VALUES (3)")
    cluster.wait_streaming()
    assert cluster.standby.sql(ROWS) == [("1",), ("2",), ("3",)]


def test_the_roles_are_swapped_as_planned(cluster: Any) -> None:
    before = cluster.primary
    cluster.switchover()
    assert cluster.standby is before
    cluster.primary.sql("INSERT INTO rows_ VALUES (2)")
    cluster.wait_streaming()
    assert before.sql(ROWS) == [("1",), ("2",)]
    assert not before.writable()


def test_a_demoted_server_stays_so_over_its_next_start(cluster: Any) -> None:
    cluster.standby.kill()
    cluster.standby.start()
    assert not cluster.standby.writable()


def test_frozen_and_killed_servers_are_restored(cluster: Any) -> None:
    cluster.standby.freeze()
    cluster.primary.kill()
    cluster.restore()
    assert cluster.primary.writable()
    assert cluster.standby.follows is cluster.primary
    assert cluster.standby.sql(ROWS) == [("1",)]


def test_what_only_the_replica_has_is_undone_by_a_copy(cluster: Any) -> None:
    cluster.standby.promote()
    cluster.standby.sql("INSERT INTO rows_ VALUES (99)")
    cluster.standby.follow(cluster.primary)
    cluster.restore()
    assert cluster.standby.sql(ROWS) == [("1",)]


def test_a_replica_that_is_a_copy_follows_from_where_the_copy_ends(cluster: Any) -> None:
    cluster.standby.copy(cluster.primary)
    cluster.standby.start()
    cluster.standby.follow(cluster.primary)
    cluster.primary.sql("INSERT INTO rows_ VALUES (2)")
    cluster.wait_streaming()
    assert cluster.standby.sql(ROWS) == [("1",), ("2",)]


def test_no_process_and_no_file_is_left(cluster: Any) -> None:
    with type(cluster)() as another:
        folder = another.primary.data.parent
        assert len(guard.marked(folder.name)) == 2
    assert not guard.marked(folder.name)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("words", "is_mysql"),
    [
        ("mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", True),
        ("/usr/sbin/mysqld  Ver 8.4.3 for Linux on x86_64 (MySQL Community Server - GPL)", True),
        ("/usr/sbin/mysqld  Ver 8.0.40 for Linux on x86_64 (MySQL Community Server - GPL)", False),
        ("mysqld  Ver 10.11.14-MariaDB-0+deb12u2 for debian-linux-gnu on x86_64 (Debian 12)", False),
        ("mysql  Ver 15.1 Distrib 10.11.14-MariaDB, for debian-linux-gnu (x86_64) using  EditLine wrapper", False),
        ("", False),
    ],
)
def test_a_mariadb_is_not_taken_for_mysql(words: str, is_mysql: bool) -> None:
    assert mysql_programs.is_mysql(words) is is_mysql


def test_a_replica_that_is_waited_for_has_what_was_committed(cluster: Any) -> None:
    cluster.synchronise()
    for i in range(2, 50):
        cluster.primary.sql(f"INSERT INTO rows_ VALUES ({i})")
    cluster.failover()
    assert cluster.primary.sql("SELECT COUNT(*) FROM rows_") == [("49",)]
    cluster.primary.sql("INSERT INTO rows_ VALUES (50)")  # which waits for nobody
    cluster.rejoin()
    cluster.synchronise()
    cluster.synchronise(False)
    cluster.standby.kill()
    cluster.primary.sql("INSERT INTO rows_ VALUES (51)")
