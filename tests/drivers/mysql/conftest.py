"""Each driver of MariaDB and MySQL, connected to a healthy primary of each, with its replica as the other host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest


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
