"""Fixtures for what is special to a driver: a cluster that is repaired only where a test broke it, both sides, proxies.

Tests that are coroutine functions are run by ``asyncio.run``.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from importlib import import_module
from itertools import count
from types import ModuleType
from typing import Any

import pytest

from servers import Cluster, Proxy

from .random_session import SETUP
from .side import Side, dsn
from .watch import Watch

_numbers = count(1)


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


@pytest.fixture
def superuser(cluster: Cluster) -> str:
    """A role that may set session authorization, and what the walks call."""
    sql = cluster.primary.sql
    if not sql("SELECT 1 FROM pg_roles WHERE rolname = 'walker'"):
        sql("CREATE ROLE walker SUPERUSER LOGIN PASSWORD 'walker'")
        sql("CREATE ROLE walk_tenant")
    sql(SETUP, database="app")
    return dsn(cluster.primary, user="walker", password="walker")


# --- every driver of MariaDB and MySQL ---------------------------------------------------------------------------


@pytest.fixture(params=["pymysql", "MySQLdb", "mysql.connector", "mysql.connector in C"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def driver(kind: str) -> ModuleType:
    name, _, in_c = kind.partition(" ")
    try:
        module = import_module(name)
        if in_c:
            import_module("_mysql_connector")
    except ImportError as error:
        pytest.skip(f"{kind} is not installed, or can only be loaded first (`python -m tests`): {error}")
    return module


@pytest.fixture(params=["MariaDB", "MySQL"])
def pair(request: pytest.FixtureRequest) -> Any:
    """A healthy primary and its replica, of each of the two databases."""
    running = request.getfixturevalue(f"running_{request.param.lower()}")
    running.restore()
    return running


@pytest.fixture
def connect(driver: ModuleType, kind: str, pair: Any) -> Iterator[Callable[..., Any]]:
    """Connect to the primary; the replica is known as the other host."""
    variant = {"use_pure": not kind.endswith("C")} if kind.startswith("mysql.connector") else {}
    with ExitStack() as stack:

        def connect(*hosts: Any, autocommit: bool = True, **keywords: Any) -> Any:
            known = hosts or (pair.primary, pair.standby)
            several = ",".join(f"{host.host}:{host.port}" for host in known)
            options = {**({"failover_hosts": several} if len(known) > 1 else {}), **keywords.pop("options", {})}
            where = {"host": known[0].host, "port": known[0].port, "user": "app", "password": "app-secret"}
            given = {**where, "database": "app", "autocommit": autocommit, **variant, **keywords}
            connection = driver.connect(**given, instrumented_wrapper=options)
            stack.callback(close, connection)
            return connection

        yield connect


def close(connection: Any) -> None:
    with suppress(Exception):  # closed by the test
        connection.close()
