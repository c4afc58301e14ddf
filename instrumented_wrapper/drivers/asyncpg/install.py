"""What is patched of asyncpg, as a list: how it connects, and what the app calls. What asyncpg sends within is its own.

A call of the app is one statement, whatever asyncpg sends for it: the parse, the types that it looks up, ``jit``.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

import asyncpg
from asyncpg import connect_utils, cursor, prepared_stmt
from asyncpg import connection as module
from asyncpg import pool as pools
from asyncpg import protocol as protocols
from asyncpg.connection import Connection, _Callback
from asyncpg.transaction import Transaction

from instrumented_wrapper.batches import first_taken
from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.asyncpg import frequent
from instrumented_wrapper.drivers.asyncpg.adapter import (
    ADAPTER,
    CODECS,
    ROLE,
    address_of,
    kept_with_protocol,
    spells_role,
)
from instrumented_wrapper.drivers.asyncpg.blocks import COMMIT, ROLLBACK, blocks
from instrumented_wrapper.drivers.asyncpg.calls import AsyncPGCalls, streaming
from instrumented_wrapper.drivers.asyncpg.endings import ends
from instrumented_wrapper.drivers.asyncpg.listeners import ListeningRecord, listening
from instrumented_wrapper.drivers.asyncpg.prepared import preparing, statements
from instrumented_wrapper.drivers.engine.adapted_record import Arguments, record_of
from instrumented_wrapper.drivers.engine.async_driver import AsyncDriver
from instrumented_wrapper.drivers.engine.connect_search import Request as ConnectRequest
from instrumented_wrapper.drivers.engine.connect_search import connected_async
from instrumented_wrapper.drivers.engine.flow import StatementFlow
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.request import Request, itself
from instrumented_wrapper.drivers.engine.search import PRIMARY
from instrumented_wrapper.drivers.registry import KEY, drop_all
from instrumented_wrapper.errors import Address
from instrumented_wrapper.operations import Site, Words
from instrumented_wrapper.options import CONNECT, Options, take_keywords
from instrumented_wrapper.patching import Patches

Method = Callable[..., Any]
PARTS: Final[dict[Any, list[str]]] = {
    connect_utils: ["_connect", "_parse_connect_arguments"],
    Connection: """_abort _cleanup _clean_tasks _check_open is_closed terminate close execute
    fetch fetchval fetchrow executemany prepare add_listener remove_listener
    set_type_codec reset_type_codec set_builtin_type_codec ._protocol
    ._transport ._addr ._server_version ._server_caps ._intro_query ._aborted ._listeners ._stmt_cache ._stmts_to_close
    ._top_xact ._config ._params ._pool_release_ctr""".split(),
    module: ["_Callback"],
    protocols: ["Protocol", "NO_TIMEOUT"],
    protocols.Protocol: """query prepare close_statement bind_execute copy_out is_connected is_in_transaction
    get_settings get_server_pid set_connection""".split(),
    cursor.BaseCursor: """_bind_exec _bind _exec _close_portal ._portal_name ._exhausted ._state ._query ._args
    ._con_release_ctr""".split(),
    prepared_stmt.PreparedStatement: "fetch fetchval fetchrow executemany ._state ._query ._con_release_ctr".split(),
    Transaction: ["start", "__aexit__", COMMIT, ROLLBACK, "._nested", "._managed"],
}
_COPY: Final = Words("COPY", operation="COPY")
_BLOCKS: Final = tuple(vars(Transaction)[name] for name in ("start", COMMIT, ROLLBACK))
_COPIES: Final = "copy_from_table copy_from_query copy_to_table copy_records_to_table".split()
_CODECS: Final = "set_type_codec reset_type_codec set_builtin_type_codec".split()


class AsyncPGDriver(AsyncDriver):
    """`Driver` for asyncpg, whose connections have no ``rollback()``."""

    def roll_back(self, connection: Any) -> Any:
        """Roll back by SQL."""
        return connection.execute("ROLLBACK")


DRIVER: Final = AsyncPGDriver(ADAPTER)
_given: Final[ContextVar[dict[str, Any] | None]] = ContextVar("given", default=None)  # our keywords of a `connect`
_hosts: Final[ContextVar[list[Any] | None]] = ContextVar("hosts", default=None)  # what asyncpg takes them to be


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch asyncpg's classes."""
    spans = QuerySpans(ADAPTER, flows.operations)
    calls = AsyncPGCalls(ADAPTER, StatementFlow(ADAPTER, DRIVER, flows, flows.run_async), spans)
    patches.replace(Connection, KEY, kept_with_protocol())
    connect = _taking_keywords(module.connect)
    for owner in (asyncpg, module, pools.connection):
        patches.replace(owner, "connect", connect)
    patches.close_over(connect_utils, "_parse_connect_arguments", _noting_hosts)
    patches.close_over(connect_utils, "_connect", functools.partial(_connecting, options, spans, flows))
    _connections(patches, calls, spans)
    statements(patches, calls, spans)
    blocks(patches)
    ends(patches, DRIVER, flows)


