"""What is patched of sqlite3, as a list: how it connects, and the calls of our subclasses."""

from __future__ import annotations

import functools
import sqlite3
import sqlite3.dbapi2
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from instrumented_wrapper.databases import sqlite
from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.blocking.adapter import Blocking
from instrumented_wrapper.drivers.blocking.calls import Calls
from instrumented_wrapper.drivers.blocking.closing import closing, setting
from instrumented_wrapper.drivers.blocking.losses import Call
from instrumented_wrapper.drivers.blocking.records import Arguments, Record
from instrumented_wrapper.drivers.blocking.steps import Steps
from instrumented_wrapper.drivers.blocking.telling import Telling
from instrumented_wrapper.drivers.sqlite3.native import SETTINGS, SQLite, readable
from instrumented_wrapper.drivers.watching import KEY, drop_all, unwrapped
from instrumented_wrapper.operations import Site
from instrumented_wrapper.options import Options, take_keywords
from instrumented_wrapper.patching import Patches

__all__ = ["DRIVER", "install", "uninstall"]

Method = Callable[..., Any]
NATIVE: Final = SQLite()
DRIVER: Final = Blocking(NATIVE)
_C: Final[Any] = sqlite3.Connection
_K: Final[Any] = sqlite3.Cursor
_connection: Final = _K.connection.__get__
_FACTORY: Final = 5  # the place of ``factory`` among the positional arguments of ``connect``


class WatchedCursor(_K):  # type: ignore[misc]
    """A cursor of a connection that is looked after."""


class _AsTheirs(type(_C)):  # type: ignore[misc]
    """While ours stands for ``sqlite3.Connection``, whatever is one of theirs is one of it."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return issubclass(type(instance), cls)

    def __subclasscheck__(cls, subclass: Any) -> bool:
        return type.__subclasscheck__(_C if cls is Watched else cls, subclass)


class Watched(_C, metaclass=_AsTheirs):  # type: ignore[misc]
    """A connection that is looked after.

    The C class's own shortcuts make cursors of the C class: here they make those of the connection.
    """

    def cursor(self, factory: Any = _K) -> Any:
        """Make a cursor, by the app's factory where it gives one."""
        ours = isinstance(factory, type) and issubclass(factory, _K)
        return _C.cursor(self, _combined(factory, WatchedCursor) if ours else factory)

    def execute(self, *args: Any) -> Any:
        """Run a statement on a new cursor."""
        return _new_cursor(self).execute(*args)

    def executemany(self, *args: Any) -> Any:
        """Run a statement for each set of parameters on a new cursor."""
        return _new_cursor(self).executemany(*args)

    def executescript(self, *args: Any) -> Any:
        """Run several statements on a new cursor."""
        return _new_cursor(self).executescript(*args)


def _new_cursor(connection: Any) -> Any:
    """Return what the C class's shortcuts use: a plain cursor, whatever a subclass's ``cursor`` does."""
    return _C.cursor(connection, WatchedCursor)


Watched.__name__ = Watched.__qualname__ = _C.__name__
Watched.__module__ = _C.__module__
_kinds: dict[tuple[type[Any], type[Any]], type[Any]] = {}


def _combined(theirs: type[Any], ours: type[Any]) -> type[Any]:
    """Return a class that is `theirs`, with `ours` between it and the C class."""
    if ours in theirs.__mro__:
        return theirs
    if theirs in (_C, _K):
        return ours
    if (known := _kinds.get((theirs, ours))) is None:
        namespace = {"__module__": theirs.__module__, "__qualname__": theirs.__qualname__}
        known = _kinds[theirs, ours] = type(theirs.__name__, (theirs, ours), namespace)
    return known


def install(patches: Patches, options: Options, flows: Flows) -> str:
    """Patch sqlite3. Returns what was done, for a user who asks."""
    options = replace(options, failover="off")  # there is no server
    telling = Telling(NATIVE, flows.operations)
    calls = Calls(NATIVE, Steps(NATIVE, DRIVER, flows), telling)
    connect = _connecting(options, telling, sqlite3.connect)
    for module in (sqlite3, sqlite3.dbapi2):
        patches.replace(module, "connect", connect)
        patches.replace(module, "Connection", Watched)  # so that it is the type of what connect() returns
    _patch(patches, calls, telling, flows)
    return "patched"


def uninstall() -> None:
    """Forget the connections that were watched; they go on working."""
    drop_all(NATIVE.name)


def _patch(patches: Patches, calls: Calls, telling: Telling, flows: Flows) -> None:
    def call(name: str, what: Call) -> None:
        begin = functools.partial(telling.command, name.upper())
        patches.replace(Watched, name, calls.call(getattr(_C, name), what, begin))

    call("commit", Call.COMMIT)
    call("rollback", Call.ROLLBACK)
    patches.replace(Watched, "close", closing(NATIVE, DRIVER, flows)(_C.close))
    for name in SETTINGS:
        member = getattr(_C, name)
        change = setting(DRIVER, flows, functools.partial(_only, name))(member.__set__)
        patches.replace(Watched, name, property(member.__get__, change, doc=member.__doc__))
    for name, begin in (("executemany", telling.batch), ("executescript", telling.script)):
        patches.replace(WatchedCursor, name, calls.statement(getattr(_K, name), _connection, "sql", begin))
    patches.replace(WatchedCursor, "execute", _executing(calls, telling, _K.execute))


def _executing(calls: Calls, telling: Telling, original: Method) -> Method:
    """``execute``: there are no losses, so that a plain statement nobody listens to only has to be known as such."""
    carefully, memo, nobody = calls.statement(original, _connection, "sql"), calls.memo, telling.nobody

    @functools.wraps(original)
    def execute(self: Any, sql: Any, *parameters: Any) -> Any:
        record: Record | None = _connection(self).__dict__.get(KEY)
        if record is None or record.alert or not nobody() or memo.get(sql, KEY) is not None:
            return carefully(self, sql, *parameters)
        record.used = True
        return original(self, sql, *parameters)

    return execute


def _only(name: str, value: Any) -> tuple[str, ...]:
    return (name,)


def _connecting(options: Options, telling: Telling, original: Method) -> Method:
    """``sqlite3.connect``: our keywords are taken out, our class goes between the app's and the C class."""

    @functools.wraps(original)
    def connect(*args: Any, **kwargs: Any) -> Any:
        ours = take_keywords(kwargs)
        checked = replace(options.with_keywords(ours, "connect"), failover="off") if ours else options
        given = args[_FACTORY] if len(args) > _FACTORY else kwargs.get("factory", _C)
        if not (isinstance(given, type) and issubclass(given, _C)):  # a function of the app's
            return original(*args, **kwargs)
        factory = _combined(given, Watched)
        if len(args) > _FACTORY:
            args = (*args[:_FACTORY], factory, *args[_FACTORY + 1 :])
        else:
            kwargs["factory"] = factory
        name = readable(args[0] if args else kwargs.get("database", ""))
        with telling.connect(checked, lambda: Site(sqlite.SYSTEM, name, "", None)):
            connection = original(*args, **kwargs)
        itself = unwrapped(connection)
        record = Record(NATIVE, itself, checked, Arguments((name,), {}))
        record.attach(itself, ())
        record.tells = telling.wants(checked)
        return connection

    return connect
