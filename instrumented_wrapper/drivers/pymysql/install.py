"""What is patched of PyMySQL, as a list: how it connects, what it sends, what the server reports."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from pymysql.connections import Connection, MysqlPacket, MySQLResult, OKPacketWrapper
from pymysql.constants import CLIENT
from pymysql.cursors import Cursor, SSCursor

from instrumented_wrapper.batches import first_taken
from instrumented_wrapper.databases.mysql.connect_arguments import requested_site
from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.engine.adapted_record import Arguments, Record, record_of
from instrumented_wrapper.drivers.engine.connect_search import connected, redirected
from instrumented_wrapper.drivers.engine.flow import StatementFlow
from instrumented_wrapper.drivers.engine.partial_execution import in_parts, of_the_rest
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.request import Request
from instrumented_wrapper.drivers.engine.sync_calls import MethodWrappers
from instrumented_wrapper.drivers.engine.sync_closing import closing
from instrumented_wrapper.drivers.engine.sync_driver import SyncDriver
from instrumented_wrapper.drivers.engine.sync_endings import ENDINGS, EndWrappers
from instrumented_wrapper.drivers.engine.sync_reads import ReadWrappers
from instrumented_wrapper.drivers.for_mysql import asked_of_mysql, calls_procedure, selects, sets_autocommit, sets_names
from instrumented_wrapper.drivers.for_pymysql import querying, shows_reconnect
from instrumented_wrapper.drivers.pymysql.adapter import PyMySQL, track
from instrumented_wrapper.drivers.pymysql.session_reports import reading_ok, reading_result
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.drivers.session_track import TRACKED, reading_end
from instrumented_wrapper.errors import Address
from instrumented_wrapper.options import CONNECT, Options, take_keywords
from instrumented_wrapper.patching import Patches

Method = Callable[..., Any]
PARTS: Final = {
    Connection: """_execute_command _read_ok_packet _read_query_result _request_authentication _force_close
    _create_ssl_ctx query ._affected_rows ._closed ._next_seq_id ._read_timeout ._result ._rfile ._secure ._sock .ctx
    .client_flag .server_capabilities .server_status .server_thread_id .server_version""".split(),
    MySQLResult: "read _check_packet_is_eof .connection .has_next .message .server_status .unbuffered_active".split(),
    MysqlPacket: ["is_eof_packet", "._data"],
    OKPacketWrapper: [".message", ".server_status"],
    Cursor: "execute executemany callproc mogrify ._result".split(),
    SSCursor: "fetchone fetchmany read_next nextset".split(),
}
ADAPTER: Final = PyMySQL()
DRIVER: Final = SyncDriver(ADAPTER)


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch PyMySQL's classes."""
    spans = QuerySpans(ADAPTER, flows.operations)
    calls = MethodWrappers(ADAPTER, StatementFlow(ADAPTER, DRIVER, flows), spans)
    ending = EndWrappers(ADAPTER, calls, spans).ending
    _connections(patches, calls, ending, spans, options, flows)
    patches.close_over(MySQLResult, "_check_packet_is_eof", reading_end)
    _cursors(patches, calls, spans)


def _connections(
    patches: Patches, calls: MethodWrappers, ending: Method, spans: QuerySpans, options: Options, flows: Flows
) -> None:
    kind = Connection

    def over(name: str, make: Callable[[Method], Method]) -> None:
        patches.close_over(kind, name, make)

    def call(
        name: str, what: Request, begin: Method | None = None, effects: Any = None, reads_last: bool = False
    ) -> None:
        over(name, lambda original: calls.call(original, what, begin, effects, reads_last=reads_last))

    over("__init__", functools.partial(_constructing, options, spans, flows))
    over("connect", _connecting)
    over("set_character_set", _connected)
    over("_request_authentication", _authenticating)
    over("_read_ok_packet", reading_ok)
    over("_read_query_result", reading_result)
    over("query", lambda original: querying(calls.script(original, "sql"), original))
    for name, what in ENDINGS.items():
        over(name, functools.partial(ending, call=what))
    call("autocommit", Request.STATEMENT, None, sets_autocommit)
    call("select_db", Request.STATEMENT, None, selects)
    call("set_character_set", Request.STATEMENT, None, sets_names)
    call("show_warnings", Request.STATEMENT, reads_last=True)
    call("ping", Request.STATEMENT)
    over("ping", shows_reconnect)
    over("close", closing(ADAPTER, DRIVER, flows))


