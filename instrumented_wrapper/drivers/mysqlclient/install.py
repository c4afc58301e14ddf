"""What is patched of mysqlclient, as a list: how it connects, and what it sends."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from operator import attrgetter
from typing import Any, Final
from weakref import ref

from MySQLdb import _mysql, cursors
from MySQLdb.connections import Connection

from instrumented_wrapper.batches import first_taken
from instrumented_wrapper.databases.mysql.connect_arguments import requested_site
from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.engine.adapted_record import Arguments, Record, record_of
from instrumented_wrapper.drivers.engine.connect_search import connected, redirected
from instrumented_wrapper.drivers.engine.flow import StatementFlow
from instrumented_wrapper.drivers.engine.partial_execution import in_parts, mark
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.request import Request
from instrumented_wrapper.drivers.engine.sync_calls import MethodWrappers
from instrumented_wrapper.drivers.engine.sync_closing import closing
from instrumented_wrapper.drivers.engine.sync_driver import SyncDriver
from instrumented_wrapper.drivers.engine.sync_endings import EndWrappers
from instrumented_wrapper.drivers.engine.sync_reads import ReadWrappers
from instrumented_wrapper.drivers.for_mysql import asked_of_mysql, calls_procedure, selects, sets_autocommit, sets_names
from instrumented_wrapper.drivers.mysqlclient.adapter import (
    DELEGATE,
    MySQLClient,
    bind,
    keywords_of,
    note_where,
    physical,
)
from instrumented_wrapper.drivers.registry import KEY, drop_all, watched
from instrumented_wrapper.errors import Address
from instrumented_wrapper.options import CONNECT, Options, take_keywords
from instrumented_wrapper.patching import Patches

Method = Callable[..., Any]
ADAPTER: Final = MySQLClient()
DRIVER: Final = SyncDriver(ADAPTER)
C: Final[Any] = _mysql.connection
_MEMBERS: Final = ("open", "port", "client_flag", "server_capabilities")
PARTS: Final = {
    C: """character_set_name change_user close commit converter fileno get_autocommit get_server_info next_result ping
    query read_query_result rollback select_db send_query set_character_set store_result""".split()
    + list(_MEMBERS),
    Connection: "autocommit begin query set_character_set".split(),
    cursors.BaseCursor: "callproc close execute executemany nextset ._result .connection".split(),
    cursors.CursorUseResultMixIn: "fetchall fetchmany fetchone".split(),
}
_PYTHON: Final = ("query", "autocommit", "set_character_set")  # Python methods that call the C class


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch mysqlclient's classes."""
    spans = QuerySpans(ADAPTER, flows.operations)
    calls = MethodWrappers(ADAPTER, StatementFlow(ADAPTER, DRIVER, flows), spans)
    ending = EndWrappers(ADAPTER, calls, spans).ending
    _connections(patches, calls, ending, spans, options, flows)
    _cursors(patches, calls, spans)


def uninstall() -> None:
    """Forget the connections that were watched; those that were moved go on with what they were moved to."""
    for record in watched(ADAPTER.name):
        connection = record.connection()
        if connection is not None and (live := connection.__dict__.get(DELEGATE)) is not None:
            bind(
                connection, live, [name for name in vars(C) if not name.startswith("__") and callable(getattr(C, name))]
            )
    drop_all(ADAPTER.name)


def _connections(
    patches: Patches, calls: MethodWrappers, ending: Method, spans: QuerySpans, options: Options, flows: Flows
) -> None:
    def over(name: str, closure: Method) -> None:
        patches.replace(Connection, name, closure)

    def call(name: str, what: Request, begin: Method | None = None, effects: Any = None) -> None:
        over(name, calls.call(_on_live(name), what, begin, effects))

    over("__init__", _constructing(options, spans, flows, Connection.__init__))
    over("query", calls.within(_querying(Connection.query), "query"))
    for what in (Request.COMMIT, Request.ROLLBACK):
        over(what.value, ending(_on_live(what.value), what))
    over("begin", ending(Connection.begin, Request.STATEMENT))
    call("autocommit", Request.STATEMENT, None, sets_autocommit)
    call("select_db", Request.STATEMENT, None, selects)
    call("ping", Request.STATEMENT)
    over("set_character_set", calls.call(_choosing(Connection.set_character_set), Request.STATEMENT, None, sets_names))
    over("change_user", _changing_user(_on_live("change_user")))
    over("close", closing(ADAPTER, DRIVER, flows)(_alone(_on_live("close"))))
    for name in _MEMBERS:
        patches.replace(Connection, name, _member(name))


def _cursors(patches: Patches, calls: MethodWrappers, spans: QuerySpans) -> None:
    connection_of = attrgetter("connection")
    kind = cursors.BaseCursor
    patches.replace(kind, "execute", calls.statement(_noting(kind.execute), connection_of, "query"))
    patches.replace(kind, "close", _closing(kind.close))
    batch = calls.statement(in_parts(kind.executemany), connection_of, "query", spans.batch)
    patches.replace(kind, "executemany", first_taken(spans.nobody, batch))
    called = calls.call(kind.callproc, Request.STATEMENT, spans.procedure, calls_procedure, connection_of)
    patches.replace(kind, "callproc", called)
    fetch = ReadWrappers(ADAPTER, calls).fetch
    patches.replace(kind, "nextset", fetch(kind.nextset, connection_of))
    late = cursors.CursorUseResultMixIn
    for name in ("fetchone", "fetchmany"):
        patches.replace(late, name, fetch(getattr(late, name), connection_of, _read, alone=name == "fetchone"))
    patches.replace(late, "fetchall", fetch(_reading_all(late.fetchall), connection_of))


