"""mysql.connector.aio: its statements have spans and metrics. Its sessions are not restored, which is logged once.

After a task was cancelled in a statement, the driver gives each later statement the response to the one before. A query
of the wrapper would take a response of the app's, and the app that of the wrapper. So the wrapper never sends anything
on such a connection: it fetches no value, resets nothing, and does no failover.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any, Final

from mysql.connector.aio.connection import MySQLConnection

from instrumented_wrapper.databases import mysql
from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.operations import Site
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches

Method = Callable[..., Any]
logger = logging.getLogger("instrumented_wrapper")
PARTS: Final = {
    MySQLConnection: "cmd_query connect ._database ._handshake ._host ._port ._unix_socket".split(),
}
_NOT_LOOKED_AFTER: Final = (
    "mysql.connector.aio: statements are recorded, but sessions are neither reset nor carried over: after a cancelled"
    " statement this driver reads wrong answers. Use aiomysql or asyncmy for that"
)
_CANCELLED: Final = (
    "mysql.connector.aio: a statement was cancelled; the driver gives each later statement of this connection the"
    " answer to the one before: close the connection"
)


class _Texts:
    """The part of a driver that `QuerySpans` needs."""

    name = "mysql.connector"
    room = mysql

    def text_of(self, cursor: Any, query: Any) -> str:
        """Return the text of a query, which has the values of its parameters in it."""
        return query.decode(errors="replace") if isinstance(query, (bytes, bytearray)) else str(query)


class _Observed:
    """One connection: its address, and the recorder of its operations."""

    spans_wanted = operations_wanted = False
    generation = 0

    def __init__(self, connection: Any, options: Options) -> None:
        self.options, self.templates = options, None
        version = (connection._handshake or {}).get("server_version_original") or ""
        path = connection._unix_socket
        where = (path, None) if path else (connection._host, connection._port)
        self._site = Site(mysql.system_of(_text(version)), connection._database or "", *where)

    def site(self) -> Site:
        """Return where its statements go: a database that is chosen later is not seen."""
        return self._site


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch how connections connect, and the method that sends a statement."""
    spans = QuerySpans(_Texts(), flows.operations)
    warn_once = functools.cache(logger.warning)
    patches.close_over(MySQLConnection, "connect", functools.partial(_connecting, spans, options, warn_once))
    patches.close_over(MySQLConnection, "cmd_query", functools.partial(_sending, spans, warn_once))


def _connecting(spans: QuerySpans, options: Options, warn: Method, original: Method) -> Method:
    @functools.wraps(original)
    async def connect(self: Any) -> None:
        await original(self)
        warn(_NOT_LOOKED_AFTER)
        observed: Any = _Observed(self, options)
        spans.attend(observed, options)
        self.__dict__[KEY + "_observed"] = observed

    return connect


def _sending(spans: QuerySpans, warn: Method, original: Method) -> Method:
    @functools.wraps(original)
    async def cmd_query(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        observed = self.__dict__.get(KEY + "_observed")
        wanted = observed is not None and observed.operations_wanted and not spans.nobody()
        operation = spans.script(observed, self, query) if wanted else None
        try:
            result = await original(self, query, *args, **kwargs)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and observed is not None:
                warn(_CANCELLED)
            if operation is not None:
                operation.end(error)
            raise
        if operation is not None:
            operation.end()
        return result

    return cmd_query


def _text(version: Any) -> str:
    return version.decode(errors="replace") if isinstance(version, bytes) else str(version)
