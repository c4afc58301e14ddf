"""What is patched of sqlite3, as a list: how connections are made, and the calls of our classes."""

from __future__ import annotations

import functools
import sqlite3
import sqlite3.dbapi2
import threading
from collections.abc import Callable
from typing import Any, Final

from instrumented_wrapper.databases import sqlite
from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.flow import StatementFlow
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.request import Request
from instrumented_wrapper.drivers.engine.sync_calls import MethodWrappers
from instrumented_wrapper.drivers.engine.sync_closing import closing, setting
from instrumented_wrapper.drivers.sqlite3.adapter import HIDDEN, SETTINGS, Files, SQLite
from instrumented_wrapper.drivers.sqlite3.classes import C_CONNECTION as _C
from instrumented_wrapper.drivers.sqlite3.classes import C_CURSOR as _K
from instrumented_wrapper.drivers.sqlite3.classes import Making, Watched, WatchedCursor, combined
from instrumented_wrapper.drivers.sqlite3.connect import Maker
from instrumented_wrapper.drivers.sqlite3.statements import Statements
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches

Method = Callable[..., Any]
ADAPTER: Final = SQLite()
DRIVER: Final = Files(ADAPTER)


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch sqlite3."""
    spans = QuerySpans(ADAPTER, flows.operations)
    maker = Maker(ADAPTER, spans, options)
    connect = maker.connect(sqlite3.connect)
    for module in (sqlite3, sqlite3.dbapi2):
        patches.replace(module, "connect", connect)
        patches.replace(module, "Connection", Watched)  # so that it is the type of what connect() returns
        patches.replace(module, "Cursor", WatchedCursor)
    patches.replace(Making, "__call__", maker.call(type.__call__))
    patches.replace(Watched, "__init__", maker.init(_C.__init__))
    _patch_settings(patches, flows)
    _patch_calls(patches, MethodWrappers(ADAPTER, StatementFlow(ADAPTER, DRIVER, flows), spans), spans)
    patches.replace(Watched, "close", closing(ADAPTER, DRIVER, flows)(_C.close))
    patches.replace(Watched, "set_trace_callback", _tracing(_C.set_trace_callback))


def _patch_settings(patches: Patches, flows: Flows) -> None:
    for name in SETTINGS:
        member = getattr(_C, name)
        change = setting(DRIVER, flows, functools.partial(_only, name))(_changing(name, member.__set__))
        patches.replace(Watched, name, property(member.__get__, change, doc=member.__doc__))


def _only(name: str, value: object) -> tuple[str, ...]:
    return (name,)


def _changing(name: str, original: Method) -> Method:
    """Setting ``autocommit`` ends what was open."""
    if name != "autocommit":
        return original

    def change(self: Any, value: object) -> None:
        original(self, value)
        if (record := record_of(self)) is not None:
            record.used = False

    return change


def _patch_calls(patches: Patches, calls: MethodWrappers, spans: QuerySpans) -> None:
    statements = Statements(calls, spans)
    for name in ("execute", "executemany", "executescript"):
        method = getattr(statements, name)(getattr(_K, name))
        patches.replace(WatchedCursor, name, method)
        make = statements.shortcut if name == "execute" else _shortcut
        patches.replace(Watched, name, make(getattr(_C, name), method))
    patches.replace(Watched, "cursor", _cursor(_C.cursor))
    for name, command in (("commit", "COMMIT"), ("rollback", "ROLLBACK"), ("__exit__", "")):
        patches.replace(Watched, name, statements.ending(getattr(_C, name), command))
    if hasattr(_C, "setconfig"):
        patches.replace(Watched, "setconfig", calls.call(_C.setconfig, Request.STATEMENT, effects=_configuring))


def _configuring(record: Record, number: int = 0, *args: object) -> Any:
    return sqlite.configures(number)


def _shortcut(original: Method, method: Method) -> Method:
    """What the C class's shortcuts do: they use a plain cursor, whatever a subclass's ``cursor`` does."""
    make = _C.cursor

    @functools.wraps(original)
    def shortcut(self: Any, /, *args: object, **kwargs: object) -> Any:
        return method(make(self, WatchedCursor), *args, **kwargs)

    return shortcut


def _cursor(original: Method) -> Method:
    @functools.wraps(original)
    def cursor(self: Any, factory: Any = WatchedCursor) -> Any:
        ours = isinstance(factory, type) and issubclass(factory, _K)
        return original(self, combined(factory, WatchedCursor) if ours else factory)

    return cursor


def _tracing(original: Method) -> Method:
    """Hide the wrapper's own statements from the app's trace callback."""

    @functools.wraps(original)
    def set_trace_callback(self: Any, /, *args: object, **kwargs: object) -> None:
        hidden = getattr(self, "__dict__", {}).setdefault(HIDDEN, set())
        given = [_hiding(hidden, one) for one in args]
        original(self, *given, **{name: _hiding(hidden, one) for name, one in kwargs.items()})

    return set_trace_callback


def _hiding(hidden: set[int], callback: object) -> Any:
    if not callable(callback):
        return callback

    @functools.wraps(callback)
    def traced(text: object) -> Any:
        return None if threading.get_ident() in hidden else callback(text)

    return traced
