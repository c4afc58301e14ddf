"""How connections are made: with our keywords taken out, and a class of ours between the app's and psycopg2's."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from psycopg2 import extensions

from instrumented_wrapper.databases.postgresql.connect_arguments import (
    hosts_of,
    parameters_for,
    requested_role,
    requested_site,
    timeout_for,
)
from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.engine.adapted_record import Arguments, Record
from instrumented_wrapper.drivers.engine.connect_search import Request, connected
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.search import PRIMARY
from instrumented_wrapper.drivers.psycopg2.adapter import ADAPTER
from instrumented_wrapper.drivers.psycopg2.classes import (
    C,
    SwappableConnection,
    Watched,
    become,
    combined,
    is_left_alone,
)
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.errors import Address
from instrumented_wrapper.operations import Site
from instrumented_wrapper.options import CONNECT, Options, take_keywords

Method = Callable[..., Any]
_asked: Final[ContextVar[Options | None]] = ContextVar("asked", default=None)  # for the connection that is being made


def asked(options: Options, spans: QuerySpans, original: Method) -> Method:
    """``psycopg2.connect``: our keywords are taken out before libpq sees them."""

    @functools.wraps(original)
    def connect(
        dsn: object = None, connection_factory: object = None, cursor_factory: object = None, **kwargs: object
    ) -> Any:
        ours = take_keywords(kwargs)
        checked = options.with_keywords(ours, CONNECT) if ours else options
        token = _asked.set(checked)
        try:
            with spans.connect(checked, lambda: _asked_for(dsn, kwargs)):
                # by name, as the app gives them: another tool that wraps connect() looks for them there
                factories = {"connection_factory": connection_factory, "cursor_factory": cursor_factory}
                return original(dsn, **{name: it for name, it in factories.items() if it is not None}, **kwargs)
        finally:
            _asked.reset(token)

    return connect


def _asked_for(dsn: object, keywords: dict[str, Any]) -> Site:
    return requested_site(extensions.parse_dsn(extensions.make_dsn(dsn, **keywords)), os.environ)


class Extensions:
    """``psycopg2.extensions`` as ``connect`` sees it, even if the app imported it before it was patched."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def __getattr__(self, name: str) -> Any:
        return getattr(extensions, name)

    def make_dsn(self, dsn: object = None, **kwargs: object) -> str:
        """Make a connection string, without our keywords."""
        ours = take_keywords(kwargs)
        text: str = extensions.make_dsn(dsn, **kwargs)
        if ours:
            _asked.set(self._options.with_keywords(ours, CONNECT))
        return text


def making(options: Options, spans: QuerySpans, flows: Flows, original: Method) -> Method:
    """``psycopg2._connect``: every connection is made here, with a subclass of the class that the app wants."""

    @functools.wraps(original)
    def _connect(dsn: Any, connection_factory: Any = None, **kwargs: Any) -> Any:
        factory, wanted = connection_factory or C, _asked.get() or options
        _asked.set(None)
        if any(kwargs.values()) or is_left_alone(factory):
            return original(dsn, connection_factory=connection_factory, **kwargs)
        record = Record(ADAPTER, _Unborn(), wanted, Arguments((dsn,), {}))
        kind = SwappableConnection if _may_switch(record, extensions.parse_dsn(dsn)) else Watched
        is_class = isinstance(factory, type) and issubclass(factory, C)
        made_with = combined(factory, kind) if is_class else factory

        def attempt(address: Address | None, seconds: float) -> Any:
            made = original(_redirected(dsn, address, seconds), connection_factory=made_with, **kwargs)
            if address is not None:
                record.arguments = Arguments((dsn,), {})
            return made

        token = _unborn.set(record)
        try:
            connection = connected(ADAPTER, flows, wanted, functools.partial(_request, dsn, wanted), attempt)
        finally:
            _unborn.reset(token)
        if is_class or become(connection, kind):
            _born(record, connection, spans)
        return connection

    return _connect


def _request(dsn: str, options: Options) -> Request:
    given = extensions.parse_dsn(dsn)
    role = requested_role(given, os.environ)
    own = hosts_of(given, os.environ)
    return Request(requested_site(given, os.environ), options, hash(dsn), role or PRIMARY, own)


def _redirected(dsn: str, address: Address | None, seconds: float) -> str:
    """Return the connection string for another host; None: as it is."""
    if address is None:
        return dsn
    given = extensions.parse_dsn(dsn)
    parameters = parameters_for(given, address, requested_role(given, os.environ) or PRIMARY)
    limit = timeout_for(given, os.environ, seconds)
    redirected: str = extensions.make_dsn("", **{**parameters, "connect_timeout": limit})
    return redirected


def _may_switch(record: Record, given: dict[str, Any]) -> bool:
    """Return True if the connection may switch. The hosts of a service are known only once it is connected."""
    by_service = bool(given.get("service") or os.environ.get("PGSERVICE"))
    return record.would_switch(hosts_of(given, os.environ)) or (by_service and record.options.failover == "auto")


def _born(record: Record, connection: object, spans: QuerySpans) -> None:
    """Mark the connection as the app's: changes from now on are not part of the baseline."""
    if KEY not in connection.__dict__ and ADAPTER.socket(connection) is not None:  # a function of the app's has made it
        record.belongs_to(connection)
        ADAPTER.attach(record, connection)
    if record.connection() is connection:
        spans.attend(record, record.options)
        if not record.held:
            record.hand_out()


class _Unborn:
    """Stand for a connection that does not exist yet."""


_unborn: ContextVar[Record | None] = ContextVar("unborn", default=None)


def attaching(original: Method) -> Method:
    """``__init__``: from here on the connection is watched; what a class of the app's does after it is baseline."""

    @functools.wraps(original)
    def __init__(self: Any, dsn: Any, *args: Any, **kwargs: Any) -> None:
        original(self, dsn, *args, **kwargs)
        record = _unborn.get()
        if record is not None and type(record.connection()) in (_Unborn, type(None)):
            record.belongs_to(self)
            record.arguments = Arguments((dsn,), {})  # a class of the app's may have changed it
            ADAPTER.attach(record, self)
            record.configuring = True

    return __init__
