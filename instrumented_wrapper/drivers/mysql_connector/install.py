"""What is patched of mysql-connector-python, as a list: how it connects, what it sends."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final

from mysql.connector.connection import MySQLConnection
from mysql.connector.cursor import MySQLCursor, MySQLCursorPrepared
from mysql.connector.network import MySQLTCPSocket

from instrumented_wrapper.databases.mysql.connect_arguments import requested_site
from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.engine.adapted_record import Arguments, Record, record_of
from instrumented_wrapper.drivers.engine.connect_search import connected
from instrumented_wrapper.drivers.engine.flow import StatementFlow
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.request import Request
from instrumented_wrapper.drivers.engine.sync_calls import MethodWrappers
from instrumented_wrapper.drivers.engine.sync_closing import closing
from instrumented_wrapper.drivers.engine.sync_endings import EndWrappers
from instrumented_wrapper.drivers.engine.sync_reads import ReadWrappers
from instrumented_wrapper.drivers.for_mysql import asked_of_mysql, selects, sets_autocommit
from instrumented_wrapper.drivers.mysql_connector import sockets
from instrumented_wrapper.drivers.mysql_connector.adapter import KINDS, MySQLConnector
from instrumented_wrapper.drivers.mysql_connector.cursors import patch_cursors
from instrumented_wrapper.drivers.mysql_connector.driver import MySQLConnectorDriver
from instrumented_wrapper.drivers.mysql_connector.driver_defaults import begin_anew, choosing
from instrumented_wrapper.drivers.mysql_connector.elsewhere import redirected, returning
from instrumented_wrapper.drivers.registry import checkout_deadline
from instrumented_wrapper.errors import Address
from instrumented_wrapper.options import CONNECT, Options, take_keywords
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.statement import SETTING, Effects

Method = Callable[..., Any]
_OF_ALL: Final = """_open_connection ._autocommit ._character_set ._charset_id ._database ._handshake ._have_next_result
._host ._in_transaction ._password ._port ._sql_mode ._time_zone ._unix_socket ._unread_result ._user""".split()
_OF_ONE: Final = {
    "MySQLConnection": ["_get_connection", "._socket", "._protocol"],
    "CMySQLConnection": ["._cmysql", "._columns"],
}
PARTS: Final[dict[type[Any], list[str]]] = {
    **{kind: [*_OF_ALL, *_OF_ONE[kind.__name__]] for kind in KINDS},
    MySQLTCPSocket: ["build_ssl_context", ".sock"],
    MySQLCursor: ["._connection", "._executed"],
    MySQLCursorPrepared: ["._prepared"],
}
ADAPTER: Final = MySQLConnector()
DRIVER: Final = MySQLConnectorDriver(ADAPTER)
# The getters of these are questions to the server; what the setters do, where that is not read from the text they send.
_PROPERTIES: Final = {"autocommit": sets_autocommit, "database": selects, "time_zone": None, "sql_mode": None}
_DEFERRED: Final = "_instrumented_wrapper_options"  # in a connection's ``__dict__`` until it connects
_MAKING: Final = "_instrumented_wrapper_making"  # there, too: until ``__init__`` is done
_GIVEN: Final = "_instrumented_wrapper_given"  # there, too: the arguments of ``config`` and ``connect``, up to now
_ALIASES: Final = {"db": "database", "username": "user", "passwd": "password", "connect_timeout": "connection_timeout"}


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch the connections and cursors."""
    spans = QuerySpans(ADAPTER, flows.operations)
    calls = MethodWrappers(ADAPTER, StatementFlow(ADAPTER, DRIVER, flows), spans)
    ending = EndWrappers(ADAPTER, calls, spans).ending
    for kind in KINDS:
        _connections(patches, kind, calls, ending, spans, options, flows)
    patch_cursors(patches, calls, ReadWrappers(ADAPTER, calls), spans)


