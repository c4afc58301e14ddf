"""How a connection is made: the wrapper's keywords are taken out, the arguments recorded, the record attached.

`_get_connection_params` sees all arguments of every way to connect, a ``psycopg.connect`` that was imported before
included; what it saw is handed to the constructor through a context variable.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from instrumented_wrapper import runners
from instrumented_wrapper.databases.postgresql.connect_arguments import (
    hosts_of,
    requested_role,
    requested_site,
    timeout_for,
)
from instrumented_wrapper.databases.postgresql.connect_errors import answer_to
from instrumented_wrapper.drivers import Flow, Flows
from instrumented_wrapper.drivers.engine import connect_search
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.search import PRIMARY
from instrumented_wrapper.drivers.psycopg import libpq_race
from instrumented_wrapper.drivers.psycopg.records import Arguments, Record
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.errors import Address
from instrumented_wrapper.operations import Site
from instrumented_wrapper.options import CONNECT, Options, take_keywords
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.runners import as_flow

Method = Callable[..., Any]
logger = logging.getLogger("instrumented_wrapper")


@dataclass(slots=True)
class _Pending:
    """A connection attempt: the app's arguments, and libpq's parameters."""

    options: Options
    arguments: Arguments
    outermost: bool
    parameters: dict[str, Any] | None = None


_pending: ContextVar[_Pending | None] = ContextVar("pending", default=None)


def connecting_with(options: Options, spans: QuerySpans, flows: Flows) -> Callable[..., Any]:
    """Wrap ``Connection.connect``: record the outermost arguments while it runs."""

    def connect(wrapped: Method, instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        pending = _asked(options, args, kwargs)
        attempt = functools.partial(_attempt, runners.run, wrapped, args, kwargs, pending)
        with spans.connect(pending.options, functools.partial(_site, *pending.arguments)):
            request = functools.partial(_request, pending)
            return connect_search.connected(_CONNECTING, flows, pending.options, request, attempt)

    return connect


def connecting_with_async(options: Options, spans: QuerySpans, flows: Flows) -> Callable[..., Any]:
    """``AsyncConnection.connect``, for wrapt."""

    async def connect(wrapped: Method, instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        pending = _asked(options, args, kwargs)
        attempt = functools.partial(_attempt, runners.run_async, wrapped, args, kwargs, pending)
        with spans.connect(pending.options, functools.partial(_site, *pending.arguments)):
            request = functools.partial(_request, pending)
            return await connect_search.connected_async(_CONNECTING, flows, pending.options, request, attempt)

    return connect


def _attempt(
    run: Callable[[Flow[Any]], Any],
    wrapped: Method,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    pending: _Pending,
    address: Address | None,
    seconds: float,
) -> Any:
    """Connect to one host; None: the app's own. May wait."""

    def steps() -> Flow[Any]:
        token = _pending.set(replace(pending))
        try:
            return (yield functools.partial(wrapped, *args, **_redirected(kwargs, pending, address, seconds)))
        finally:
            _pending.reset(token)

    return run(steps())


class _Connecting:
    """`connect_search.Connecting`: libpq itself looks which kind of server it is."""

    name = "psycopg"
    raises: tuple[type[Exception], ...] = (psycopg.OperationalError, OSError)

    def answer(self, error: BaseException) -> tuple[str, str, bool]:
        """Read libpq's words, and psycopg's where it gives up waiting."""
        return answer_to(str(error), "of the kind that is wanted", getattr(error, "sqlstate", None) or "")

    def checked(self, connection: object, role: str, asks: bool) -> Any:
        """Return None: connecting has verified the kind of server."""

    def shut(self, connection: Any, for_good: bool) -> None:
        """End the physical connection."""
        connection.pgconn.finish()


_CONNECTING: Final = _Connecting()


def _request(pending: _Pending) -> connect_search.Request:
    conninfo, keywords = pending.arguments
    given = conninfo_to_dict(conninfo, **keywords)
    login = hash(tuple(sorted((name, str(value)) for name, value in given.items())))
    role = requested_role(given, os.environ)
    own = hosts_of(given, os.environ)
    return connect_search.Request(requested_site(given, os.environ), pending.options, login, role or PRIMARY, own)


