"""An app of the AWS Advanced Python Driver, over each driver that it supports, sync and async behind one face.

It knows nothing of the wrapper under test. A test is an ``async def``; on the sync side nothing waits for the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

import pytest
from aws_advanced_python_wrapper import AwsWrapperConnection
from aws_advanced_python_wrapper.aio import AsyncAwsWrapperConnection
from aws_advanced_python_wrapper.aio import wrapper as aio_wrapper
from aws_advanced_python_wrapper.database_dialect import DatabaseDialectManager

from tests.drivers.aws.topology import AsyncPairTopology, MySQLPair, PostgreSQLPair
from tests.drivers.side import done

FAILOVER: Final = "failover_v2"
SPLITTING: Final = "read_write_splitting,failover_v2"
# What an app sets, how it reads that, and what it reads then.
_POSTGRESQL: Final = {
    "search_path": (
        "SET search_path TO app_schema, public",
        "SHOW search_path",
        "app_schema, public",
    ),
    "statement_timeout": ("SET statement_timeout = '12s'", "SHOW statement_timeout", "12s"),
    "app.tenant": ("SET app.tenant = 'acme'", "SELECT coalesce(current_setting('app.tenant', true), '')", "acme"),
}
_MYSQL: Final = {
    "time_zone": ("SET SESSION time_zone = '+03:00'", "SELECT @@time_zone", "+03:00"),
    "lock_wait_timeout": ("SET SESSION lock_wait_timeout = 77", "SELECT @@lock_wait_timeout", 77),
    "@tenant": ("SET @tenant = 'acme'", "SELECT @tenant", "acme"),
}
DATABASES: Final = {"psycopg": ["postgresql"], "psycopg async": ["postgresql"]}
for _name in ("mysql.connector", "mysql.connector in C", "aiomysql"):
    DATABASES[_name] = ["mariadb", "mysql"]
KINDS: Final = [f"{driver} {database}" for driver, databases in DATABASES.items() for database in databases]


class App:
    """One driver at one pair of servers.

    Attributes:
        driver: its name, as telemetry has it.
        is_async: it belongs to asyncio.
        settings: names of what it sets.
        texts: for each the statement that sets it, the one that reads it, and what is read then.
        variant: the keywords by which the driver is chosen.
    """

    def __init__(self, kind: str, pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pair = pair
        driver, _, database = kind.rpartition(" ")
        self.is_postgresql = database == "postgresql"
        self.is_async = driver in ("psycopg async", "aiomysql")
        self.driver = driver.split(" ")[0]
        try:
            module = import_module(self.driver)
            if driver.endswith(" in C"):
                import_module("_mysql_connector")
        except ImportError as error:
            pytest.skip(f"{driver} is not installed, or can only be loaded first (`python -m tests`): {error}")
        self.error: type[Exception] = module.Error
        self.variant = {} if self.driver != "mysql.connector" else {"use_pure": not driver.endswith(" in C")}
        self.keywords = {
            "user": "app",
            "password": "app-secret",
            "dbname" if self.is_postgresql else "db": "app",
            **self.variant,
        }
        self.target = _target(driver, module)
        self.texts: dict[str, Any] = dict(_POSTGRESQL if self.is_postgresql else _MYSQL)
        self.settings = tuple(self.texts)
        self.other_text = (
            "SET statement_timeout = '34s'" if self.is_postgresql else "SET SESSION lock_wait_timeout = 34"
        )
        self.other_value = "34s" if self.is_postgresql else "34"  # of the second setting
        self._opened: list[Any] = []
        hosts = [(server.host, server.port) for server in pair.servers]
        dialect = (PostgreSQLPair if self.is_postgresql else MySQLPair)(hosts)
        DatabaseDialectManager.set_custom_dialect(dialect)

        def topology(props: Any, driver_dialect: Any, *given: Any, **known: Any) -> AsyncPairTopology:
            return AsyncPairTopology(driver_dialect, self.target, dialect.is_reader_query, props, hosts)

        monkeypatch.setattr(aio_wrapper, "_build_host_list_provider", topology)

    async def connect(self, plugins: str = FAILOVER, server: Any = None, **keywords: Any) -> Any:
        """Connect to a server, the primary by default; what is open when the test ends is closed then."""
        at = server or self.pair.primary
        given = {"plugins": plugins, "failover_timeout_sec": 30, "autocommit": True, "connect_timeout": 10, **keywords}
        wrapper = AsyncAwsWrapperConnection if self.is_async else AwsWrapperConnection
        where = {"host": at.host, "port": at.port if self.is_postgresql else int(at.port)}
        connection = await done(wrapper.connect(self.target, **where, **self.keywords, **given))
        self._opened.append(connection)
        return connection

    async def close(self) -> None:
        """Close what the test has left open, and put the driver's own dialects back."""
        DatabaseDialectManager.reset_custom_dialect()
        for connection in self._opened:
            await done(connection.close())
            for kept in _kept_by_plugins(connection) if self.is_async else ():
                await done(kept.close())

    async def execute(self, connection: Any, text: str) -> list[tuple[Any, ...]]:
        """Run a statement; return its rows."""
        cursor = connection.cursor()
        await done(cursor.execute(text))
        rows = await done(cursor.fetchall()) if cursor.description else []
        await done(cursor.close())
        return list(rows)

    async def set_up(self, connection: Any, *names: str) -> None:
        """Set settings, all by default, as an app does it."""
        for name in names or self.settings:
            await self.execute(connection, self.texts[name][0])

    async def on_server(self, connection: Any, *names: str) -> dict[str, Any]:
        """Return what the server has for these settings, all by default."""
        return {n: (await self.execute(connection, self.texts[n][1]))[0][0] for n in names or self.settings}

    def wanted(self, *names: str) -> dict[str, Any]:
        """Return what the server has after `set_up`."""
        return {name: self.texts[name][2] for name in names or self.settings}

    async def set_read_only(self, connection: Any, value: bool) -> None:
        if self.is_async:
            await connection.set_read_only(value)
        else:
            connection.read_only = value

    async def set_autocommit(self, connection: Any, value: bool) -> None:
        if self.is_async:
            await connection.set_autocommit(value)
        else:
            connection.autocommit = value

    def autocommit(self, connection: Any) -> bool:
        """Return what the driver's own connection has; of MySQL it is what the server has reported."""
        held = connection.target_connection
        return bool(held.get_autocommit() if hasattr(held, "get_autocommit") else held.autocommit)

    def own_default(self) -> tuple[str, str, str]:
        """Return a setting, another default for one server, and how the app reads it."""
        name, value = ("statement_timeout", "77s") if self.is_postgresql else ("lock_wait_timeout", "4242")
        return name, value, self.texts[name][1]

    @contextmanager
    def default_of(self, server: Any, value: str) -> Iterator[None]:
        """While inside, new sessions of a server begin with the value of `own_default`."""
        begin, end = self._defaults(value)
        for text in begin:
            server.sql(text)
        try:
            yield
        finally:
            for text in end:
                server.sql(text)

    def _defaults(self, value: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if not self.is_postgresql:
            name = "lock_wait_timeout"
            return (f"SET GLOBAL {name} = {value}",), (f"SET GLOBAL {name} = DEFAULT",)
        reload = "SELECT pg_reload_conf()"
        text = "ALTER SYSTEM SET statement_timeout = "
        return (f"{text}'{value}'", reload), ("ALTER SYSTEM RESET statement_timeout", reload)

    async def port(self, connection: Any) -> int:
        """Return the port of the server, as the server has it."""
        text = "SELECT current_setting('port')::int" if self.is_postgresql else "SELECT @@port"
        return int((await self.execute(connection, text))[0][0])

    def callback(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a handler, which is a coroutine function on the async side."""

        async def waited(*given: Any) -> Any:
            return function(*given)

        return waited if self.is_async else function


def _kept_by_plugins(connection: Any) -> list[Any]:
    """Return the connections that the package `aio` leaves open when the app closes its own."""
    plugins = connection._plugin_manager.plugins
    found = [getattr(plugin, name, None) for plugin in plugins for name in ("_reader_conn", "_writer_conn")]
    return [held for held in found if held is not None]


def _target(driver: str, module: Any) -> Any:
    if driver.startswith("psycopg"):
        return (module.AsyncConnection if driver.endswith("async") else module.Connection).connect
    return module.connect
