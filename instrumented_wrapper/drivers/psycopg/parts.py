"""The private parts of psycopg that are used, and the self-test that looks for them once, when patching.

Knows names and signatures only.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, AsyncTransaction, BaseConnection, Connection, Transaction
from psycopg._preparing import PrepareManager
from psycopg.generators import execute

__all__ = [
    "OLDEST",
    "AsyncConnection",
    "BaseConnection",
    "BaseCursor",
    "Connection",
    "PrepareManager",
    "execute",
    "missing_parts",
]

OLDEST: Final = (3, 2)
BaseCursor: Any = next(kind for kind in psycopg.Cursor.__mro__ if kind.__name__ == "BaseCursor")  # 3.1: elsewhere
BaseTransaction: Any = Transaction.__mro__[1]
ClientCursorMixin: Any = next(kind for kind in psycopg.ClientCursor.__mro__ if "mogrify" in vars(kind))

_METHODS: Final[dict[Any, tuple[str, ...]]] = {
    BaseConnection: (
        "_set_autocommit_gen",
        "_set_isolation_level_gen",
        "_set_read_only_gen",
        "_set_deferrable_gen",
        "_exec_command",
        "_check_connection_ok",
        "_notice_handler",
        "_notify_handler",
    ),
    Connection: ("wait", "connect", "close", "_get_connection_params"),
    AsyncConnection: ("wait", "connect", "close", "_get_connection_params"),
    BaseCursor: ("_convert_query", "_execute_gen", "_start_query"),
    BaseTransaction: ("_enter_gen", "_exit_gen", "_pop_savepoint"),
    psycopg.Pipeline: ("__exit__",),
    psycopg.AsyncPipeline: ("__aexit__",),
    Transaction: ("__enter__", "__exit__"),
    AsyncTransaction: ("__aenter__", "__aexit__"),
}
# Set by BaseConnection.__init__: read, copied or replaced in a switch.
_ATTRIBUTES: Final = (
    "pgconn",
    "_autocommit",
    "_isolation_level",
    "_read_only",
    "_deferrable",
    "_begin_statement",
    "_adapters",
    "_closed",
    "_num_transactions",
    "_pipeline",
    "_prepared",
    "_tpc",
)


class _NoConnection:
    """Enough of a PGconn for ``BaseConnection.__init__``; it counts as closed."""

    notice_handler: Any = None
    notify_handler: Any = None
    status = psycopg.pq.ConnStatus.BAD


def missing_parts() -> list[str]:
    """Return what this version of psycopg lacks of the private parts that are used; empty where all is well."""
    missing = [
        f"{owner.__name__}.{name}"
        for owner, names in _METHODS.items()
        for name in names
        if not callable(getattr(owner, name, None))
    ]
    missing += [f"Connection.{name}" for name in _ATTRIBUTES if name not in _attributes()]
    missing += [] if hasattr(vars(BaseCursor).get("_pgconn"), "__set__") else ["BaseCursor._pgconn"]
    missing += [] if _takes(BaseConnection._exec_command, "command") else ["BaseConnection._exec_command(command)"]
    missing += [] if _takes(BaseCursor._convert_query, "query") else ["BaseCursor._convert_query(query)"]
    missing += [] if _takes(BaseCursor._start_query, "query") else ["BaseCursor._start_query(query)"]
    missing += [] if _takes(Connection.wait, "gen") else ["Connection.wait(gen)"]
    missing += [] if _takes(Connection.wait, "interval") else ["Connection.wait(interval)"]
    return missing


def _attributes() -> set[str]:
    connection: Any = object.__new__(Connection)
    try:
        BaseConnection.__init__(connection, _NoConnection())  # type: ignore[arg-type]
    except Exception as error:  # noqa: BLE001 - a constructor that changed is what the self-test is there to find
        return {type(error).__name__}
    return set(vars(connection))


def _takes(function: Any, parameter: str) -> bool:
    return parameter in inspect.signature(function).parameters