def uninstall() -> None:
    """Forget the connections that were watched; they go on working."""
    drop_all(ADAPTER.name)


def _connections(patches: Patches, calls: AsyncPGCalls, spans: QuerySpans) -> None:
    def statement(name: str, begin: Method, named: str) -> None:
        make = functools.partial(calls.statement, connection_of=itself, named=named, begin=begin)
        patches.close_over(Connection, name, functools.partial(make, parameters_of=_sets))

    patches.close_over(Connection, "execute", functools.partial(frequent.statement, calls, spans, _executed(spans)))
    for name in ("fetch", "fetchval", "fetchrow"):
        patches.close_over(Connection, name, functools.partial(frequent.statement, calls, spans, spans.statement))
    batches = {"executemany": "command", "fetchmany": "query"}
    for name, named in batches.items():
        if hasattr(Connection, name):
            patches.close_over(Connection, name, functools.partial(streaming, itself))
            statement(name, spans.batch, named)
            patches.close_over(Connection, name, functools.partial(first_taken, spans.nobody))
    patches.close_over(Connection, "prepare", functools.partial(preparing, calls))
    for name in _COPIES:
        patches.close_over(Connection, name, functools.partial(streaming, itself))
        patches.close_over(Connection, name, functools.partial(_copying, calls, functools.partial(spans.part, _COPY)))
    for name in _CODECS:
        patches.close_over(Connection, name, lambda original: calls.call(_noting_codec(original), Request.STATEMENT))
    patches.close_over(Connection, "add_listener", functools.partial(_listening, calls, spans, "LISTEN"))
    patches.close_over(Connection, "remove_listener", functools.partial(_listening, calls, spans, "UNLISTEN"))