def _redirected(kwargs: dict[str, Any], pending: _Pending, address: Address | None, seconds: float) -> dict[str, Any]:
    """Return the keywords of a connect to another host; None: as they are. They come before a connection string."""
    if address is None:
        return kwargs
    host, port = address
    given = conninfo_to_dict(pending.arguments[0], **pending.arguments[1])
    where = {"host": host, "target_session_attrs": _request(pending).role, **({"port": port} if port else {})}
    limit = {"connect_timeout": timeout_for(given, os.environ, seconds)}
    return {**kwargs, **where, **limit, **({"hostaddr": ""} if "hostaddr" in given else {})}


def _site(conninfo: Any, keywords: dict[str, Any]) -> Site:
    return requested_site(conninfo_to_dict(conninfo, **keywords), os.environ)


_OF_CONNECT = ("autocommit", "prepare_threshold", "context", "row_factory", "cursor_factory")


def _asked(options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Pending:
    ours = take_keywords(kwargs)
    checked = options.with_keywords(ours, CONNECT) if ours else options
    given = {name: value for name, value in kwargs.items() if name not in _OF_CONNECT}
    conninfo = args[0] if args else given.pop("conninfo", "")
    return _Pending(checked, Arguments(conninfo, given), outermost=True)


def parameters(options: Options) -> Callable[[Method], Method]:
    """``_get_connection_params`` of both classes."""

    def steps(original: Method, cls: object, conninfo: str, **kwargs: Any) -> Flow[Any]:
        pending = _seen(options, conninfo, kwargs)
        pending.parameters = found = yield functools.partial(original, cls, conninfo, **kwargs)
        return found

    return as_flow(steps)


def _seen(options: Options, conninfo: str, kwargs: dict[str, Any]) -> _Pending:
    ours = take_keywords(kwargs)
    pending = _pending.get()
    if pending is None or not pending.outermost:
        checked = options.with_keywords(ours, CONNECT) if ours else options
        pending = _Pending(checked, Arguments(conninfo, dict(kwargs)), outermost=False)
        _pending.set(pending)
    elif ours:
        pending.options = pending.options.with_keywords(ours, CONNECT)
    return pending


def attaching(options: Options, patches: Patches, spans: QuerySpans) -> Callable[[Method], Method]:
    """``BaseConnection.__init__``: from here on the connection is watched."""

    def make(original: Method) -> Method:
        @functools.wraps(original)
        def __init__(self: Any, pgconn: Any, *args: Any, **kwargs: Any) -> None:
            original(self, pgconn, *args, **kwargs)
            if patches.undone:  # another tool wrapped this method after us, and keeps it
                return
            try:
                record = _record(self, pgconn, options)
                setattr(self, KEY, record)
                spans.attend(record, record.options)
            except Exception as error:  # noqa: BLE001 - the app gets its connection, if need be unobserved
                logger.warning("a connection is not looked after: %s", type(error).__name__)

        return __init__

    return make


def _record(connection: Any, pgconn: object, options: Options) -> Record:
    pending = _pending.get()
    if pending is None or pending.parameters is None or not _made_for(pgconn, pending.parameters):
        record = Record(connection, options, None, _hosts_of(pgconn))
        record.parameters = libpq_race.parameters_of(connection.info)
        return record
    if not pending.outermost:
        _pending.set(None)
    record = Record(connection, pending.options, pending.arguments, hosts_of(pending.parameters, os.environ))
    record.wanted = requested_role(pending.parameters, os.environ)
    return record


def _made_for(pgconn: Any, parameters: Mapping[str, Any]) -> bool:
    """Return True if the physical connection is the requested one: an earlier attempt may have failed."""
    asked = {host for host, _ in hosts_of(parameters, os.environ)}
    return not asked or pgconn.host.decode() in asked


def _hosts_of(pgconn: Any) -> Any:
    try:
        port = pgconn.port.decode()
        return ((pgconn.host.decode(), int(port) if port else None),)
    except Exception:  # noqa: BLE001 - a stand-in for a connection, or one that is already at its end: no host known
        return ()
