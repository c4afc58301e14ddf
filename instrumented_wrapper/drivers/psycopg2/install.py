"""What is patched of psycopg2, as a list: how it connects, the calls of our subclasses, its pools."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

import psycopg2
from psycopg2 import extensions

from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.blocking.adapter import Blocking
from instrumented_wrapper.drivers.blocking.calls import Calls
from instrumented_wrapper.drivers.blocking.closing import closing, setting
from instrumented_wrapper.drivers.blocking.losses import Call
from instrumented_wrapper.drivers.blocking.records import Arguments, Record, record_of
from instrumented_wrapper.drivers.blocking.steps import Steps
from instrumented_wrapper.drivers.blocking.telling import Telling
from instrumented_wrapper.drivers.psycopg2 import holding, libpq, pools, two_phase
from instrumented_wrapper.drivers.psycopg2.classes import (
    C,
    NamedCursor,
    NamedShellCursor,
    Shell,
    ShellCursor,
    Watched,
    WatchedCursor,
    become,
    combined,
    is_left_alone,
    physical,
    struct_of,
)
from instrumented_wrapper.drivers.psycopg2.native import SETTINGS, Psycopg2, hosts_of
from instrumented_wrapper.drivers.watching import KEY, drop_all, watched
from instrumented_wrapper.operations import Site, Words
from instrumented_wrapper.options import Options, take_keywords
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.statement import SET, Effects, Step

__all__ = ["DRIVER", "install", "install_pools", "uninstall"]

logger = logging.getLogger("instrumented_wrapper")
Method = Callable[..., Any]
OLDEST: Final = (2, 9)
NATIVE: Final = Psycopg2()
DRIVER: Final = Blocking(NATIVE)
_K: Final[Any] = extensions.cursor


class _Asked(NamedTuple):
    """How the connection is asked for that is being made."""

    options: Options
    dsn: str


_asked: ContextVar[_Asked | None] = ContextVar("asked", default=None)


def install(patches: Patches, options: Options, flows: Flows) -> str:
    """Patch psycopg2. Returns what was done, for a user who asks."""
    known: Any = psycopg2
    version = tuple(int(part) for part in known.__version__.split()[0].split(".")[:2])
    if version < OLDEST:
        logger.warning("psycopg2 %s is not supported, 2.9 or newer is: it is left alone", known.__version__)
        return "left alone: older than 2.9"
    missing = libpq.missing_functions()
    if missing:
        logger.warning("libpq of psycopg2 lacks %s: it is only observed", ", ".join(missing))
        options = options.with_keywords({"failover": "off", "reset_session_state_on_close": False}, "self-test")
    telling = Telling(NATIVE, flows.operations)
    calls = Calls(NATIVE, Steps(NATIVE, DRIVER, flows), telling)
    patches.replace(psycopg2, "connect", _connecting(options, telling, psycopg2.connect))
    patches.replace(psycopg2, "_connect", _making(options, telling, known._connect))
    for kind in (Watched, Shell):
        _connections(patches, kind, calls, telling, flows)
    for cursor, named in ((WatchedCursor, NamedCursor), (ShellCursor, NamedShellCursor)):
        _cursors(patches, cursor, named, calls, telling)
    return f"only observed: it lacks {', '.join(missing)}" if missing else "patched"


def install_pools(patches: Patches, options: Options, flows: Flows) -> str:
    """Patch psycopg2's pools."""
    pools.install(patches, NATIVE, DRIVER, flows)
    return "patched"


def uninstall() -> None:
    """Forget the connections that were watched; they go on working."""
    for record in watched(NATIVE.name):
        if record.live is not None and (live := record.live()) is not None:
            live.__dict__.pop(KEY, None)
    drop_all(NATIVE.name)


# --- connecting --------------------------------------------------------------------------------------------------


def _connecting(options: Options, telling: Telling, original: Method) -> Method:
    """``psycopg2.connect``: our keywords are taken out before libpq sees them."""

    @functools.wraps(original)
    def connect(dsn: Any = None, connection_factory: Any = None, cursor_factory: Any = None, **kwargs: Any) -> Any:
        ours = take_keywords(kwargs)
        checked = options.with_keywords(ours, "connect") if ours else options
        token = _asked.set(_Asked(checked, ""))
        try:
            with telling.connect(checked, lambda: _asked_for(dsn, kwargs)):
                # by name, as the app gives them: another tool that wraps connect() looks for them there
                factories = {"connection_factory": connection_factory, "cursor_factory": cursor_factory}
                return original(dsn, **{name: it for name, it in factories.items() if it is not None}, **kwargs)
        finally:
            _asked.reset(token)

    return connect