def _sets(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs.get("args")


def _executed(spans: QuerySpans) -> Method:
    """Begin the span of ``Connection.execute``: what a ``transaction()`` block sends is a command."""
    blocks = frozenset(getattr(function, "__wrapped__", function).__code__ for function in _BLOCKS)

    def begin(record: Any, this: Any, query: Any, parameters: Any) -> Any:
        if sys._getframe(2).f_code in blocks:
            return spans.command(str(query).split(" ", 1)[0].rstrip(";"), record)
        return spans.statement(record, this, query, parameters)

    return begin


def _copying(calls: AsyncPGCalls, begin: Method, original: Method) -> Method:
    asks = original.__name__ == "copy_from_query"

    def effects(record: Any, query: Any = "", *args: Any, **kwargs: Any) -> Any:
        found = calls.effects_of(f"COPY ({query}) TO STDOUT") if asks else None
        return None if found is None else record.settings_client.with_functions(found)

    return calls.call(original, Request.STATEMENT, lambda record, *args, **kwargs: begin(record), effects)


def _noting_codec(original: Method) -> Method:
    """``Connection.set_type_codec`` and its kind: a switch does it again, in the same order."""

    @functools.wraps(original)
    async def change(self: Any, typename: Any, *args: Any, **kwargs: Any) -> Any:
        result = await original(self, typename, *args, **kwargs)
        if (record := record_of(self)) is not None and not record.internal:
            codecs, of = record.driver_state.setdefault(CODECS, {}), (kwargs.get("schema", "public"), typename)
            codecs.pop(of, None)
            if not original.__name__.startswith("reset"):
                codecs[of] = (original.__name__, (typename, *args), kwargs)
        return result

    return change


def _listening(calls: AsyncPGCalls, spans: QuerySpans, command: str, original: Method) -> Method:
    """Wrap ``Connection.add_listener`` and its counterpart: asyncpg keeps the channels, a switch listens again."""

    words = Words(command, operation=command)

    def begin(record: Any, channel: Any, callback: Any) -> Any:
        others = {*record.connection()._listeners.get(channel, ())} - {_Callback.from_callable(callback)}
        return None if others else spans.part(words, record)

    return calls.call(listening(original), Request.STATEMENT, begin)


def _taking_keywords(original: Method) -> Method:
    """``connect``, which lists its keywords: ours go past it."""

    @functools.wraps(original)
    async def connect(*args: Any, **kwargs: Any) -> Any:
        token = _given.set(take_keywords(kwargs))
        try:
            return await original(*args, **kwargs)
        finally:
            _given.reset(token)

    return connect


def _noting_hosts(original: Method) -> Method:
    """Wrap ``_parse_connect_arguments``: record the address, whether it comes from arguments, a DSN, a service or
    variables.
    """

    @functools.wraps(original)
    def _parse_connect_arguments(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if (hosts := _hosts.get()) is not None:
            hosts[:] = result[0]
        return result

    return _parse_connect_arguments


def _connecting(options: Options, spans: QuerySpans, flows: Flows, original: Method) -> Method:
    """``connect_utils._connect``, which all ways to connect call: from here on the connection is watched."""

    @functools.wraps(original)
    async def _connect(**kwargs: Any) -> Any:
        ours = _given.get()
        checked = options.with_keywords(ours, CONNECT) if ours else options
        hosts: list[Any] = []
        token = _hosts.set(hosts)
        attempt = functools.partial(_attempt, original, kwargs)
        try:
            with spans.connect(checked, functools.partial(_requested_site, kwargs)):
                connection = await connected_async(
                    ADAPTER, flows, checked, lambda: _request(checked, kwargs, hosts), attempt
                )
        finally:
            _hosts.reset(token)
        given = Arguments((), {name: value for name, value in kwargs.items() if name != "connection_class"})
        record = ListeningRecord(ADAPTER, connection, checked, given)
        record.driver_state["port"] = address_of(connection._addr)[1]
        await record.attach_async(connection, tuple(address_of(one) for one in hosts or [connection._addr]))
        record.keep_reported()
        spans.attend(record, checked)
        return connection

    return _connect


async def _attempt(original: Method, given: dict[str, Any], address: Address | None, seconds: float) -> Any:
    """Connect to the app's host, or to another one."""
    if address is None:
        return await original(**given)
    host, port = address
    role = {} if spells_role(given) else {ROLE: PRIMARY}
    token = _hosts.set(None)
    try:
        return await original(**{**given, **role, "host": host, "port": port})
    finally:
        _hosts.reset(token)


def _request(options: Options, given: dict[str, Any], hosts: list[Any]) -> ConnectRequest:
    login = hash((given.get("dsn"), given.get("user"), given.get("database")))
    role, own = str(given.get(ROLE) or PRIMARY), tuple(address_of(one) for one in hosts)
    return ConnectRequest(_requested_site(given), options, login, role, own)


def _requested_site(keywords: dict[str, Any]) -> Site:
    """Return the address that keywords request; a DSN is not parsed for a span."""
    host, port = (_only(keywords.get(name)) for name in ("host", "port"))
    single = isinstance(host, str) and "," not in host
    database = str(keywords.get("database") or keywords.get("user") or "")
    return Site(postgresql.SYSTEM, database, str(host) if single else "", port if type(port) is int else None)


def _only(given: Any) -> Any:
    return given[0] if isinstance(given, (list, tuple)) and len(given) == 1 else given