def _on_live(name: str) -> Method:
    """Return a method that does what the class does on what has the physical connection."""
    original = vars(Connection)[name] if name in _PYTHON else getattr(C, name)

    @functools.wraps(original)
    def method(self: Any, *args: object, **kwargs: object) -> Any:
        return original(self.__dict__.get(DELEGATE) or self, *args, **kwargs)

    return method


def _querying(original: Method) -> Method:
    """``query``, in the same way, on the frequent path: to pack arguments costs as much as all the rest."""

    @functools.wraps(original)
    def method(self: Any, query: object) -> Any:
        return original(self.__dict__.get(DELEGATE) or self, query)

    return method


def _alone(close: Method) -> Method:
    """Prevent a failing switch in another thread from closing the struct at the same time: C would free it twice."""

    @functools.wraps(close)
    def method(self: Any, *args: object, **kwargs: object) -> Any:
        record = record_of(self)
        with nullcontext() if record is None else record.mutex:
            return close(self, *args, **kwargs)

    return method


def _member(name: str) -> property:
    member = vars(C)[name]
    return property(lambda self: member.__get__(self.__dict__.get(DELEGATE) or self), doc=member.__doc__)


def _choosing(original: Method) -> Method:
    """Wrap ``set_character_set``: the app's object stores the encoding, the physical connection's struct sends."""

    @functools.wraps(original)
    def set_character_set(self: Any, *args: object, **kwargs: object) -> None:
        live = physical(self)
        original(live, *args, **kwargs)
        self.encoding = live.encoding

    return set_character_set


def _changing_user(original: Method) -> Method:
    """``change_user``: the session begins anew, as another user's; so do those that follow it."""

    @functools.wraps(original)
    def change_user(self: Any, *args: object, **kwargs: object) -> Any:
        result = original(self, *args, **kwargs)
        record = record_of(self)
        if record is not None and not (record.active_caller and record.is_within()):
            given = keywords_of(*record.arguments)
            user = keywords_of((), {**dict(zip(("user", "passwd", "db"), args, strict=False)), **kwargs})
            record.arguments = Arguments((), {**given, "password": "", "database": "", **user})
            record.session_restarted(self)
        return result

    return change_user


def _noting(original: Method) -> Method:
    """``execute``: a cursor that reads from the server does so from now on."""

    @functools.wraps(original)
    def execute(self: Any, query: object, args: object = None) -> Any:
        try:
            result = original(self, query, args)
        except Exception as error:
            if self.rowcount is not None:  # nothing was sent: this is of what the last statements left to be read
                mark(error)
            raise
        if isinstance(self, cursors.CursorUseResultMixIn):
            record: Record | None = self.connection.__dict__.get(KEY)
            if record is not None and self.description:
                record.driver_state["reading"] = ref(self)
        return result

    return execute


def _closing(original: Method) -> Method:
    """Wrap ``close`` of a cursor: after a final close no rows are read, which would hide the error for the app."""

    @functools.wraps(original)
    def close(self: Any) -> None:
        record = None if self.connection is None else record_of(self.connection)
        if record is not None and record.driver_state.get("shut"):
            self.connection = self._result = None
        original(self)

    return close


def _read(cursor: Any) -> None:
    """Record that all rows were read: nothing is in flight."""
    record: Record | None = cursor.connection.__dict__.get(KEY)
    if record is not None:
        record.driver_state.pop("reading", None)


def _reading_all(original: Method) -> Method:
    """``fetchall``."""

    @functools.wraps(original)
    def fetchall(self: Any) -> Any:
        rows = original(self)
        _read(self)
        return rows

    return fetchall


def _constructing(options: Options, spans: QuerySpans, flows: Flows, original: Method) -> Method:
    """``Connection.__init__``: our keywords are taken out; from here on the connection is watched."""

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        ours = take_keywords(kwargs)
        checked = options.with_keywords(ours, CONNECT) if ours else options
        given = keywords_of(args, kwargs)

        def attempt(address: Address | None, seconds: float) -> Any:
            if address is None:
                original(self, *args, **kwargs)
            else:
                original(self, **redirected(given, address, seconds))
            note_where(self, redirected(given, address, seconds))
            return self

        with spans.connect(checked, functools.partial(requested_site, given)):
            connected(ADAPTER, flows, checked, lambda: asked_of_mysql(given, checked), attempt)
        record = Record(ADAPTER, self, checked, Arguments(args, dict(kwargs)))
        record.driver_state |= {"charset": C.character_set_name(self), "version": C.get_server_info(self)}
        ADAPTER.begins(self)  # now: the driver may close it within its first statement
        record.attach(self, (ADAPTER.where(self),))
        spans.attend(record, checked)

    return __init__
