"""What is patched of mysql.connector.aio, as a list.

Every text goes through ``cmd_query``, with the values of its parameters in it. Only prepared cursors and
``cmd_query_iter`` send otherwise.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final

from mysql.connector.aio import cursor as cursors
from mysql.connector.aio.connection import MySQLConnection

from instrumented_wrapper.batches import first_taken
from instrumented_wrapper.databases.mysql.connect_arguments import requested_site
from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.engine.adapted_record import Arguments, record_of
from instrumented_wrapper.drivers.engine.async_calls import AsyncMethodWrappers
from instrumented_wrapper.drivers.engine.async_closing import closing_after_reset
from instrumented_wrapper.drivers.engine.async_record import AsyncRecord
from instrumented_wrapper.drivers.engine.flow import StatementFlow
from instrumented_wrapper.drivers.engine.guards import lost_step
from instrumented_wrapper.drivers.engine.partial_execution import in_parts
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.request import Request, itself
from instrumented_wrapper.drivers.for_mysql import selects
from instrumented_wrapper.drivers.mysql_connector import driver_defaults
from instrumented_wrapper.drivers.mysql_connector_aio.adapter import MySQLConnectorAio, WithoutFailover
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.options import CONNECT, Options, take_keywords
from instrumented_wrapper.patching import Patches

Method = Callable[..., Any]
logger = logging.getLogger("instrumented_wrapper")
PARTS: Final = {
    MySQLConnection: """cmd_query cmd_query_iter cmd_init_db cmd_ping cmd_reset_connection cmd_change_user connect close
    get_rows shutdown reconnect info_query ._autocommit ._charset ._database ._handshake ._have_next_result ._host
    ._in_transaction ._port ._socket ._sql_mode ._time_zone ._unix_socket""".split(),
    cursors.MySQLCursor: "executemany nextset ._connection".split(),
    cursors.MySQLCursorPrepared: "execute executemany ._connection".split(),
}
_NO_FAILOVER: Final = (
    "mysql.connector.aio: failover is not offered, because this driver reads wrong answers after a cancelled "
    "statement: use aiomysql or asyncmy for it"
)
_NO_MORE: Final = object()
_lossless: Final = functools.partial(bytes.decode, encoding="utf-8", errors="surrogateescape")


ADAPTER: Final = MySQLConnectorAio()
DRIVER: Final = WithoutFailover(ADAPTER)


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch the connections and cursors."""
    spans = QuerySpans(ADAPTER, flows.operations)
    calls = AsyncMethodWrappers(ADAPTER, StatementFlow(ADAPTER, DRIVER, flows, flows.run_async), spans)
    over = functools.partial(patches.close_over, MySQLConnection)
    over("__init__", functools.partial(_constructing, options, functools.cache(logger.warning)))
    over("connect", functools.partial(_connecting, spans))
    over("reconnect", _of_the_driver)
    over("info_query", _of_the_driver)
    over("cmd_query", functools.partial(_sending, calls))
    over("cmd_query_iter", functools.partial(_iterating, calls))
    over("cmd_init_db", functools.partial(calls.call, call=Request.STATEMENT, effects=selects))
    over("cmd_ping", functools.partial(calls.call, call=Request.STATEMENT))
    for name in ("cmd_reset_connection", "cmd_change_user"):
        over(name, functools.partial(calls.call, call=Request.STATEMENT))
        over(name, _beginning_anew)
    over("get_rows", functools.partial(calls.read, connection_of=itself))
    over("shutdown", _shutting_down)
    over("close", closing_after_reset(ADAPTER, DRIVER, flows, functools.partial(ADAPTER.shut, for_good=True)))
    patches.replace(MySQLConnection, "disconnect", MySQLConnection.close)
    _cursors(patches, calls, spans)


def _cursors(patches: Patches, calls: AsyncMethodWrappers, spans: QuerySpans) -> None:
    make = functools.partial(calls.statement, connection_of=attrgetter("_connection"), named="operation")
    for kind in (cursors.MySQLCursor, cursors.MySQLCursorPrepared):
        patches.close_over(
            kind,
            "executemany",
            lambda original: first_taken(spans.nobody, make(in_parts(original), begin=spans.batch)),
        )
    patches.close_over(cursors.MySQLCursorPrepared, "execute", make)
    patches.close_over(
        cursors.MySQLCursor, "nextset", functools.partial(calls.read, connection_of=attrgetter("_connection"))
    )


def _constructing(options: Options, warn_once: Method, original: Method) -> Method:
    """``__init__``: our keywords are taken out; the connection is tracked once it has connected."""

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        ours = take_keywords(kwargs)
        checked = options.with_keywords(ours, CONNECT) if ours else options
        original(self, *args, **kwargs)
        if checked.failover == "on" or checked.failover_hosts:
            warn_once(_NO_FAILOVER)
        checked = replace(checked, failover="off")
        record = AsyncRecord(ADAPTER, self, checked, Arguments(args, dict(kwargs)))
        record.configuring, record.off = True, True
        self.__dict__[KEY] = record

    return __init__


