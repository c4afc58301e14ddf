"""The supported drivers and pools, one entry each: the only place where a driver or a pool is registered.

Pure: an entry has names only, and nothing is imported for its sake. Options, patching, telemetry, the report of
``python -m instrumented_wrapper`` and the tests of the documentation read the entries.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

_NUMBERS: Final = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class DriverEntry:
    """One driver.

    Attributes:
        module: the module that the app imports. The option `drivers` and telemetry use it as the driver's name.
        room: the module that patches it, with ``DRIVER``, ``install(patches, options, flows)`` and, where they are
            needed, ``PARTS`` (see `self_test.missing`) and ``uninstall()``.
        project: the name under which its project is known.
        oldest: the oldest version that is supported; empty for a module of Python's own.
        version_in: the attribute of `module`, perhaps of a module in it, that has its version, as text or as a tuple.
        has_server: False if a database is a file, so that there is no failover.
        instrumentor: OpenTelemetry's instrumentation of it, as module and class.
        tracer: the driver's own instrumentation, as module and class.
    """

    module: str
    room: str
    project: str
    oldest: tuple[int, ...] = ()
    version_in: str = "__version__"
    has_server: bool = True
    instrumentor: tuple[str, str] | None = None
    tracer: tuple[str, str] | None = None

    @property
    def driver(self) -> str:
        """Return the driver's name."""
        return self.module

    def too_old(self, module: object) -> str:
        """Return the version of the imported `module` if it is not supported, else an empty string."""
        version = functools.reduce(lambda owner, name: getattr(owner, name, ""), self.version_in.split("."), module)
        found = _NUMBERS.findall(str(version))[:3]
        numbers = tuple(map(int, found))[: len(self.oldest)]
        return ".".join(found) if numbers < self.oldest and found else ""


@dataclass(frozen=True, slots=True)
class PoolEntry:
    """One connection pool, or anything else that hands out connections of a driver or lies over them.

    Attributes:
        module: the module that the app imports.
        room: the module that patches it, with ``install(patches, options, flows)`` and, for a pool, ``PARTS``.
        driver: the driver whose connections it has; empty if it takes those of any driver.
        holders: the classes of what the app holds instead of the driver's connection, each with the attribute that
            leads to that; a subclass is found by its base.
        calls: the coroutine method of a holder that calls a function in the thread of its connection, if it has one.
    """

    module: str
    room: str
    driver: str = ""
    holders: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    calls: str = ""


@dataclass(frozen=True, slots=True)
class PartEntry:
    """A part of a driver that has a `Driver` of its own, without failover.

    Attributes:
        module: the module that the app imports.
        room: the module that patches it, with ``install(patches, options, flows)`` and ``DRIVER``.
        driver: the driver that it is a part of, which the option `drivers` names.
        holders: none.
    """

    module: str
    room: str
    driver: str
    holders: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


Entry: TypeAlias = DriverEntry | PoolEntry | PartEntry
_entries: dict[str, Entry] = {}


@functools.cache
def holders() -> Mapping[str, str]:
    """Return the classes that hold a connection of a driver, each with the attribute that leads to it."""
    holding = (entry for entry in _entries.values() if not isinstance(entry, DriverEntry))
    return {name: attribute for entry in holding for name, attribute in entry.holders.items()}


@functools.cache
def thread_calls() -> Mapping[str, str]:
    """Return the classes that hold a connection in a thread, each with the method that calls a function there."""
    threads = (entry for entry in _entries.values() if isinstance(entry, PoolEntry) and entry.calls)
    return {name: entry.calls for entry in threads for name in entry.holders}


def register(*added: Entry) -> None:
    """Add drivers or pools; those that `instrument()` patches have to be registered before it is called."""
    _entries.update((entry.module, entry) for entry in added)
    _forget_derived()


def unregister(module: str) -> None:
    """Remove the driver or pool of a module."""
    del _entries[module]
    _forget_derived()


def _forget_derived() -> None:
    holders.cache_clear()
    thread_calls.cache_clear()


def entries() -> Mapping[str, Entry]:
    """Return all entries by the module that the app imports, drivers before the pools over them."""
    return MappingProxyType(_entries)


def driver_entries() -> dict[str, DriverEntry]:
    """Return the entries of drivers, by name."""
    return {name: entry for name, entry in _entries.items() if isinstance(entry, DriverEntry)}


def driver_rooms() -> dict[str, str]:
    """Return the rooms of drivers, and of parts with a driver of their own, by module."""
    return {name: entry.room for name, entry in _entries.items() if isinstance(entry, DriverEntry | PartEntry)}


def driver_names() -> tuple[str, ...]:
    """Return the names of the drivers that the option `drivers` accepts."""
    return tuple(driver_entries())


_DRIVERS: Final = "instrumented_wrapper.drivers."
_POOLS: Final = "instrumented_wrapper.pools."
_LAYERS: Final = "instrumented_wrapper.layers."
_OTEL: Final = "opentelemetry.instrumentation."