def _connections(
    patches: Patches,
    kind: type[Any],
    calls: MethodWrappers,
    ending: Method,
    spans: QuerySpans,
    options: Options,
    flows: Flows,
) -> None:
    def over(name: str, make: Callable[[Method], Method]) -> None:
        patches.close_over(kind, name, make)

    def call(name: str, what: Request, begin: Method | None = None, effects: Any = None) -> None:
        if hasattr(kind, name):
            over(name, lambda original: calls.call(original, what, begin, effects))

    over("__init__", functools.partial(_constructing, options))
    over("config", _configuring)
    over("connect", functools.partial(_connecting, options, spans, flows))
    over("reconnect", _reconnecting)
    if kind is not MySQLConnection:
        over("_open_connection", sockets.finding)
        over("_execute_query", functools.partial(calls.within, named="query"))  # it is `cmd_query` there
    over("cmd_query", functools.partial(calls.within, named="query"))
    for what in (Request.COMMIT, Request.ROLLBACK):
        over(what.value, functools.partial(ending, call=what))
    call("start_transaction", Request.STATEMENT, functools.partial(spans.command, "BEGIN"), _begins)
    call("cmd_init_db", Request.STATEMENT, None, selects)
    for name in ("cmd_stmt_prepare", "cmd_stmt_execute", "ping"):
        call(name, Request.STATEMENT)
    call("cmd_change_user", Request.STATEMENT, None, lambda record, *given, **more: SETTING)
    call("cmd_reset_connection", Request.STATEMENT, None, lambda record: Effects(rolls_back=True))
    over("cursor", functools.partial(_pinging, calls))
    over("cmd_reset_connection", _beginning_anew)
    over("cmd_change_user", _changing_user)
    over("set_charset_collation", functools.partial(choosing, ADAPTER.keep_context))
    over("shutdown", _shutting_down)
    over("is_connected", _checked)
    over("close", _closed)
    over("close", closing(ADAPTER, DRIVER, flows))
    patches.replace(kind, "disconnect", kind.close)
    for name, effects in _PROPERTIES.items():
        patches.replace(kind, name, _property(calls, kind, name, effects))


def _property(calls: MethodWrappers, kind: type[Any], name: str, effects: Any) -> property:
    member: Any = getattr(kind, name)
    change = member.fset if effects is None else calls.call(member.fset, Request.STATEMENT, None, effects)
    return property(_quietly(member.fget), change, doc=member.__doc__)


def _quietly(original: Method) -> Method:
    """Wrap a getter: it starts no switch, even if it queries the server; the driver's own error passes."""

    @functools.wraps(original)
    def get(self: Any) -> Any:
        if (record := record_of(self)) is None:
            return original(self)
        with record.use_lock:
            caller_before, record.active_caller = record.active_caller, True
            try:
                return original(self)
            finally:
                record.active_caller = caller_before

    return get


def _closed(original: Method) -> Method:
    """Wrap ``close``: record that it was called, which the driver does not expose."""

    @functools.wraps(original)
    def close(self: Any) -> None:
        try:
            original(self)
        finally:
            ADAPTER.mark_closed(self)

    return close


def _begins(record: Record, *args: object, **kwargs: object) -> Effects:
    return Effects(begins=True, outcome_unknown_if_lost=True)


def _constructing(options: Options, original: Method) -> Method:
    """Wrap ``__init__``: its arguments go on to ``connect``; a connection is tracked once it has connected."""

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        self.__dict__[_DEFERRED], self.__dict__[_MAKING] = options, True
        original(self, *args, **kwargs)
        del self.__dict__[_MAKING]
        if (record := record_of(self)) is not None and not record.held:
            record.hand_out()

    return __init__


def _configuring(original: Method) -> Method:
    """Wrap ``config``: remove our keywords and record the others for the next physical connection."""

    @functools.wraps(original)
    def config(self: Any, **kwargs: object) -> None:
        ours, deferred = take_keywords(kwargs), self.__dict__.get(_DEFERRED)
        if ours and deferred is not None:
            self.__dict__[_DEFERRED] = deferred.with_keywords(ours, CONNECT)
        original(self, **kwargs)
        _keep(self, kwargs)

    return config


def _keep(connection: object, given: dict[str, Any]) -> None:
    kept = connection.__dict__.setdefault(_GIVEN, {})
    kept.update((_ALIASES.get(name, name), value) for name, value in given.items())


def _connecting(options: Options, spans: QuerySpans, flows: Flows, original: Method) -> Method:
    """``connect``: our keywords are taken out; from here on the connection is watched."""

    @functools.wraps(original)
    def connect(self: Any, **kwargs: object) -> None:
        ours, deferred, known = take_keywords(kwargs), self.__dict__.get(_DEFERRED), record_of(self)
        chosen = deferred or (options if known is None else known.options)
        checked = chosen.with_keywords(ours, CONNECT) if ours else chosen
        caller_before = known is not None and known.active_caller
        if known is not None:
            known.active_caller = True
        given = {**self.__dict__.get(_GIVEN, {}), **kwargs}

        try:
            observed = nullcontext() if deferred is None else spans.connect(checked, lambda: requested_site(given))
            with observed, returning(self) as leave:

                def attempt(address: Address | None, seconds: float) -> Any:
                    if address is not None:
                        leave()
                    original(self, **_arguments(kwargs, given, address, seconds))
                    return self

                connected(ADAPTER, flows, checked, lambda: asked_of_mysql(given, checked), attempt)
        finally:
            if known is not None:
                known.active_caller = caller_before
        if self.__dict__.pop(_DEFERRED, None) is not None:
            _attach(self, checked, spans)
        elif known is not None:
            begin_anew(self, known)
            ADAPTER.look(self, known)

    return connect