def _cursors(patches: Patches, calls: MethodWrappers, spans: QuerySpans) -> None:
    connection_of = attrgetter("connection")
    make = functools.partial(calls.statement, connection_of=connection_of, named="query")
    patches.close_over(Cursor, "execute", make)
    patches.close_over(
        Cursor,
        "executemany",
        lambda original: first_taken(spans.nobody, make(in_parts(original), begin=spans.batch)),
    )
    patches.close_over(
        Cursor,
        "callproc",
        lambda original: calls.call(original, Request.STATEMENT, spans.procedure, calls_procedure, connection_of),
    )
    patches.close_over(Cursor, "nextset", functools.partial(_nextset, calls))
    patches.close_over(SSCursor, "__del__", _finalising)
    reading = functools.partial(ReadWrappers(ADAPTER, calls).fetch, connection_of=connection_of, alone=True)
    patches.close_over(SSCursor, "nextset", reading)
    patches.close_over(SSCursor, "read_next", reading)


def _nextset(calls: MethodWrappers, original: Method) -> Method:
    """``Cursor.nextset``, with which each ``execute`` begins: mostly there is nothing to be read."""
    reading = ReadWrappers(ADAPTER, calls).fetch(of_the_rest(original), attrgetter("connection"))

    @functools.wraps(original)
    def nextset(self: Any) -> Any:
        result = self._result
        return original(self) if result is None or not result.has_next else reading(self)

    return nextset


def _finalising(original: Method) -> Method:
    """Wrap ``SSCursor.__del__``, which reads the remaining rows: it never starts a switch."""

    @functools.wraps(original)
    def __del__(self: Any) -> None:
        connection = getattr(self, "connection", None)
        record = None if connection is None else record_of(connection)
        if record is None or record.active_caller:
            original(self)
            return
        record.active_caller = threading.get_ident()
        try:
            original(self)
        finally:
            record.active_caller = False

    return __del__


def _constructing(options: Options, spans: QuerySpans, flows: Flows, original: Method) -> Method:
    """``Connection.__init__``: our keywords are taken out; from here on the connection is watched."""

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        ours = take_keywords(kwargs)
        checked = options.with_keywords(ours, CONNECT) if ours else options
        record = Record(ADAPTER, self, checked, Arguments(args, dict(kwargs)))
        record.configuring, record.off = True, True
        self.__dict__[KEY] = record

        def attempt(address: Address | None, seconds: float) -> Any:
            if address is None:
                original(self, *args, **kwargs)
                return self
            own = kwargs.get("read_timeout")  # its connect_timeout is not for the answers of a server that accepts
            original(
                self, *args, **{**redirected(kwargs, address, seconds), "read_timeout": min(seconds, own or seconds)}
            )
            self._read_timeout = own
            return self

        with spans.connect(checked, functools.partial(requested_site, kwargs)):
            connected(ADAPTER, flows, checked, lambda: asked_of_mysql(kwargs, checked), attempt)
        _attach(self, record)
        spans.attend(record, checked)

    return __init__


def _attach(connection: Any, record: Record) -> None:
    """Watch a connection from now on; one whose connecting is deferred is watched as soon as it connects."""
    record.driver_state = {"charset": connection.charset, "collation": connection.collation}
    record.configuring = False
    if connection._sock is not None:
        record.attach(connection, (ADAPTER.where(connection),))
        record.settings_client.keep_reported()


def _connecting(original: Method) -> Method:
    """``Connection.connect``: by the app, where connecting was deferred, or to begin a new session."""

    @functools.wraps(original)
    def connect(self: Any, sock: object = None) -> None:
        original(self, sock)
        record = record_of(self)
        if record is None or record.configuring or self._sock is None:
            return
        if record.generation == 0:
            _attach(self, record)
        else:
            record.session_restarted(self)

    return connect


def _authenticating(original: Method) -> Method:
    """Wrap ``Connection._request_authentication``: announce session tracking, if the server supports it."""

    @functools.wraps(original)
    def _request_authentication(self: Any) -> None:
        known = self.__dict__
        ours = KEY in known and not self.client_flag & CLIENT.SESSION_TRACK  # an app that tracks is let alone
        wanted = known.pop(TRACKED, None) is not None or ours
        if wanted and self.server_capabilities & CLIENT.SESSION_TRACK:
            self.client_flag |= CLIENT.SESSION_TRACK
            known[TRACKED] = False
        original(self)

    return _request_authentication


def _connected(original: Method) -> Method:
    """Wrap ``Connection.set_character_set``, the first call after a login: enable the reports of changes."""

    @functools.wraps(original)
    def set_character_set(self: Any, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)
        if self.__dict__.get(TRACKED) is False:
            track(self)

    return set_character_set
