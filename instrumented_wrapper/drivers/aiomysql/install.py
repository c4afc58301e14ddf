"""What is patched of aiomysql, as a list: how it connects, what it sends, what the server reports."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

import aiomysql
from aiomysql import connection as module
from aiomysql import cursors, pool
from aiomysql.connection import Connection, MysqlPacket, MySQLResult, OKPacketWrapper
from pymysql.constants import CLIENT

from instrumented_wrapper.batches import first_taken
from instrumented_wrapper.databases.mysql.connect_arguments import requested_site
from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.aiomysql.adapter import AioMySQL, track
from instrumented_wrapper.drivers.aiomysql.session_reports import reading_ok, reading_result
from instrumented_wrapper.drivers.engine.adapted_record import Arguments
from instrumented_wrapper.drivers.engine.async_calls import AsyncMethodWrappers, coroutine_function
from instrumented_wrapper.drivers.engine.async_closing import closing_after_reset, closing_at_once
from instrumented_wrapper.drivers.engine.async_driver import AsyncDriver
from instrumented_wrapper.drivers.engine.async_endings import AsyncEndWrappers
from instrumented_wrapper.drivers.engine.async_record import AsyncRecord
from instrumented_wrapper.drivers.engine.connect_search import connected_async
from instrumented_wrapper.drivers.engine.flow import StatementFlow
from instrumented_wrapper.drivers.engine.partial_execution import in_parts, of_the_rest
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.request import Request
from instrumented_wrapper.drivers.for_mysql import asked_of_mysql, calls_procedure, selects, sets_autocommit, sets_names
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.drivers.session_track import TRACKED, reading_end
from instrumented_wrapper.errors import Address
from instrumented_wrapper.options import CONNECT, Options, take_keywords
from instrumented_wrapper.patching import Patches

Method = Callable[..., Any]
PARTS: Final = {
    module: ["_connect", "_ConnectionContextManager"],
    Connection: """_execute_command _read_ok_packet _read_packet _read_bytes _read_query_result _request_authentication
    _connect _close_on_cancel _ensure_alive query ._affected_rows ._charset ._close_reason ._db ._encoding ._host
    ._next_seq_id ._password ._port ._reader ._result ._secure ._ssl_context ._unix_socket ._user ._writer .client_flag
    .server_capabilities .server_status .server_version""".split(),
    MySQLResult: """read _check_packet_is_eof _read_ok_packet .connection .has_next .message .server_status
    .unbuffered_active""".split(),
    module._StreamReader: ["eof_received"],
    MysqlPacket: ["is_eof_packet", "._data"],
    OKPacketWrapper: [".message", ".server_status"],
    cursors.Cursor: "execute executemany callproc nextset mogrify ._connection ._result".split(),
    cursors.SSCursor: "_read_next close".split(),
}
_CLOSES: Final = (Connection._read_packet, Connection._read_bytes, Connection._close_on_cancel)  # call `close`
_close: Final = Connection.close
ADAPTER: Final = AioMySQL()
DRIVER: Final = AsyncDriver(ADAPTER)


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch aiomysql's classes."""
    spans = QuerySpans(ADAPTER, flows.operations)
    calls = AsyncMethodWrappers(ADAPTER, StatementFlow(ADAPTER, DRIVER, flows, flows.run_async), spans)
    for owner in (aiomysql, module, pool):
        patches.replace(owner, "connect", _taking_keywords(module.connect))
    _connections(patches, calls, AsyncEndWrappers(ADAPTER, calls, spans), spans, options, flows)
    _ends(patches, flows)
    _results(patches)
    _cursors(patches, calls, spans)


def _connections(
    patches: Patches,
    calls: AsyncMethodWrappers,
    endings: AsyncEndWrappers,
    spans: QuerySpans,
    options: Options,
    flows: Flows,
) -> None:
    def over(name: str, make: Callable[[Method], Method]) -> None:
        patches.close_over(Connection, name, make)

    def call(name: str, begin: Method | None = None, effects: Any = None, reads_last: bool = False) -> None:
        make = functools.partial(calls.call, call=Request.STATEMENT, begin=begin, effects=effects)
        over(name, functools.partial(make, reads_last=reads_last))

    over("__init__", functools.partial(_constructing, options, spans))
    over("_connect", functools.partial(_connecting, spans, flows))
    over("_request_authentication", _authenticating)
    over("_ensure_alive", _making_cursor)
    over("query", functools.partial(calls.within, named="sql"))
    for what in (Request.COMMIT, Request.ROLLBACK):
        over(what.value, functools.partial(endings.ending, call=what))
    call("begin", functools.partial(spans.command, "BEGIN"), lambda record: calls.effects_of("BEGIN"))
    call("autocommit", effects=sets_autocommit)
    call("select_db", effects=selects)
    call("set_charset", effects=sets_names)
    call("show_warnings", reads_last=True)
    call("kill")
    over("ping", lambda original: calls.call(_pinging(original), Request.STATEMENT))


def _ends(patches: Patches, flows: Flows) -> None:
    codes = frozenset(function.__code__ for function in _CLOSES)
    patches.close_over(Connection, "close", closing_at_once(DRIVER, flows, codes))
    patches.close_over(Connection, "ensure_closed", closing_after_reset(ADAPTER, DRIVER, flows, _close))


