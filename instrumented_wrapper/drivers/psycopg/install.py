"""What is patched in psycopg, as a list."""

from __future__ import annotations

import functools
import gc
import logging
from collections.abc import Callable
from typing import Any

import psycopg

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.psycopg import (
    connect,
    operations,
    seams,
    server_cursors,
    statements,
    transactions,
    unanswered,
    waiting,
)
from instrumented_wrapper.drivers.psycopg.driver import SETTINGS, Psycopg
from instrumented_wrapper.drivers.psycopg.private_api import (
    AsyncConnection,
    BaseConnection,
    BaseCursor,
    ClientCursorMixin,
    Connection,
    missing_parts,
)
from instrumented_wrapper.drivers.registry import drop_all
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches

logger = logging.getLogger("instrumented_wrapper")
DRIVER = Psycopg()


def install(patches: Patches, options: Options, flows: Flows) -> str:
    """Patch psycopg's classes; return a word on what was done, for the user."""
    spans = QuerySpans(DRIVER, flows.operations)
    if missing := missing_parts():
        logger.warning("psycopg %s lacks %s: it is only observed", psycopg.__version__, ", ".join(missing))
        _observe(patches, options.with_keywords(_ONLY_OBSERVE, "self-test"), flows, spans)
        operations.install(patches, spans)
        return f"only observed: it lacks {', '.join(missing)}"
    _observe(patches, options, flows, spans)
    _look_after(patches, flows, spans)
    unanswered.install(patches)
    operations.install(patches, spans)  # last: the time of an operation has all of ours in it
    return "patched"


_ONLY_OBSERVE: dict[str, Any] = {"failover": "off", "reset_session_state_on_close": False}


def _observe(patches: Patches, options: Options, flows: Flows, spans: QuerySpans) -> None:
    """What is needed to see a loss: public methods, and the constructor."""
    patches.close_over(BaseConnection, "__init__", connect.attaching(options, patches, spans))
    patches.close_over(Connection, "wait", functools.partial(waiting.wait, driver=DRIVER, flows=flows))
    patches.close_over(AsyncConnection, "wait", functools.partial(waiting.wait_async, driver=DRIVER, flows=flows))
    patches.wrap(Connection, "connect", connect.connecting_with(options, spans, flows))
    patches.wrap(AsyncConnection, "connect", connect.connecting_with_async(options, spans, flows))
    patches.replace(psycopg, "connect", Connection.connect)
    for kind in (Connection, AsyncConnection):
        if hasattr(kind, "_get_connection_params"):
            patches.close_over(kind, "_get_connection_params", connect.parameters(options))


def _look_after(patches: Patches, flows: Flows, spans: QuerySpans) -> None:
    for name in SETTINGS:
        patches.close_over(BaseConnection, f"_set_{name}_gen", seams.setting(name, DRIVER, flows))
    patches.close_over(BaseConnection, "_exec_command", statements.commanding(DRIVER, flows, spans))
    patches.close_over(BaseConnection, "_check_connection_ok", seams.checking)
    patches.close_over(ClientCursorMixin, "mogrify", statements.mogrifying)
    own_pgconn = vars(BaseCursor)["_pgconn"]
    patches.replace(BaseCursor, "_pgconn", seams.following(own_pgconn))
    _server_cursors(patches, own_pgconn.__get__)
    patches.close_over(BaseCursor, "_start_query", statements.starting(DRIVER, flows))
    patches.close_over(BaseCursor, "_convert_query", statements.converting)
    for kind in (Connection, AsyncConnection):
        patches.close_over(kind, "close", seams.closing(DRIVER, flows))
    if hasattr(AsyncConnection, "_try_cancel"):  # since 3.2
        patches.close_over(AsyncConnection, "_try_cancel", seams.giving_up)
    patches.close_over(Connection, "__exit__", transactions.leaving_connection)
    patches.close_over(AsyncConnection, "__aexit__", transactions.leaving_connection)
    patches.close_over(psycopg.Pipeline, "__exit__", seams.leaving_pipeline(DRIVER, flows))
    patches.close_over(psycopg.AsyncPipeline, "__aexit__", seams.leaving_pipeline_async(DRIVER, flows))
    patches.close_over(psycopg.Transaction, "__enter__", transactions.entering)
    patches.close_over(psycopg.Transaction, "__exit__", transactions.leaving)
    patches.close_over(psycopg.AsyncTransaction, "__aenter__", transactions.entering_async)
    patches.close_over(psycopg.AsyncTransaction, "__aexit__", transactions.leaving_async)


def _server_cursors(patches: Patches, declared_on: Callable[[Any], Any]) -> None:
    for kind in (psycopg.ServerCursor, psycopg.AsyncServerCursor):
        patches.close_over(kind, "_describe_gen", server_cursors.describing)
        patches.close_over(kind, "_close_gen", server_cursors.closing(declared_on))
        for name in ("_fetch_gen", "_scroll_gen"):
            patches.close_over(kind, name, server_cursors.reading(declared_on))


def uninstall() -> None:
    """Forget the connections that were watched; they go on working, and so do their cursors."""
    drop_all(DRIVER.name)
    for thing in gc.get_objects():
        if issubclass(type(thing), BaseCursor) and hasattr(thing, "_conn"):  # one that was made completely
            thing._pgconn = thing._conn.pgconn  # psycopg's own attribute again: it knows nothing of a switch
