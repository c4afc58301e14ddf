"""Fixtures for what is special to a driver: a cluster that is repaired only where a test broke it, both sides, proxies.

Tests that are coroutine functions are run by ``asyncio.run``.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count
from typing import Any

import pytest

from servers import Cluster, Proxy

from .side import Side
from .watch import Watch

_numbers = count(1)
collect_ignore = [] if find_spec("aws_advanced_python_wrapper") else ["aws"]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine function, and close what its side opened before the loop ends."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(_closed_after(functools.partial(pyfuncitem.obj, **arguments), arguments.get("side")))
    return True


async def _closed_after(test: Any, side: Side | None) -> None:
    try:
        await test()
    finally:
        if side is not None:
            await side.close()


@pytest.fixture(params=["sync", "async"])
def side(request: pytest.FixtureRequest) -> Side:
    return Side(request.param)


@pytest.fixture
def cluster(running_cluster: Cluster) -> Cluster:
    """A healthy primary and standby. Only what a test has broken is repaired: to look deeper takes long."""
    primary, standby = running_cluster.primary, running_cluster.standby
    roles_are_right = primary.follows is None and standby.follows is primary
    if not (primary.alive and standby.alive and roles_are_right):
        running_cluster.restore()
    return running_cluster


@pytest.fixture
def watch(cluster: Cluster) -> Watch:
    """The cluster as its administrator sees it, and an empty table of this test."""
    watch = Watch(cluster, f"t_{next(_numbers)}")
    watch.sql(f"CREATE TABLE {watch.table} (word text)")
    watch.sql(f"ALTER TABLE {watch.table} OWNER TO app")
    return watch


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[Proxy]:
    """A proxy in front of the primary."""
    with Proxy(cluster.primary.host, cluster.primary.port) as proxy:
        yield proxy


@pytest.fixture
def standby_proxy(cluster: Cluster) -> Iterator[Proxy]:
    """A proxy in front of the standby."""
    with Proxy(cluster.standby.host, cluster.standby.port) as proxy:
        yield proxy
