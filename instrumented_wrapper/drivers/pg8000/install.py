"""The patches of pg8000, as a list: how it connects, the calls of its three interfaces, the state that they keep."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from operator import attrgetter
from typing import Any, Final

import pg8000
from pg8000 import core, dbapi, legacy, native

from instrumented_wrapper.batches import first_taken
from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.connect_search import Request as Asked
from instrumented_wrapper.drivers.engine.connect_search import connected
from instrumented_wrapper.drivers.engine.flow import StatementFlow
from instrumented_wrapper.drivers.engine.partial_execution import in_parts
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.request import Request, SentCall, itself
from instrumented_wrapper.drivers.engine.sync_calls import MethodWrappers
from instrumented_wrapper.drivers.engine.sync_closing import closing, setting
from instrumented_wrapper.drivers.engine.sync_driver import SyncDriver
from instrumented_wrapper.drivers.engine.sync_endings import EndWrappers
from instrumented_wrapper.drivers.pg8000 import two_phase
from instrumented_wrapper.drivers.pg8000.adapter import (
    ADAPTER,
    KINDS,
)
from instrumented_wrapper.drivers.pg8000.arguments import arguments_of, place_of, redirected
from instrumented_wrapper.drivers.pg8000.channel import PLACE, database_of, with_state
from instrumented_wrapper.drivers.pg8000.prepared import closing as closing_statement
from instrumented_wrapper.drivers.pg8000.prepared import preparing, running
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.errors import Address
from instrumented_wrapper.operations import Operation, Site
from instrumented_wrapper.options import CONNECT, Options, take_keywords
from instrumented_wrapper.patching import Patches

Method = Callable[..., Any]
PARTS: Final = {
    core: "_read _write _flush ci_unpack Context READY_FOR_QUERY".split(),
    core.CoreConnection: """handle_messages send_QUERY execute_simple execute_unnamed execute_named prepare_statement
    close_prepared_statement ._usock ._sock ._backend_key_data .parameter_statuses ._transaction_status ._caches
    ._statement_nums ._client_encoding .message_types .pg_types .py_types""".split(),
    core.Context: ".input_funcs .rows .statement".split(),
    dbapi.Connection: ".autocommit ._xid".split(),
    legacy.Connection: ".autocommit ._xid".split(),
    dbapi.Cursor: ["._c"],
    legacy.Cursor: ["._c"],
    native.PreparedStatement: ".con .name_bin .statement".split(),
    legacy.PreparedStatement: ".con .name_bin".split(),
}
DRIVER: Final = SyncDriver(ADAPTER)
_given: Final[ContextVar[dict[str, Any] | None]] = ContextVar("given", default=None)  # our keywords of ``connect``
_of_cursor: Final = attrgetter("_c")


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch pg8000's modules and classes."""
    spans = QuerySpans(ADAPTER, flows.operations)
    calls = _Calls(ADAPTER, StatementFlow(ADAPTER, DRIVER, flows), spans)
    for module in (pg8000, dbapi, legacy):
        patches.close_over(module, "connect", _asked)
    for kind in KINDS:
        patches.close_over(kind, "__init__", functools.partial(_constructing, options, spans, flows))
        patches.replace(kind, "close", closing(ADAPTER, DRIVER, flows)(kind.close))
    for kind, cursor in ((dbapi.Connection, dbapi.Cursor), (legacy.Connection, legacy.Cursor)):
        _connections(patches, kind, calls, EndWrappers(ADAPTER, calls, spans), spans, flows)
        _cursors(patches, cursor, calls, spans)
    patches.close_over(native.Connection, "run", lambda original: calls.statement(_told(original), itself, "sql"))
    for prepared in (native.PreparedStatement, legacy.PreparedStatement):
        _prepared_statements(patches, prepared, calls)


def _told(original: Method) -> Method:
    """Add the SQLSTATE to errors of the server."""

    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except BaseException as error:
            with_state(error)
            raise

    return call


class _Calls(MethodWrappers):
    """Makes the closures for pg8000; a plain statement is called without `_told`, which its failure is told of."""

    def _failed(self, operation: Operation | None, sent: SentCall, error: BaseException) -> Any:
        with_state(error)
        return super()._failed(operation, sent, error)


def _told_alone(original: Method) -> Method:
    """Do the same for a method without arguments."""

    @functools.wraps(original)
    def end(self: Any) -> Any:
        try:
            return original(self)
        except BaseException as error:
            with_state(error)
            raise

    return end


# --- connecting -------------------------------------------------------------------------------------------------


def _asked(original: Method) -> Method:
    """Wrap ``connect``: remove our keywords, which it does not accept."""

    @functools.wraps(original)
    def connect(*args: Any, **kwargs: Any) -> Any:
        token = _given.set(take_keywords(kwargs))
        try:
            return original(*args, **kwargs)
        finally:
            _given.reset(token)

    return connect


