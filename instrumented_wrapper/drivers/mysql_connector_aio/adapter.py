"""What mysql.connector.aio is like: `AsyncAdapter`, and its `Driver`, which never switches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from mysql.connector import Error
from mysql.connector.aio.charsets import charsets
from mysql.connector.aio.connection import MySQLConnection
from mysql.connector.aio.network import NetworkBrokerCompressed, NetworkBrokerPlain

from instrumented_wrapper import runners
from instrumented_wrapper.drivers import Flow, Replacement
from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.engine.async_driver import AsyncDriver
from instrumented_wrapper.drivers.engine.partial_execution import codes_of, frames_of
from instrumented_wrapper.drivers.for_mysql import ForMySQL, cell_text
from instrumented_wrapper.drivers.mysql_connector import driver_defaults
from instrumented_wrapper.drivers.mysql_connector.adapter import MySQLConnector
from instrumented_wrapper.drivers.registry import never
from instrumented_wrapper.drivers.server_session import Rows
from instrumented_wrapper.failover import Loss, NoServer
from instrumented_wrapper.plans import Assignment

_QUERY, _ROWS, _PING = MySQLConnection.cmd_query, MySQLConnection.get_rows, MySQLConnection.cmd_ping
_RESET: Final = MySQLConnection.cmd_reset_connection
_EXCHANGES: Final = codes_of(
    [getattr(broker, name) for broker in (NetworkBrokerPlain, NetworkBrokerCompressed) for name in ("read", "write")]
    + [getattr(MySQLConnection, name) for name in ("_send_cmd", "_handle_result", "_handle_binary_result", "get_rows")]
)
_CHARSET, _COLLATION = "character_set_client", "collation_connection"


class MySQLConnectorAio(MySQLConnector):
    """`AsyncAdapter` for mysql.connector.aio, whose connections keep their state as the pure sync ones do."""

    name = "mysql.connector.aio"
    raises: tuple[type[Exception], ...] = (Error, OSError)
    kinds: tuple[type[Any], ...] = (MySQLConnection,)
    run: Callable[[Flow[Any]], Any] = staticmethod(runners.run_async)
    blocks: bool = False

    def version(self, connection: Any) -> str:
        """Return the version of the handshake, which is bytes here."""
        version = (connection._handshake or {}).get("server_version_original") or ""
        return version.decode(errors="replace") if isinstance(version, bytes) else str(version)

    def is_closed(self, connection: Any) -> bool:
        """Return True if the app has closed it: ``close`` drops the socket."""
        return connection._socket is None or super().is_closed(connection)

    def is_lost(self, connection: Any, error: BaseException | None) -> bool:
        """Return True by the number of the error, or after such an error."""
        return ForMySQL.is_lost(self, connection, error)

    def leaves_unread(self, connection: object, error: BaseException) -> bool:
        """Return True if a task was cancelled, or otherwise interrupted, in an exchange with the server."""
        return not isinstance(error, self.raises) and any(frame.f_code in _EXCHANGES for frame in frames_of(error))

    async def is_alive(self, connection: Any) -> bool:  # type: ignore[override]
        """Ping."""
        try:
            await _PING(connection)
        except self.raises:
            self.mark_lost(connection)
            return False
        return True

    def socket(self, connection: object) -> None:
        """Return nothing: no connection is ever switched."""

    def poll(self, connection: object) -> Callable[[int], Any]:
        """Return what finds nothing, for the same reason."""
        return never

    def cutter(self, connection: Any) -> Callable[[], None] | None:
        """Return what aborts the transport: the reader sees its end."""
        writer = getattr(connection._socket, "_writer", None)
        return None if writer is None else writer.transport.abort

    def text_of(self, cursor: Any, query: Any) -> str:
        """Return a text for telemetry: bytes that are no UTF-8 are replaced."""
        text = super().text_of(cursor, query)
        return text if text.isascii() else text.encode(errors="surrogateescape").decode(errors="replace")

    def executed(self, cursor: Any) -> str | None:
        """Return nothing: what reads rows here is the connection."""
        return None

    async def send(self, connection: Any, texts: Sequence[str]) -> list[Rows]:  # type: ignore[override]
        """Send texts one after the other. An interruption ends the connection: its answer would be the app's next."""
        try:
            return [await _answer(connection, text) for text in texts]
        except self.raises:
            raise
        except BaseException:
            self.shut(connection, for_good=False)
            raise

    def finish(self, connection: object, command: str) -> Any:
        """Send COMMIT or ROLLBACK."""
        return self.query(connection, command)

    async def reset(self, connection: Any, record: Record, without_database: bool = False) -> bool:  # type: ignore[override]
        """Reset the session; the driver redoes what connecting did, with the values that it has now."""
        return not without_database and bool(await _RESET(connection))

    def before_assign(self, connection: Any, assignments: Sequence[Assignment], back: bool) -> None:
        """Update the settings that the driver keeps itself, and gives to each session that it begins."""
        given = dict(assignments)
        driver_defaults.give(connection, [each for each in assignments if each.name != _CHARSET])
        if charset := given.get(_CHARSET):
            collation = given.get(_COLLATION) or ""
            is_its = collation.startswith(f"{charset}_")
            found = charsets.get_by_name_and_collation(charset, collation) if is_its else charsets.get_by_name(charset)
            connection._charset = found
            connection.converter.set_charset(found.name)

    def shut(self, connection: Any, for_good: bool) -> None:
        """Abort the transport."""
        self.mark_closed(connection) if for_good else self.mark_lost(connection)
        with suppress(RuntimeError):  # the event loop is closed already
            if (cut := self.cutter(connection)) is not None:
                cut()


async def _answer(connection: Any, text: str) -> Rows:
    """Send one text past all that is patched, and return its rows."""
    await _QUERY(connection, text)
    rows = (await _ROWS(connection, raw=True))[0] if connection.unread_result else ()
    return [[cell_text(cell) for cell in row] for row in rows]


class WithoutFailover(AsyncDriver):
    """`Driver` for connections that are never switched."""

    def replacement(self, connection: object, loss: Loss, deadline: float) -> Flow[Replacement]:
        """Raise: see the beginning of this module."""
        yield from ()  # a flow, without a step
        raise NoServer(0, True, {(self.name, None): "offers none, use aiomysql or asyncmy"})
