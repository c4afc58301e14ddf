"""Galera: a node is killed, frozen, cut off from its cluster or told to refuse, while all drivers write on it.

Each node comes back while the writers write on the others, and gets what it lacks from their caches (IST).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from contract.rows import PATIENCE

from servers import GaleraCluster, GaleraNode, guard

from .crew import Crew
from .mysql_sites import OnGalera

Way = Callable[..., Crew]


@pytest.fixture
def victim(galera: GaleraCluster) -> GaleraNode:
    """The node on which all write at first."""
    return galera.nodes[1]


@pytest.fixture
def writers(galera: GaleraCluster, victim: GaleraNode, drivers_of: Any, crew: Any) -> Way:
    def writers(**options: Any) -> Crew:
        made: Crew = crew(OnGalera, galera)
        for driver in drivers_of("mariadb"):
            made.both(driver, "hosts", made.site.dsn(victim, *galera.others(victim)), options)
        return made

    return writers


@contextmanager
def frozen(node: GaleraNode) -> Iterator[None]:
    node.freeze()
    try:
        yield
    finally:
        node.thaw()


def came_back(galera: GaleraCluster, victim: GaleraNode, go_on: Callable[[], None]) -> bool:
    """Have the victim come back while all write; return True if it got what it lacked from a cache."""
    received = victim.received()
    galera.restore()
    go_on()
    return victim.received() > received


def test_crash_of_a_node(galera: GaleraCluster, victim: GaleraNode, writers: Way) -> None:
    with writers().at_work() as go_on:
        victim.kill()
        go_on()
        assert came_back(galera, victim, go_on)


def test_frozen_node(galera: GaleraCluster, victim: GaleraNode, writers: Way) -> None:
    with writers(probe_after=1).at_work() as go_on:
        with frozen(victim):
            go_on()
        assert came_back(galera, victim, go_on)


def test_node_that_loses_its_cluster(galera: GaleraCluster, victim: GaleraNode, writers: Way) -> None:
    with writers().at_work() as go_on:
        victim.cut_off()
        go_on()
        assert not victim.has_cluster()
        assert came_back(galera, victim, go_on)


def test_node_that_refuses(galera: GaleraCluster, victim: GaleraNode, writers: Way) -> None:
    with writers().at_work() as go_on:
        victim.refuse()
        go_on()
        victim.serve()


def test_cluster_without_a_majority(galera: GaleraCluster, victim: GaleraNode, writers: Way) -> None:
    """The last node of three serves nobody until its administrator decides that it is the cluster."""
    with writers().at_work() as go_on:
        for node in galera.others(victim):
            node.kill()
        assert guard.wait_until(lambda: not victim.has_cluster(), PATIENCE)
        victim.found()
        go_on()
        galera.restore()
        go_on()