def _constructing(options: Options, spans: QuerySpans, flows: Flows, original: Method) -> Method:
    """``Connection.__init__``: our keywords are taken out; from here on the connection is watched."""
    original = _told(original)

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        ours = {**(_given.get() or {}), **take_keywords(kwargs)}
        checked = options.with_keywords(ours, CONNECT) if ours else options
        arguments = arguments_of(args, kwargs)
        given = dict(arguments.keywords)
        if given.get("sock") is not None:  # it cannot be opened again
            checked = checked.with_keywords({"failover": "off"}, CONNECT)
        record = Record(ADAPTER, self, checked, arguments)
        record.configuring, record.off, record.active_caller = True, True, True  # where it fails, pg8000 closes
        self.__dict__.update({KEY: record, PLACE: place_of(given)})

        def attempt(address: Address | None, seconds: float) -> Any:
            if address is None:
                original(self, *args, **kwargs)
                return self
            elsewhere, own = redirected(given, address), given.get("timeout")
            original(self, **{**elsewhere, "timeout": min(seconds, own or seconds)})
            self._usock.settimeout(own)
            self.__dict__[PLACE] = place_of(elsewhere)
            return self

        with spans.connect(checked, functools.partial(_site_of, given)):
            connected(ADAPTER, flows, checked, functools.partial(_request, given, checked), attempt)
        record.configuring = record.active_caller = False
        record.attach(self, (self.__dict__[PLACE],))
        record.settings_client.keep_reported()
        spans.attend(record, checked)

    return __init__


def _site_of(given: dict[str, Any]) -> Site:
    return Site(postgresql.SYSTEM, database_of(given), *place_of(given))


def _request(given: dict[str, Any], options: Options) -> Asked:
    login = (str(given.get("user")), database_of(given), hash(str(given.get("password"))))
    return Asked(_site_of(given), options, login)


# --- the calls of connections and cursors ------------------------------------------------------------------------


def _connections(
    patches: Patches, kind: type[Any], calls: MethodWrappers, endings: EndWrappers, spans: QuerySpans, flows: Flows
) -> None:
    def over(name: str, make: Callable[[Method], Method]) -> None:
        patches.close_over(kind, name, make)

    def begun(name: str) -> Method:
        return functools.partial(spans.command, name)

    over("commit", lambda original: _unless_idle(endings, _told_alone(original), Request.COMMIT))
    over("rollback", lambda original: _unless_idle(endings, _told_alone(original), Request.ROLLBACK))
    over(
        "tpc_begin",
        lambda original: calls.call(_told(original), Request.STATEMENT, begun("BEGIN"), two_phase.begins),
    )
    over(
        "tpc_prepare",
        lambda original: calls.call(_told(original), Request.TWO_PHASE, begun("PREPARE TRANSACTION")),
    )
    over(
        "tpc_commit",
        lambda original: two_phase.committing(_told(original), functools.partial(calls.call, begin=begun("COMMIT"))),
    )
    undo = functools.partial(calls.call, begin=begun("ROLLBACK"))
    over("tpc_rollback", lambda original: two_phase.rolling_back(_told(original), undo))
    over("tpc_recover", lambda original: calls.call(_told(original), Request.STATEMENT))
    change = setting(DRIVER, flows, lambda value: ("autocommit",), reentrant=False)(_keep_autocommit)
    patches.replace(kind, "autocommit", _Changed(change))


class _Changed:
    """An attribute of objects that is read as ever: pg8000 reads it with each statement. `change` changes it."""

    def __init__(self, change: Callable[[Any, Any], None]) -> None:
        self._change = change

    def __set__(self, connection: Any, value: Any) -> None:
        self._change(connection, value)


def _keep_autocommit(self: Any, value: Any) -> None:
    self.__dict__["autocommit"] = value


def _unless_idle(endings: EndWrappers, original: Method, call: Request) -> Method:
    """Skip all steps of a rollback without an open transaction: it sends nothing."""
    watched = endings.slow(original, call)

    @functools.wraps(original)
    def end(self: Any) -> Any:
        record = record_of(self)
        if record is None or record.needs_slow_path or call is Request.COMMIT:
            return watched(self)
        return (original if ADAPTER.transaction_status(self, record) == 0 else watched)(self)

    return endings.ending(original, call, slowly=end)


def _cursors(patches: Patches, kind: type[Any], calls: MethodWrappers, spans: QuerySpans) -> None:
    make = functools.partial(calls.statement, connection_of=_of_cursor, named="operation")
    patches.close_over(kind, "execute", lambda original: make(_told(original), direct=original))
    patches.close_over(
        kind,
        "executemany",
        lambda original: first_taken(spans.nobody, make(in_parts(_told(original)), begin=spans.batch)),
    )
    if hasattr(kind, "callproc"):
        patches.close_over(
            kind,
            "callproc",
            lambda original: calls.call(
                _told(original),
                Request.STATEMENT,
                spans.procedure,
                lambda record, name, *given: calls.effects_of(f"CALL {name}()"),
                _of_cursor,
            ),
        )


def _prepared_statements(patches: Patches, kind: type[Any], calls: MethodWrappers) -> None:
    for name, make in (("__init__", preparing), ("run", running), ("close", closing_statement)):
        patches.close_over(kind, name, lambda original, make=make: make(_told(original), calls))  # type: ignore[misc]