def _connecting(spans: QuerySpans, original: Method) -> Method:
    """``connect``: from here on the connection is watched; a second time it begins a new session."""

    @functools.wraps(original)
    async def connect(self: Any) -> Any:
        record: AsyncRecord | None = self.__dict__.get(KEY)
        if record is None:
            return await original(self)
        before, record.active_caller = record.active_caller, True  # what the driver sends then is its own
        try:
            with spans.connect(record.options, functools.partial(requested_site, record.arguments.keywords)):
                result = await original(self)
        except BaseException as error:
            lost_step(ADAPTER, self, record, error)
            raise
        finally:
            record.active_caller = before
        if record.generation:
            driver_defaults.begin_anew(self, record, _kept(self))
            return result
        record.configuring = False
        await record.attach_async(self, (ADAPTER.where(self),))
        spans.attend(record, record.options)
        return result

    return connect


def _of_the_driver(original: Method) -> Method:
    """Wrap ``reconnect``, whose close is not the app's and resets nothing, and ``info_query``: what the driver asks."""

    @functools.wraps(original)
    async def method(self: Any, *args: object, **kwargs: object) -> Any:
        record: AsyncRecord | None = self.__dict__.get(KEY)
        if record is None:
            return await original(self, *args, **kwargs)
        before, record.active_caller = record.active_caller, record.caller()
        try:
            return await original(self, *args, **kwargs)
        except BaseException as error:
            lost_step(ADAPTER, self, record, error)
            raise
        finally:
            record.active_caller = before

    return method


def _kept(connection: Any) -> Iterator[tuple[str, str]]:
    """Yield the settings that the driver gives to each session that it begins."""
    yield from driver_defaults.kept_settings(connection)
    names = ("character_set_client", "character_set_results", "character_set_connection")
    yield from ((name, connection._charset.name) for name in names)
    yield "collation_connection", connection._charset.collation


def _sending(calls: AsyncMethodWrappers, original: Method) -> Method:
    """``cmd_query``: cursors give it bytes, which the wrapper reads as text. No byte of them is lost by that."""

    @functools.wraps(original)
    async def as_bytes(self: Any, text: str, **kwargs: Any) -> Any:
        return await original(self, text.encode(errors="surrogateescape"), **kwargs)

    sent = calls.script(as_bytes, "query")

    @functools.wraps(original)
    async def cmd_query(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        record: AsyncRecord | None = self.__dict__.get(KEY)
        if record is None or args or (record.active_caller and record.goes_to_driver()):
            return await original(self, query, *args, **kwargs)
        return await sent(self, query if isinstance(query, str) else _lossless(bytes(query)), **kwargs)

    return cmd_query


def _iterating(calls: AsyncMethodWrappers, original: Method) -> Method:
    """``cmd_query_iter``: several statements in one text; with its first answer they have been sent."""

    async def first(connection: Any, text: str, *, answers: AsyncIterator[Any]) -> Any:
        return await anext(answers, _NO_MORE)

    def later(connection: Any, answers: AsyncIterator[Any]) -> Awaitable[Any]:
        return anext(answers, _NO_MORE)

    begin, go_on = calls.script(first, "statements"), calls.fetch(later, itself)

    @functools.wraps(original)
    async def cmd_query_iter(self: Any, statements: Any, **kwargs: Any) -> AsyncIterator[Any]:
        answers = original(self, statements, **kwargs)
        text = statements if isinstance(statements, str) else _lossless(bytes(statements))
        try:
            result = await begin(self, text, answers=answers)
            while result is not _NO_MORE:
                yield result
                result = await go_on(self, answers)
        finally:
            await answers.aclose()

    return cmd_query_iter


def _beginning_anew(original: Method) -> Method:
    """The app, or the driver's pool, resets the session: only what the driver itself keeps remains."""

    @functools.wraps(original)
    async def method(self: Any, *args: object, **kwargs: object) -> Any:
        result = await original(self, *args, **kwargs)
        record = record_of(self)
        if result and record is not None and not (record.off or (record.active_caller and record.is_within())):
            driver_defaults.begin_anew(self, record, _kept(self))
        return result

    return method


def _shutting_down(original: Method) -> Method:
    """``shutdown``: the app closes it, without a word to the server."""

    @functools.wraps(original)
    async def shutdown(self: Any) -> None:
        if (record := record_of(self)) is not None:
            record.closed_by_app = True
            record.refresh()
        await original(self)
        ADAPTER.mark_closed(self)

    return shutdown
