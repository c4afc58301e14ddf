"""Two real servers for the tests of this folder; knows nothing of the fixtures of other folders."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:  # the servers are a folder of the repository, not an installed package
    sys.path.insert(0, ROOT)

from servers import Cluster  # noqa: E402


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    """Start one cluster for all tests of a module."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """Hand out the cluster healthy; what a test does to it is repaired before the next one."""
    running.restore()
    return running