def _asked_for(dsn: Any, keywords: dict[str, Any]) -> Site:
    given = extensions.parse_dsn(extensions.make_dsn(dsn, **keywords))
    hosts = hosts_of(given)
    host, port = hosts[0] if len(hosts) == 1 else ("", None)
    return Site(postgresql.SYSTEM, str(given.get("dbname") or given.get("user") or ""), host, port)


def _making(options: Options, telling: Telling, original: Method) -> Method:
    """``psycopg2._connect``: every connection is made here, with a subclass of the class that the app wants."""

    @functools.wraps(original)
    def _connect(dsn: Any, connection_factory: Any = None, **kwargs: Any) -> Any:
        factory = connection_factory or C
        if any(kwargs.values()) or is_left_alone(factory):
            return original(dsn, connection_factory=connection_factory, **kwargs)
        asked = _asked.get()
        record = Record(NATIVE, _Unborn(), asked.options if asked is not None else options, Arguments((dsn,), {}))
        kind = Shell if _may_switch(record, extensions.parse_dsn(dsn)) else Watched
        is_class = isinstance(factory, type) and issubclass(factory, C)
        token = _unborn.set(record)
        try:
            connection = original(dsn, connection_factory=combined(factory, kind) if is_class else factory, **kwargs)
        finally:
            _unborn.reset(token)
        if is_class or become(connection, kind):
            _born(record, connection, telling)
        return connection

    return _connect


def _may_switch(record: Record, given: dict[str, Any]) -> bool:
    """Which hosts a service has is known when its connection is there."""
    by_service = bool(given.get("service") or os.environ.get("PGSERVICE"))
    return record.would_switch(hosts_of(given)) or (by_service and record.options.failover == "auto")


def _born(record: Record, connection: Any, telling: Telling) -> None:
    """What is done to a connection from now on is the app's doing."""
    if KEY not in connection.__dict__ and NATIVE.socket(connection) is not None:  # a function of the app's has made it
        record.belongs_to(connection)
        NATIVE.attach(record, connection)
    if record.connection() is connection:
        record.tells = telling.wants(record.options)
        if not record.held:
            record.hand_out()


class _Unborn:
    """Stands for a connection until there is one."""


_unborn: ContextVar[Record | None] = ContextVar("unborn", default=None)


def _attaching(original: Method) -> Method:
    """``__init__``: from here on the connection is watched; what a class of the app's does after it is baseline."""

    @functools.wraps(original)
    def __init__(self: Any, dsn: Any, *args: Any, **kwargs: Any) -> None:
        original(self, dsn, *args, **kwargs)
        record = _unborn.get()
        if record is not None and type(record.connection()) in (_Unborn, type(None)):
            record.belongs_to(self)
            record.arguments = Arguments((dsn,), {})  # a class of the app's may have changed it
            NATIVE.attach(record, self)
            record.configuring = True

    return __init__


# --- the calls of connections and cursors ------------------------------------------------------------------------


def _connections(patches: Patches, kind: type[Any], calls: Calls, telling: Telling, flows: Flows) -> None:
    def over(name: str, make: Callable[[Method], Method]) -> None:
        patches.replace(kind, name, make(getattr(kind, name)))

    def ended(name: str) -> Method:
        return functools.partial(telling.command, name)

    if kind is Watched:
        over("__init__", _attaching)
    over("commit", lambda original: _unless_idle(original, calls.call(original, Call.COMMIT, ended("COMMIT"))))
    back = functools.partial(calls.call, call=Call.ROLLBACK, begin=ended("ROLLBACK"))
    over("rollback", lambda original: _unless_idle(original, back(_rolling_back(original))))
    over(
        "tpc_begin", lambda original: calls.call(two_phase.beginning(original), Call.STATEMENT, ended("BEGIN"), _begins)
    )
    over(
        "tpc_prepare",
        lambda original: calls.call(two_phase.preparing(original), Call.LAST, ended("PREPARE TRANSACTION")),
    )
    over("tpc_commit", lambda original: calls.call(two_phase.ending(original), Call.LAST, ended("COMMIT")))
    over("tpc_rollback", lambda original: calls.call(two_phase.ending(original), Call.ROLLBACK, ended("ROLLBACK")))
    for name in ("lobject", "tpc_recover"):
        over(name, lambda original: calls.call(original, Call.STATEMENT))
    over("set_client_encoding", lambda original: calls.call(original, Call.STATEMENT, None, _encodes))
    over("close", closing(NATIVE, DRIVER, flows))
    changes = functools.partial(setting, DRIVER, flows, nests=False)
    reset = functools.partial(calls.call, call=Call.ROLLBACK, effects=_resets)
    over("reset", lambda original: changes(lambda: SETTINGS)(reset(original)))
    over("set_session", lambda original: changes(_given)(_sending(calls, original)))
    levels = changes(lambda level: ("autocommit", "isolation_level"))
    over("set_isolation_level", lambda original: levels(calls.call(original, Call.ROLLBACK)))
    for ours, theirs in zip(SETTINGS, ("autocommit", "isolation_level", "readonly", "deferrable"), strict=True):
        member = getattr(kind, theirs)
        change = changes(functools.partial(_only, ours))(_sending(calls, member.__set__))
        patches.replace(kind, theirs, property(member.__get__, change, doc=member.__doc__))


