"""What asyncmy is like: `AsyncAdapter`. Private parts that are used are looked for once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from asyncmy.charset import charset_by_name
from asyncmy.connection import Connection, MySQLResult
from asyncmy.errors import Error, OperationalError, ProgrammingError

from instrumented_wrapper.drivers.asyncmy.session_reports import end_status
from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.engine.race import SocketOfTheApp
from instrumented_wrapper.drivers.for_async_mysql import ForAsyncMySQL
from instrumented_wrapper.errors import Address
from instrumented_wrapper.options import CONNECT, Options

logger = logging.getLogger("instrumented_wrapper")
_MOST_IN_A_PACKET: Final = 0xFFFFFF  # bytes; a longer one is sent in several
# Attributes of connections that no compiled class declares: only a connection shows whether they are there.
_OF_INSTANCES: Final = (
    "_host _port _unix_socket _user _password _db _charset _client_flag _sql_mode _init_command _secure _ssl_context"
    " _close_reason _sock _tls_established _unpreparable autocommit_mode host_info"
).split()


class _OwnResult(MySQLResult):  # type: ignore[misc]
    """The answer to what the wrapper itself has sent: a row of 16 MB is no end of rows, for which asyncmy takes it."""

    def _check_packet_is_eof(self, packet: Any) -> Any:
        return len(packet.get_all_data()) < _MOST_IN_A_PACKET and super()._check_packet_is_eof(packet)


class AsyncMy(ForAsyncMySQL):
    """`AsyncAdapter` for asyncmy."""

    name = "asyncmy"
    error: type[Exception] = Error
    raises: tuple[type[Exception], ...] = (Error, OSError, RuntimeError)  # also of streams whose loop is closing
    operational_error: type[Exception] = OperationalError
    programming_error: type[Exception] = ProgrammingError
    kinds: tuple[type[Any], ...] = (Connection,)
    physical = (
        "_proto _transport _connected _secure _tls_established _next_seq_id _host _port _unix_socket host_info"
        " server_status server_version server_thread_id server_capabilities server_language server_charset salt"
        " protocol_version _auth_plugin_name _client_flag _deprecate_eof _mariadb_ext_caps _bulk_supported"
        " _close_reason"
    ).split()
    flags, at_connect = "_client_flag", ("_sql_mode", "_init_command")
    result = _OwnResult
    charset_named = staticmethod(charset_by_name)
    construct = staticmethod(Connection.__init__)
    connect = staticmethod(Connection.connect)
    end = staticmethod(Connection.close)

    def options_of(self, connection: Any, options: Options) -> Options | None:
        """Return None where asyncmy lacks something; no failover where the app has made the socket itself."""
        known = connection.__dict__
        if lacking := ", ".join(name for name in _OF_INSTANCES if name not in known):
            logger.warning("asyncmy's connections lack %s: they are left alone", lacking)
            return None
        return options if connection._sock is None else options.with_keywords({"failover": "off"}, CONNECT)

    async def open(self, connection: Any, record: Record, address: Address, role: str, seconds: float) -> Any:
        """Connect as aiomysql does, but not over a socket of the app's."""
        if connection._sock is not None:
            raise SocketOfTheApp
        return await super().open(connection, record, address, role, seconds)

    def is_open(self, connection: Any) -> bool:
        """Return True if it has streams, perhaps ended ones."""
        return bool(connection._connected)

    def seer(self, connection: Any) -> Callable[[], bool]:
        """Return what reads the present protocol."""
        protocol = connection._proto
        return lambda: protocol is None or protocol.eof or protocol.exc is not None

    def status_of(self, connection: Any, result: Any) -> int | None:
        """Return the flags of its last packet."""
        return end_status(connection, result)

    def reports_later(self, connection: Any) -> bool:
        """Return True if the last result is not read to its end: the packet that ends rows has the reports.

        Where rows end with an EOF packet, that has no room for them.
        """
        result = connection._result
        if result is None or (result.message is None and not connection._deprecate_eof):
            return result is not None
        return bool(result.unbuffered_active or result.has_next)

    def transport(self, connection: Any) -> Any:
        """Return the transport."""
        return connection._transport

    def logged_in(self, connection: Any) -> None:
        """Do what asyncmy does next."""
        connection._connected = True

    def exchange(self, connection: Any, other: Any) -> None:
        """Exchange everything that belongs to the physical connections; statements that were prepared on them are
        dropped.
        """
        for each in (connection, other):
            each._stmt_cache.clear()
        super().exchange(connection, other)