def _results(patches: Patches) -> None:
    patches.close_over(Connection, "_read_ok_packet", reading_ok)
    patches.close_over(MySQLResult, "_read_ok_packet", reading_result)
    patches.close_over(MySQLResult, "_check_packet_is_eof", reading_end)


def _cursors(patches: Patches, calls: AsyncMethodWrappers, spans: QuerySpans) -> None:
    connection_of = attrgetter("_connection")
    make = functools.partial(calls.statement, connection_of=connection_of, named="query")
    patches.close_over(cursors.Cursor, "execute", make)
    patches.close_over(
        cursors.Cursor,
        "executemany",
        lambda original: first_taken(spans.nobody, make(in_parts(original), begin=spans.batch)),
    )
    patches.close_over(
        cursors.Cursor,
        "callproc",
        lambda original: calls.call(original, Request.STATEMENT, spans.procedure, calls_procedure, connection_of),
    )
    patches.close_over(cursors.Cursor, "nextset", functools.partial(_nextset, calls))
    patches.close_over(cursors.SSCursor, "_read_next", functools.partial(calls.read, connection_of=connection_of))


def _nextset(calls: AsyncMethodWrappers, original: Method) -> Method:
    """``Cursor.nextset``, with which each ``execute`` begins: mostly there is nothing to be read."""
    reading = calls.fetch(of_the_rest(original), attrgetter("_connection"))

    @functools.wraps(original)
    def nextset(self: Any) -> Any:
        result = self._result
        return original(self) if result is None or not result.has_next else reading(self)

    return coroutine_function(nextset)


def _taking_keywords(original: Method) -> Method:
    """``connect``, which lists its keywords: ours go past it, to ``Connection.__init__``."""
    signature = inspect.signature(original)

    @functools.wraps(original)
    def connect(*args: Any, **kwargs: Any) -> Any:
        if not (ours := take_keywords(kwargs)):
            return original(*args, **kwargs)
        given = signature.bind(*args, **kwargs).arguments
        return module._ConnectionContextManager(module._connect(**given, instrumented_wrapper=ours))

    return connect


def _constructing(options: Options, spans: QuerySpans, original: Method) -> Method:
    """``Connection.__init__``: our keywords are taken out."""

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        self._writer = None  # its finaliser looks at it, also where the arguments are refused
        ours = take_keywords(kwargs)
        checked = options.with_keywords(ours, CONNECT) if ours else options
        original(self, *args, **kwargs)
        record = AsyncRecord(ADAPTER, self, checked, Arguments(args, dict(kwargs)))
        record.configuring, record.off = True, True
        self.__dict__[KEY] = record

    return __init__


def _connecting(spans: QuerySpans, flows: Flows, original: Method) -> Method:
    """``Connection._connect``: from here on the connection is watched; a second time it begins a new session."""

    @functools.wraps(original)
    async def _connect(self: Any) -> None:
        record: AsyncRecord | None = self.__dict__.get(KEY)
        if record is None:
            return await original(self)  # type: ignore[no-any-return]
        if record.generation:
            await original(self)
            record.session_restarted(self)
            return None
        given = ADAPTER.asked_for_by(self)

        async def attempt(address: Address | None, seconds: float) -> Any:
            if address is not None:
                return await ADAPTER.opened_like(self, record, address)
            await original(self)
            return self

        with spans.connect(record.options, functools.partial(requested_site, given)):
            found = await connected_async(
                ADAPTER, flows, record.options, lambda: asked_of_mysql(given, record.options), attempt
            )
        if found is not self:
            ADAPTER.exchange(self, found)
        record.driver_state = {"charset": self._charset}
        record.configuring = False
        await record.attach_async(self, (ADAPTER.where(self),))
        record.settings_client.keep_reported()
        spans.attend(record, record.options)
        return None

    return _connect


def _authenticating(original: Method) -> Method:
    """``Connection._request_authentication``: say that we understand what the server reports, where it can."""

    @functools.wraps(original)
    async def _request_authentication(self: Any) -> None:
        known = self.__dict__
        ours = KEY in known and not self.client_flag & CLIENT.SESSION_TRACK  # an app that tracks is let alone
        wanted = known.pop(TRACKED, None) is not None or ours
        tracks = bool(wanted and self.server_capabilities & CLIENT.SESSION_TRACK)
        self.client_flag |= CLIENT.SESSION_TRACK if tracks else 0
        await original(self)
        if tracks:
            await track(self)

    return _request_authentication


def _making_cursor(original: Method) -> Method:
    """``Connection._ensure_alive``, which ``cursor()`` calls: the next statement replaces a lost connection."""

    @functools.wraps(original)
    def _ensure_alive(self: Any) -> None:
        if self._writer is None and self._close_reason is None:  # it is lost
            record: AsyncRecord | None = self.__dict__.get(KEY)
            if record is not None and record.switchable and not record.active_caller:
                return
        original(self)

    return _ensure_alive


def _pinging(original: Method) -> Method:
    """``Connection.ping``: it connects anew by itself, without the session, so not where a loss leads to a switch."""

    @functools.wraps(original)
    async def ping(self: Any, reconnect: bool = True) -> None:
        record: AsyncRecord | None = self.__dict__.get(KEY)
        await original(self, reconnect and not (record is not None and record.switchable))

    return ping
