"""The private parts of psycopg that the wrapper uses, for the self-test, which looks for them once, when patching.

Every use of another private name of psycopg must be listed here: ``tests/drivers/patching/test_self_test.py`` renames
each of them in a copy of psycopg.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, AsyncTransaction, BaseConnection, Connection, Transaction, generators
from psycopg._preparing import PrepareManager
from psycopg._queries import PostgresQuery
from psycopg.generators import execute

from instrumented_wrapper.self_test import missing

__all__ = [
    "PARTS",
    "AsyncConnection",
    "BaseConnection",
    "BaseCursor",
    "BaseTransaction",
    "ClientCursorMixin",
    "Connection",
    "PrepareManager",
    "execute",
    "missing_parts",
]

BaseCursor: Any = next(kind for kind in psycopg.Cursor.__mro__ if kind.__name__ == "BaseCursor")  # 3.1: elsewhere
BaseTransaction: Any = Transaction.__mro__[1]
ClientCursorMixin: Any = next(kind for kind in psycopg.ClientCursor.__mro__ if "mogrify" in vars(kind))

_SERVER_CURSOR: Final = "_fetch_gen _scroll_gen _declare_gen _describe_gen _close_gen ._described".split()
_CONNECTION: Final = "wait connect close _get_connection_params".split()
PARTS: Final[dict[Any, list[str]]] = {
    BaseConnection: """_set_autocommit_gen _set_isolation_level_gen _set_read_only_gen _set_deferrable_gen _commit_gen
    _rollback_gen _tpc_prepare_gen _start_query _exec_command _check_connection_ok _notice_handler _notify_handler
    """.split(),
    # Read, copied or replaced in a switch.
    BaseConnection.__init__: """pgconn _autocommit _isolation_level _read_only _deferrable _begin_statement _adapters
    _closed _num_transactions _pipeline _prepared _tpc""".split(),
    Connection: _CONNECTION,
    AsyncConnection: _CONNECTION,
    BaseCursor: """._conn _pgconn _convert_query _execute_gen _executemany_gen_pipeline _executemany_gen_no_pipeline
    _start_query _stream_send_gen _start_copy_gen""".split(),
    psycopg.Cursor: ["_fetch_pipeline"],
    psycopg.AsyncCursor: ["_fetch_pipeline"],
    psycopg.ServerCursor: _SERVER_CURSOR,
    psycopg.AsyncServerCursor: _SERVER_CURSOR,
    BaseTransaction: """_enter_gen _exit_gen _pop_savepoint ._conn ._outer_transaction ._stack_index .force_rollback
    .pgconn""".split(),
    Transaction: ["__enter__", "__exit__"],
    AsyncTransaction: ["__aenter__", "__aexit__"],
    psycopg.Pipeline: "__exit__ ._conn _fetch_gen .command_queue .result_queue .level".split(),
    psycopg.AsyncPipeline: "__aexit__ ._conn _fetch_gen .command_queue .result_queue .level".split(),
    PostgresQuery: ["query", "params", "types"],
    PrepareManager: ["prepare_threshold", "prepared_max"],
    generators: "notifies copy_from copy_to copy_end execute".split(),
}
# Parameters and variables, which are read from frames; the lock of a pipeline was its connection's until 3.2.2.
_VARIABLES: Final[tuple[tuple[Any, str, list[str]], ...]] = (
    (BaseConnection, "_exec_command", ["command", "result_format"]),
    (Connection, "wait", ["gen", "interval"]),
    (AsyncConnection, "wait", ["gen", "interval"]),
    (BaseCursor, "_convert_query", ["query"]),
    (BaseCursor, "_start_query", ["query"]),
    (BaseCursor, "_execute_gen", ["self", "query", "params"]),
    (BaseCursor, "_executemany_gen_pipeline", ["query", "params_seq"]),
    (BaseCursor, "_executemany_gen_no_pipeline", ["query", "params_seq"]),
    (BaseCursor, "_stream_send_gen", ["query"]),
    (BaseCursor, "_start_copy_gen", ["statement"]),
    (psycopg.ServerCursor, "_declare_gen", ["query"]),
    (BaseTransaction, "_enter_gen", ["self"]),
    (BaseTransaction, "_exit_gen", ["self", "exc_val"]),
    (psycopg.Pipeline, "__exit__", ["_lock|lock"]),
    (psycopg.AsyncPipeline, "__aexit__", ["_lock|lock"]),
    (generators, "copy_from", ["pgconn"]),
    (generators, "copy_to", ["pgconn"]),
    (generators, "copy_end", ["pgconn"]),
)


def missing_parts() -> list[str]:
    """Return what this version of psycopg lacks of the private parts that are used; empty where all is well."""
    lacking = missing(PARTS)
    for owner, name, variables in _VARIABLES:
        if (function := getattr(owner, name, None)) is not None:
            lacking += missing({function: variables})
    return lacking if hasattr(vars(BaseCursor).get("_pgconn"), "__set__") else [*lacking, "BaseCursor._pgconn"]