register(
    DriverEntry(
        "psycopg",
        _DRIVERS + "psycopg.install",
        project="psycopg",
        oldest=(3, 2),
        instrumentor=(_OTEL + "psycopg", "PsycopgInstrumentor"),
    ),
    DriverEntry(
        "psycopg2",
        _DRIVERS + "psycopg2.install",
        project="psycopg2",
        oldest=(2, 9, 2),  # the first that Python 3.11 can import
        instrumentor=(_OTEL + "psycopg2", "Psycopg2Instrumentor"),
    ),
    DriverEntry(
        "asyncpg",
        _DRIVERS + "asyncpg.install",
        project="asyncpg",
        oldest=(0, 29),
        instrumentor=(_OTEL + "asyncpg", "AsyncPGInstrumentor"),
    ),
    DriverEntry("pg8000", _DRIVERS + "pg8000.install", project="pg8000", oldest=(1, 31)),
    DriverEntry(
        "pymysql",
        _DRIVERS + "pymysql.install",
        project="PyMySQL",
        oldest=(1, 1),
        version_in="VERSION",  # its ``__version__`` is one of mysqlclient's
        instrumentor=(_OTEL + "pymysql", "PyMySQLInstrumentor"),
    ),
    DriverEntry(
        "mysql.connector",
        _DRIVERS + "mysql_connector.install",
        project="mysql-connector-python",
        oldest=(8, 4),
        instrumentor=(_OTEL + "mysql", "MySQLInstrumentor"),
        tracer=("mysql.connector.opentelemetry.instrumentation", "MySQLInstrumentor"),
    ),
    DriverEntry(
        "MySQLdb",
        _DRIVERS + "mysqlclient.install",
        project="mysqlclient",
        oldest=(2, 2),
        version_in="version_info",
        instrumentor=(_OTEL + "mysqlclient", "MySQLClientInstrumentor"),
    ),
    DriverEntry("aiomysql", _DRIVERS + "aiomysql.install", project="aiomysql", oldest=(0, 2)),
    DriverEntry(
        "asyncmy",
        _DRIVERS + "asyncmy.install",
        project="asyncmy",
        oldest=(0, 2, 18),  # its protocol was another one before
        version_in="version.__VERSION__",
    ),
    DriverEntry(
        "sqlite3",
        _DRIVERS + "sqlite3.install",
        project="sqlite3",
        has_server=False,
        instrumentor=(_OTEL + "sqlite3", "SQLite3Instrumentor"),
    ),
    PoolEntry(
        "aiosqlite",
        _DRIVERS + "aiosqlite",
        driver="sqlite3",
        holders={"aiosqlite.core.Connection": "_connection"},
        calls="_execute",
    ),
    PartEntry("mysql.connector.aio", _DRIVERS + "mysql_connector_aio.install", driver="mysql.connector"),
    PoolEntry("psycopg_pool", _POOLS + "psycopg_pool", driver="psycopg"),
    PoolEntry("psycopg2.pool", _POOLS + "psycopg2", driver="psycopg2"),
    PoolEntry(
        "mysql.connector.pooling",
        _POOLS + "mysql_connector",
        driver="mysql.connector",
        holders={"mysql.connector.pooling.PooledMySQLConnection": "_cnx"},
    ),
    PoolEntry(
        "mysql.connector.aio.pooling",
        _POOLS + "mysql_connector_aio",
        driver="mysql.connector",
        holders={"mysql.connector.aio.pooling.PooledMySQLConnection": "_cnx"},
    ),
    PoolEntry("aiomysql.pool", _POOLS + "aiomysql", driver="aiomysql"),
    PoolEntry("asyncmy.pool", _POOLS + "asyncmy", driver="asyncmy"),
    PoolEntry(
        "asyncpg.pool", _POOLS + "asyncpg", driver="asyncpg", holders={"asyncpg.pool.PoolConnectionProxy": "_con"}
    ),
    PoolEntry(
        "sqlalchemy",
        _POOLS + "sqlalchemy",
        holders={
            "sqlalchemy.ext.asyncio.engine.AsyncConnection": "sync_connection",
            "sqlalchemy.engine.base.Connection": "connection",
            "sqlalchemy.pool.base.ManagesConnection": "dbapi_connection",  # what is pooled, and what is checked out
            "sqlalchemy.engine.interfaces.AdaptedConnection": "driver_connection",  # of asyncio's drivers
        },
    ),
    PoolEntry("django.db.backends.base.base", _POOLS + "django"),
    PoolEntry("celery.fixups.django", _POOLS + "celery"),
    PoolEntry("dbutils.steady_db", _POOLS + "dbutils_steady", holders={"dbutils.steady_db.SteadyDBConnection": "_con"}),
    PoolEntry(
        "dbutils.pooled_db",
        _POOLS + "dbutils_pooled",
        holders={
            "dbutils.pooled_db.PooledDedicatedDBConnection": "_con",
            "dbutils.pooled_db.PooledSharedDBConnection": "_con",
        },
    ),
    PoolEntry("playhouse.pool", _POOLS + "peewee"),
    PoolEntry(
        "aws_advanced_python_wrapper",
        _LAYERS + "aws",
        holders={"aws_advanced_python_wrapper.AwsWrapperConnection": "target_connection"},
    ),
    PoolEntry(
        "aws_advanced_python_wrapper.aio",
        _LAYERS + "aws_aio",
        holders={"aws_advanced_python_wrapper.aio.AsyncAwsWrapperConnection": "target_connection"},
    ),
)