def _cursors(patches: Patches, kind: type[Any], named: type[Any], calls: Calls, telling: Telling) -> None:
    connection_of = _K.connection.__get__ if kind is WatchedCursor else struct_of

    def statement(name: str, first: str, begin: Method | None = None) -> None:
        made = calls.statement(getattr(kind, name), connection_of, first, begin, getattr(_K, name))
        patches.replace(kind, name, made)

    def call(owner: type[Any], name: str, begin: Method, effects: Any = None) -> None:
        made = calls.call(getattr(owner, name), Call.STATEMENT, begin, effects, connection_of)
        patches.replace(owner, name, made)

    statement("execute", "query")
    statement("executemany", "query", telling.batch)
    statement("copy_expert", "sql", telling.script)
    call(kind, "callproc", telling.procedure, lambda record, name, *given: calls.effects_of(f"SELECT * FROM {name}()"))
    for name, place in (("copy_from", 1), ("copy_to", 1)):
        call(kind, name, functools.partial(_copies, telling, place))
    for name in ("fetchone", "fetchmany", "fetchall", "scroll"):
        call(named, name, functools.partial(telling.part, Words("FETCH", operation="FETCH")))
    patches.replace(named, "__next__", calls.fetch(named.__next__, connection_of))
    patches.replace(named, "execute", holding.declaring(kind.execute))
    patches.replace(named, "close", holding.closing(named.close))


def _unless_idle(original: Method, watched: Method) -> Method:
    """A commit or rollback sends nothing where no transaction is open: nothing is looked at, told or repaired."""

    @functools.wraps(original)
    def end(self: Any) -> Any:
        record = record_of(self)
        if record is None or record.alert:
            return watched(self)
        with record.turn:
            return (original if NATIVE.is_untouched(self) else watched)(self)

    return end


def _rolling_back(original: Method) -> Method:
    """``rollback``: psycopg2 does nothing where it has not begun the transaction itself, a lost one must end."""

    @functools.wraps(original)
    def rollback(self: Any) -> None:
        original(self)
        record = record_of(self)
        if record is not None and record.lost is not None and NATIVE.phase(self, record):
            NATIVE.finish(self, "ROLLBACK")

    return rollback


def _sending(calls: Calls, original: Method) -> Method:
    """In autocommit psycopg2 sends what is set; otherwise it waits for the next transaction."""
    sent = calls.call(original, Call.STATEMENT)

    @functools.wraps(original)
    def change(self: Any, *args: Any, **kwargs: Any) -> Any:
        return (sent if C.autocommit.__get__(physical(self)) else original)(self, *args, **kwargs)

    return change


def _begins(record: Record, *args: Any) -> Effects:
    return Effects(begins=True)


def _only(name: str, value: Any) -> tuple[str, ...]:
    return (name,)


def _given(isolation_level: Any = None, readonly: Any = None, deferrable: Any = None, autocommit: Any = None) -> Any:
    """Return the settings that ``set_session`` changes."""
    values = (autocommit, isolation_level, readonly, deferrable)
    return tuple(name for name, value in zip(SETTINGS, values, strict=True) if value is not None)


def _encodes(record: Record, encoding: str) -> Effects:
    return Effects(steps=(Step(SET, "client_encoding", encoding),))


def _resets(record: Record) -> Effects | None:
    return postgresql.scan("ROLLBACK; RESET ALL; SET SESSION AUTHORIZATION DEFAULT")


def _copies(telling: Telling, place: int, record: Record, *args: Any, **kwargs: Any) -> Any:
    table = str(kwargs.get("table") or (args[place] if len(args) > place else ""))
    return telling.part(Words(f"COPY {table}".strip(), operation="COPY", collection=table), record)
