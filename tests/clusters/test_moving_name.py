"""One name whose address moves to the new leader of a Patroni cluster after a switchover, and after a crash.

Until it moves, the name leads to the old leader: a standby that answers, or nobody.
"""

from typing import Any

import pytest
from contract.sites import PostgreSQL

from servers.names import Names
from servers.patroni import PatroniCluster

from .crew import Crew

NAME = "leader.cluster.test"


class Moving:
    """Where the name leads."""

    host = NAME

    def __init__(self, cluster: PatroniCluster, table: Names) -> None:
        self.cluster, self.table, self.port = cluster, table, cluster.primary.port
        self.follow()

    def follow(self) -> None:
        """Have the name lead to the leader of the moment."""
        self.table.point(NAME, self.cluster.primary.host)


@pytest.fixture
def name(patroni_cluster: PatroniCluster, host_names: Names) -> Moving:
    return Moving(patroni_cluster, host_names)


@pytest.fixture
def writers(patroni_cluster: PatroniCluster, name: Moving, drivers_of: Any, crew: Any) -> Crew:
    """Writers of every driver, who know the name only."""
    made: Crew = crew(PostgreSQL, patroni_cluster)
    options = {"failover": "on", "failover_hosts": f"{NAME}:{name.port}"}
    for driver in drivers_of("postgresql"):
        made.both(driver, "name", made.site.dsn(name), options)
    return made


def test_switchover(patroni_cluster: PatroniCluster, name: Moving, writers: Crew) -> None:
    with writers.at_work() as go_on:
        patroni_cluster.switchover()
        name.follow()
        go_on()


def test_crash_of_the_leader(patroni_cluster: PatroniCluster, name: Moving, writers: Crew) -> None:
    with writers.at_work() as go_on:
        patroni_cluster.crash()
        name.follow()
        go_on()
