"""Patroni: its leader is switched, killed and frozen while all drivers write, through HAProxy and by a list of hosts.

Replication is synchronous, so that a commit that was answered is on the next leader.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract.sites import PostgreSQL

from servers.patroni import HAPROXY, PatroniCluster

from .crew import Crew

RESTARTS = 5
Way = Callable[..., Crew]


@pytest.fixture
def writers(patroni_cluster: PatroniCluster, drivers_of: Any, crew: Any) -> Way:
    """Make writers of every driver, each through HAProxy and by a list of hosts."""

    def writers(**options: Any) -> Crew:
        made: Crew = crew(PostgreSQL, patroni_cluster)
        leader = patroni_cluster.primary
        hosts = sorted(patroni_cluster.nodes, key=lambda node: node is not leader)  # pg8000 connects to the first one
        through = {"failover": "on", "failover_hosts": f"{patroni_cluster.host}:{patroni_cluster.port}"}
        for driver in drivers_of("postgresql"):
            limit = {} if driver.name == "pg8000" else {"connect_timeout": 3}  # pg8000's is one of each statement, too
            made.both(driver, "haproxy", made.site.dsn(patroni_cluster, **limit), {**through, **options})
            made.both(driver, "hosts", made.site.dsn(*hosts, target_session_attrs="read-write", **limit), options)
        return made

    return writers


def test_the_how_to_shows_this_configuration() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/patroni.md").read_text()
    after = HAPROXY.partition("bind")[2].splitlines()[1:]
    assert [line for line in after if line.strip() != "{servers}" and line not in page] == []


def test_switchover(patroni_cluster: PatroniCluster, writers: Way) -> None:
    with writers().at_work() as go_on:
        patroni_cluster.switchover()
        go_on()


def test_crash_of_the_leader(patroni_cluster: PatroniCluster, writers: Way) -> None:
    with writers(resolve_commits="on").at_work() as go_on:
        patroni_cluster.crash()
        go_on()


def test_crash_of_postgresql_alone(patroni_cluster: PatroniCluster, writers: Way) -> None:
    """Patroni starts it again on the same node: what was committed there is there."""
    with writers(resolve_commits="on").at_work() as go_on:
        patroni_cluster.crash_postgresql()
        go_on()


@pytest.mark.parametrize("resolve_commits", ["off", "on"])
def test_haproxy_restarts(patroni_cluster: PatroniCluster, writers: Way, resolve_commits: str) -> None:
    """Its connections are cut while the leader is well: a COMMIT on its way is carried out, or not."""
    with writers(resolve_commits=resolve_commits).at_work() as go_on:
        for _ in range(RESTARTS):
            patroni_cluster.haproxy.kill()
            patroni_cluster.haproxy.start()
            go_on()


def test_frozen_leader(patroni_cluster: PatroniCluster, writers: Way) -> None:
    with writers(probe_after=1).at_work() as go_on, patroni_cluster.frozen():
        go_on()
