"""Fixtures of the tests on clusters, which ``make test-clusters`` runs; drivers are those of the contract suite."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from contract.conftest import MODULES, variants
from contract.driver import DriverUnderTest

from servers import GaleraCluster, names, patroni
from servers import group as group_replication
from servers.group import Group
from servers.names import Names
from servers.patroni import PatroniCluster

from .crew import Crew, driver_of
from .mysql_sites import OnGalera, OnGroup

NUMBERS = count(1)
names.isolate()  # before any thread starts


@pytest.fixture(scope="session")
def running_patroni() -> Iterator[PatroniCluster]:
    if not patroni.available():
        pytest.skip(patroni.MISSING)
    with PatroniCluster() as cluster:
        yield cluster


@pytest.fixture
def patroni_cluster(running_patroni: PatroniCluster) -> PatroniCluster:
    """A leader and two standbys, one of them synchronous, whatever the test before did to them."""
    running_patroni.restore()
    return running_patroni


@pytest.fixture
def host_names() -> Iterator[Names]:
    """Names of hosts that the test moves."""
    if not names.isolate():
        pytest.skip(names.MISSING)
    with Names() as table:
        yield table


@pytest.fixture(scope="session")
def prepared_galera(running_galera: GaleraCluster) -> GaleraCluster:
    OnGalera.prepare(running_galera)
    return running_galera


@pytest.fixture
def galera(prepared_galera: GaleraCluster) -> GaleraCluster:
    """Three nodes that serve, whatever the test before did to them."""
    prepared_galera.restore()
    return prepared_galera


@pytest.fixture(scope="session")
def running_group() -> Iterator[Group]:
    if not group_replication.available():
        pytest.skip(group_replication.missing())
    with Group() as group:
        OnGroup.prepare(group)
        yield group


@pytest.fixture
def group(running_group: Group) -> Group:
    """A primary and two secondaries, whatever the test before did to them."""
    running_group.restore()
    return running_group


@pytest.fixture(scope="session")
def drivers_of() -> Callable[[str], list[DriverUnderTest]]:
    """Return all drivers of a database that are installed, each with its site."""

    def drivers_of(system: str) -> list[DriverUnderTest]:
        found = (each for name in MODULES for each in variants(name, True, (system,)))
        return [driver for module, number, _ in found if (driver := driver_of(module, number))]

    return drivers_of


@pytest.fixture
def crew() -> Iterator[Callable[..., Crew]]:
    """Make a crew of writers; their connections are closed in the end."""
    made: list[Crew] = []

    def crew(site: type[Any], cluster: Any) -> Crew:
        made.append(Crew(site(cluster, f"cluster_{next(NUMBERS)}")))
        return made[-1]

    yield crew
    for each in made:
        each.close()
