"""Prepared statements and cursors of asyncpg: the objects outlive a switch, their counterparts on the server do not.

A statement is parsed again, under its own name, before its first use in another session. A cursor is gone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from asyncpg import cursor, prepared_stmt
from asyncpg.protocol import NO_TIMEOUT, Protocol

from instrumented_wrapper import pages
from instrumented_wrapper.drivers.asyncpg import frequent
from instrumented_wrapper.drivers.asyncpg.calls import AsyncPGCalls, streaming
from instrumented_wrapper.drivers.engine.adapted_record import record_of
from instrumented_wrapper.drivers.engine.async_calls import ended_async
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.request import Request, itself
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.patching import Patches

Method = Callable[..., Any]
_prepare: Final[Any] = Protocol.prepare
_PREPARED: Final = "_instrumented_wrapper_prepared"  # names of what the session has prepared, since a switch
_PORTALS: Final = "portals"  # what `record.driver_state` has: by the names of portals
_MOST_PORTALS: Final = 64
_connection_of: Final = attrgetter("_connection")


def statements(patches: Patches, calls: AsyncPGCalls, spans: QuerySpans) -> None:
    """Patch the methods that send something."""
    patches.close_over(Protocol, "prepare", _noting_name)
    patches.close_over(Protocol, "close_statement", _forgetting_name)
    for name in ("fetch", "fetchval", "fetchrow"):
        patches.close_over(prepared_stmt.PreparedStatement, name, functools.partial(_fetching, calls, spans))
    for name in ("executemany", "fetchmany"):
        if hasattr(prepared_stmt.PreparedStatement, name):
            patches.close_over(prepared_stmt.PreparedStatement, name, functools.partial(_batch, calls, spans))
    for name in ("_bind_exec", "_bind"):
        patches.close_over(cursor.BaseCursor, name, functools.partial(_opening, calls, spans))
    patches.close_over(cursor.BaseCursor, "_exec", functools.partial(_paging, calls, spans))
    patches.close_over(cursor.BaseCursor, "_close_portal", lambda original: calls.fetch(original, _connection_of))
    patches.close_over(cursor.Cursor, "forward", functools.partial(_paging, calls, spans))


def preparing(calls: AsyncPGCalls, original: Method) -> Method:
    """``Connection.prepare``: nothing is executed yet. It has no span; the executions have."""
    plainly = calls.statement(original, itself, "query", _no_span)
    sent = calls.call(original, Request.STATEMENT)

    @functools.wraps(original)
    async def prepare(self: Any, *args: Any, **kwargs: Any) -> Any:
        query = args[0] if args else kwargs.get("query")
        is_plain = type(query) is str and calls.effects_of(query) is None
        return await (plainly if is_plain else sent)(self, *args, **kwargs)

    return prepare


def _no_span(*given: Any) -> None:
    """Begin none."""


def _noting_name(original: Method) -> Method:
    """Wrap ``Protocol.prepare``: record the names of statements that were prepared in a session that has taken over."""

    @functools.wraps(original)
    async def prepare(self: Any, stmt_name: Any, *args: Any, **kwargs: Any) -> Any:
        state = await original(self, stmt_name, *args, **kwargs)
        record = self.__dict__.get(KEY)
        if stmt_name and record is not None and record.generation > 1:
            self.__dict__.setdefault(_PREPARED, set()).add(stmt_name)
        return state

    return prepare


def _forgetting_name(original: Method) -> Method:
    """``Protocol.close_statement``, which asyncpg calls for what its cache has no room for."""

    @functools.wraps(original)
    async def close_statement(self: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
        self.__dict__.get(_PREPARED, set()).discard(state.name)
        return await original(self, state, *args, **kwargs)

    return close_statement


async def _revive(connection: Any, state: Any) -> None:
    """Have the present session parse a statement that another one has prepared."""
    protocol = connection._protocol
    if protocol is None or not state.name or state.closed:
        return
    record = record_of(connection)
    known = protocol.__dict__.setdefault(_PREPARED, set())
    if record is None or record.generation < 2 or state.name in known:
        return
    await _prepare(protocol, state.name, state.query, NO_TIMEOUT, state=state, record_class=state.record_class)
    known.add(state.name)


def _valid(resource: Any) -> Any:
    """Return the connection of a statement or cursor; None after a return to the pool, which asyncpg reports."""
    connection = resource._connection
    return connection if resource._con_release_ctr == connection._pool_release_ctr else None


def _refused_at_once(original: Method, closure: Method) -> Method:
    """Let the call itself refuse a closed or returned connection, as asyncpg does, without an await."""

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        connection = self._connection
        usable = self._con_release_ctr == connection._pool_release_ctr and connection._protocol is not None
        return (closure if usable else original)(self, *args, **kwargs)

    return method


def _fetching(calls: AsyncPGCalls, spans: QuerySpans, original: Method) -> Method:
    slowly = _executing(calls, spans.statement, original)
    return _refused_at_once(original, frequent.prepared(calls, spans, slowly, original))


def _batch(calls: AsyncPGCalls, spans: QuerySpans, original: Method) -> Method:
    return _refused_at_once(original, _executing(calls, spans.batch, streaming(_connection_of, original)))


def _executing(calls: AsyncPGCalls, begin: Method, original: Method) -> Method:
    async def revived(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        await _revive(self._connection, self._state)
        return await original(self, *args, **kwargs)

    inner = calls.statement(revived, _valid, "query", begin)

    async def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await inner(self, self._query, *args, **kwargs)

    return execute


def _opening(calls: AsyncPGCalls, spans: QuerySpans, original: Method) -> Method:
    """The statement of a cursor: what it opens is a portal of the session."""

    async def revived(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        if self._state is not None:
            await _revive(self._connection, self._state)
        return await original(self, *args, **kwargs)

    def begin(record: Any, this: Any, query: Any, parameters: Any) -> Any:
        return spans.statement(record, this, query, this._args)

    inner = calls.statement(revived, _valid, "query", begin)

    @functools.wraps(original)
    async def bind(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await inner(self, self._query, *args, **kwargs)

    return bind


class _Portal:
    """Stand for a cursor, which has no weak references, where its pages are counted."""


def _portal(record: Any, cursor: Any) -> _Portal:
    portals: dict[str, _Portal] = record.driver_state.setdefault(_PORTALS, {})
    found = portals.setdefault(cursor._portal_name, _Portal())
    while len(portals) > _MOST_PORTALS:
        portals.pop(next(iter(portals)))
    return found


def _paging(calls: AsyncPGCalls, spans: QuerySpans, original: Method) -> Method:
    """Another page of a cursor."""
    fetch = calls.fetch(original, _valid)

    async def page(self: Any, *args: Any, **kwargs: Any) -> Any:
        record: Any = record_of(self._connection)
        if record is None or not self._portal_name or not spans.wanted(record):
            return await fetch(self, *args, **kwargs)
        portal = _portal(record, self)
        result = await ended_async(spans.page(record, portal), functools.partial(fetch, self, *args, **kwargs))
        if self._exhausted:
            pages.over(portal)
        return result

    return _refused_at_once(original, page)