def _arguments(
    kwargs: dict[str, Any], given: dict[str, Any], address: Address | None, seconds: float
) -> dict[str, Any]:
    if address is None:
        return kwargs
    return redirected({_ALIASES.get(name, name): value for name, value in given.items()}, address, seconds)


def _reconnecting(original: Method) -> Method:
    """Wrap ``reconnect``: the close within it is not the app's, and resets nothing."""

    @functools.wraps(original)
    def reconnect(self: Any, *args: object, **kwargs: object) -> None:
        if (record := record_of(self)) is None:
            return original(self, *args, **kwargs)  # type: ignore[no-any-return]
        with record.use_lock:
            caller_before, record.active_caller = record.active_caller, threading.get_ident()
            try:
                return original(self, *args, **kwargs)  # type: ignore[no-any-return]
            finally:
                record.active_caller = caller_before

    return reconnect


def _attach(connection: object, options: Options, spans: QuerySpans) -> None:
    record = Record(ADAPTER, connection, options, Arguments((), connection.__dict__.setdefault(_GIVEN, {})))
    ADAPTER.keep_context(connection)
    record.configuring = _MAKING in connection.__dict__  # what a class of the app does in its own ``connect``
    record.attach(connection, (ADAPTER.where(connection),))
    ADAPTER.look(connection, record)
    spans.attend(record, options)


def _beginning_anew(original: Method) -> Method:
    """Wrap a reset of the session by the app or the driver's pool: only what the driver itself keeps remains."""

    @functools.wraps(original)
    def method(self: Any, *args: object, **kwargs: object) -> Any:
        result = original(self, *args, **kwargs)
        record = record_of(self)
        if result and record is not None and not (record.active_caller and record.is_within()):
            begin_anew(self, record)
            ADAPTER.look(self, record)
        return result

    return method


def _changing_user(original: Method) -> Method:
    """The session is another user's, and so are those that follow it."""

    @functools.wraps(original)
    def cmd_change_user(
        self: Any, username: str = "", password: str = "", database: str = "", *args: object, **kwargs: object
    ) -> Any:
        result = original(self, username, password, database, *args, **kwargs)
        record = record_of(self)
        if record is not None and not (record.active_caller and record.is_within()):
            _keep(self, {"user": username, "password": password, "database": database})
            ADAPTER.keep_context(self)
            begin_anew(self, record)
            ADAPTER.look(self, record)
        return result

    return cmd_change_user


def _pinging(calls: MethodWrappers, original: Method) -> Method:
    """Wrap ``cursor``: it pings first, which is how this driver notices that the server is gone."""
    step = calls.call(original, Request.STATEMENT, effects=lambda record, *given, **more: SETTING)

    @functools.wraps(original)
    def cursor(self: Any, *args: object, **kwargs: object) -> Any:
        record = record_of(self)
        if record is None or not record.switchable or (record.active_caller and record.is_within()):
            return original(self, *args, **kwargs)
        with record.use_lock:
            record.transaction_status = ADAPTER.transaction_status(self, record)
            try:
                return original(self, *args, **kwargs)
            except ADAPTER.operational_error:
                if ADAPTER.is_alive(self):
                    raise
            return step(self, *args, **kwargs)  # found dead before anything was sent

    return cursor


def _shutting_down(original: Method) -> Method:
    """``shutdown``: the app closes it, without a word to the server."""

    @functools.wraps(original)
    def shutdown(self: Any) -> None:
        if (record := record_of(self)) is not None:
            record.closed_by_app = True
            record.refresh()
        original(self)
        ADAPTER.mark_closed(self)

    return shutdown


def _checked(original: Method) -> Method:
    """Wrap ``is_connected``: the first statement replaces a connection that a pool finds lost, so no other client
    waits.
    """

    @functools.wraps(original)
    def is_connected(self: Any) -> Any:
        record = record_of(self)
        with nullcontext() if record is None else record.use_lock:  # a prober sees that it waits
            connected = original(self)
        if connected or checkout_deadline.get() is None or record is None:
            return connected
        if not record.switchable or ADAPTER.is_closed(self):
            return connected
        ADAPTER.mark_lost(self)
        return True

    return is_connected
