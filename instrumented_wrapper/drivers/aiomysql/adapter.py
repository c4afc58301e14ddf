"""What aiomysql is like: `AsyncAdapter`. Private parts that are used are looked for once, when patching."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from aiomysql.connection import Connection, MySQLResult
from pymysql.charset import charset_by_name
from pymysql.constants import CLIENT, COMMAND, CR, SERVER_STATUS
from pymysql.err import Error, OperationalError, ProgrammingError

from instrumented_wrapper import runners
from instrumented_wrapper.databases.mysql import questions, tracking
from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.async_record import AsyncRecord
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.for_mysql import ForMySQL
from instrumented_wrapper.drivers.registry import KEY, poll_of
from instrumented_wrapper.drivers.server_session import Rows
from instrumented_wrapper.drivers.session_track import TRACKED
from instrumented_wrapper.errors import Address

_IN_TRANSACTION: Final = SERVER_STATUS.SERVER_STATUS_IN_TRANS
_IDLE, _INTRANS = TransactionStatus.IDLE, TransactionStatus.INTRANS  # to look into an enum costs as much as a call
_COM_RESET_CONNECTION: Final = 0x1F
_ENCODED: Final = ("character_set_client", "character_set_connection")
_TURNS: Final = 5  # of the event loop, after which it has read what had come
_construct: Final[Any] = Connection.__init__
_connect: Final[Any] = Connection._connect
_close: Final[Any] = Connection.close
# What belongs to the physical connection.
_PHYSICAL: Final = (
    "_reader _writer _secure _next_seq_id _host _port _unix_socket host_info server_status server_version"
    " server_thread_id server_capabilities server_language server_charset salt protocol_version _server_auth_plugin"
    " _auth_plugin_used client_flag connected_time _close_reason"
).split()


class AioMySQL(ForMySQL):
    """`AsyncAdapter` for aiomysql."""

    name = "aiomysql"
    error = Error
    raises: tuple[type[Exception], ...] = (Error, OSError, RuntimeError)  # also of streams whose loop is closing
    operational_error = OperationalError
    programming_error = ProgrammingError
    kinds: tuple[type[Any], ...] = (Connection,)
    run = staticmethod(runners.run_async)
    blocks = False

    def version(self, connection: Any) -> str:
        return str(connection.server_version)

    def transaction_status(self, connection: Any, record: Record) -> TransactionStatus:
        """Tell by the flags of the server's last answer."""
        return _INTRANS if connection.server_status & _IN_TRANSACTION else _IDLE

    def begins(self, connection: Any) -> bool:
        """Tell by the same flags."""
        return not connection.server_status & SERVER_STATUS.SERVER_STATUS_AUTOCOMMIT

    def is_streaming(self, connection: Any) -> bool:
        """Return True if an unbuffered result is not read to its end."""
        result = connection._result
        return result is not None and bool(result.unbuffered_active or result.has_next)

    def is_closed(self, connection: Any) -> bool:
        """Return True if the app has closed it, or aiomysql has: that closes when a task is cancelled."""
        if connection._writer is not None:
            return False
        record = record_of(connection)
        return record is None or record.closed_by_app or connection._close_reason is not None

    def has_ended(self, connection: Any) -> bool:
        """aiomysql closes at the first sign of a loss; the event loop may know it before."""
        if (reader := connection._reader) is None:
            return not self.is_closed(connection)
        return bool(reader.eof_received or reader.exception() is not None)

    def mark_lost(self, connection: Any) -> None:
        _close(connection)

    def is_lost(self, connection: Any, error: BaseException | None) -> bool:
        """Do as every driver of MySQL, and cut a cycle: a stream keeps its socket's error, and that these frames."""
        if error is not None and isinstance(error.__cause__, OSError):
            error.__cause__.__traceback__ = None
        return super().is_lost(connection, error)

    async def is_alive(self, connection: Any) -> bool:
        """Let the event loop read what has come; ping if that was no end. A write to a dead socket keeps its frames."""
        for _ in range(_TURNS):
            if self.has_ended(connection):
                _close(connection)
                return False
            await asyncio.sleep(0)
        try:
            await connection._execute_command(COMMAND.COM_PING, "")
            await connection._read_ok_packet()
        except self.raises:
            _close(connection)
        return connection._writer is not None

    def socket(self, connection: Any) -> int | None:
        """Return the socket's descriptor."""
        sock = None if connection._writer is None else connection._writer.get_extra_info("socket")
        return None if sock is None or sock.fileno() < 0 else int(sock.fileno())

    def poll(self, connection: Any) -> Callable[[int], Any]:
        """Look at what the event loop has read, then at the socket."""
        reader, descriptor = connection._reader, self.socket(connection)
        look = None if descriptor is None else poll_of(descriptor)
        if reader is None or look is None:
            return lambda timeout: True

        def poll(timeout: int) -> Any:
            return reader.eof_received or reader.exception() is not None or look(timeout)

        return poll

    def cutter(self, connection: Any) -> Callable[[], None] | None:
        """Return what aborts the transport: the reader sees its end."""
        writer = connection._writer
        return None if writer is None else writer.transport.abort

    def where(self, connection: Any) -> tuple[str, int | None]:
        path = connection._unix_socket
        return (str(path), None) if path else (str(connection._host), int(connection._port))

    def database(self, connection: Any) -> str:
        """Return what connecting asked for."""
        return str(connection._db or "")

    def known(self, connection: Any, record: Record, name: str) -> str | None:
        """Autocommit is among the flags."""
        return str(int(not self.begins(connection))) if name == "autocommit" and connection._writer else None

    async def send(self, connection: Any, texts: Sequence[str]) -> list[Rows]:
        """Write all of them, then read the answers; the app's last result stays what it was."""
        kept = connection._result, connection._affected_rows
        connection._result = None
        try:
            numbers = [await _write(connection, COMMAND.COM_QUERY, text) for text in texts]
            return await _answers(connection, numbers)
        finally:
            if connection._writer is not None:
                connection._result, connection._affected_rows = kept

    def reports_later(self, connection: Any) -> bool:
        """Tell by the last result, which may be one of several."""
        result = connection._result
        return result is not None and (result.message is None or bool(result.has_next))

    def tracks(self, connection: Any) -> bool:
        return TRACKED in connection.__dict__

    async def fetch_reports(self, connection: Any) -> None:
        """Send what changes nothing: the answer to that reports all that is still to be reported."""
        mariadb = questions.dialect_of(self.version(connection)).mariadb
        await connection._execute_command(COMMAND.COM_QUERY, tracking.LISTEN_MARIADB if mariadb else tracking.LISTEN)
        await connection._read_ok_packet()  # patched: it hears what is reported

    async def reset(self, connection: Any, record: Record, without_database: bool = False) -> bool:
        """Reset the session and, in the same round trip, redo what connecting did: the server has its defaults now."""
        if without_database:  # aiomysql has no COM_CHANGE_USER
            return False
        texts = [tracking.ENABLE] if TRACKED in connection.__dict__ else []
        texts.append(f"SET NAMES {record.driver_state.get('charset') or connection._charset}")
        texts += [] if connection.sql_mode is None else [f"SET sql_mode={connection.sql_mode}"]
        texts += [] if connection.init_command is None else [connection.init_command]
        autocommit = record.arguments.keywords.get("autocommit", False)
        texts += [] if autocommit is None else [f"SET autocommit={int(bool(autocommit))}"]
        numbers = [await _write(connection, _COM_RESET_CONNECTION, b"")]
        numbers += [await _write(connection, COMMAND.COM_QUERY, text) for text in texts]
        await _answers(connection, numbers)
        self.restored(connection, record, _ENCODED)
        return True

    def restored(self, connection: Any, record: Record, settings: Sequence[str]) -> None:
        """aiomysql encodes by what it was told last."""
        if record.driver_state and any(
            name in settings for name in _ENCODED
        ):  # what a switch leaves behind writes no more
            _encode_in(connection, record.driver_state["charset"])

    def exact(self, cursor: Any, query: Any, parameters: Any) -> str | None:
        """Return the statement as aiomysql will send it."""
        try:
            return self.text_of(cursor, cursor.mogrify(query, parameters))
        except Exception:  # noqa: BLE001 - aiomysql does the same again, and says what is wrong
            return None

    async def open(self, connection: Any, record: Record, address: Address, role: str, seconds: float) -> Any:
        """Connect with the app's own arguments, and with the database that is the current one now."""
        database = self.current_database(connection, record)
        new = await self.opened_like(connection, record, address, database, tracks=TRACKED in connection.__dict__)
        if connection._secure and new._ssl_context and not new._secure:
            self.shut(new, True)
            raise OperationalError(CR.CR_SSL_CONNECTION_ERROR, "the server offers no TLS")
        return new

    async def opened_like(
        self, connection: Any, record: Record, address: Address, database: str | None = None, tracks: bool | None = None
    ) -> Any:
        """Return a new connection with the app's own arguments to another host.

        Args:
            connection: the app's.
            record: of that one.
            address: where to connect.
            database: to be the current one; the one that the app has asked for by default.
            tracks: have the server report what changes; by default, unless the app itself has it do so.
        """
        new: Any = object.__new__(type(connection))
        _construct(new, *record.arguments.positional, **record.arguments.keywords)
        if database is not None:
            new._db = database or None
            new.client_flag |= CLIENT.CONNECT_WITH_DB if database else 0
        self._lead_to(new, address)
        if not new.client_flag & CLIENT.SESSION_TRACK if tracks is None else tracks:
            new.__dict__[TRACKED] = True
        try:
            await _connect(new)
        except BaseException:  # a task that is cancelled, too: aiomysql closes what it has opened only after errors
            self.shut(new, True)
            raise
        return new

    @staticmethod
    def _lead_to(connection: Any, address: Address) -> None:
        host, port = address
        connection._host, connection._port = ("localhost", 3306) if host.startswith("/") else (host, port or 3306)
        connection._unix_socket = host if host.startswith("/") else None  # also where an option file names one

    def asked_for_by(self, connection: Any) -> dict[str, Any]:
        """Return what the app has asked for, as arguments: also what it has given by position, or in an option file."""
        names = "host port unix_socket user password db".split()
        return {name: value for name in names if (value := getattr(connection, f"_{name}")) is not None}

    def key(self, connection: Any, record: Record) -> tuple[Any, ...]:
        """Return who asks for which database; of the password only a number is kept."""
        return (connection._user, connection._db, hash(str(connection._password)))

    def swap(self, connection: Any, other: Any) -> Any:
        """Exchange the streams, and what belongs to them. A result that is still to be read is given up."""
        result = connection._result
        if result is not None and result.unbuffered_active:
            result.unbuffered_active = False
        connection._result = other._result = None
        record: AsyncRecord = connection.__dict__[KEY]
        carried = record.options.transfer_session_state_on_switch and _ENCODED[0] in record.carried_settings()
        if (
            not carried or other._charset != record.driver_state["charset"]
        ):  # the app's own transfer handler has chosen one
            _encode_in(connection, other._charset)
        self.exchange(connection, other)
        return other

    def exchange(self, connection: Any, other: Any) -> None:
        """Exchange what belongs to the physical connections."""
        ours, theirs = connection.__dict__, other.__dict__
        for name in _PHYSICAL:
            ours[name], theirs[name] = theirs.get(name), ours.get(name)
        for own, tracked in ((ours, theirs.pop(TRACKED, None)), (theirs, ours.pop(TRACKED, None))):
            own |= {TRACKED: True} if tracked else {}

    def shut(self, connection: Any, for_good: bool) -> None:
        """Close the streams without a word."""
        with suppress(RuntimeError):  # the event loop is closed already
            _close(connection)


def _encode_in(connection: Any, charset: str) -> None:
    connection._charset, connection._encoding = charset, charset_by_name(charset).encoding


class _OwnResult(MySQLResult):  # type: ignore[misc]
    """The answer to what the wrapper itself has sent: as the driver reads it, past all that is patched."""

    _read_ok_packet = MySQLResult._read_ok_packet
    _check_packet_is_eof = MySQLResult._check_packet_is_eof


async def _write(connection: Any, command: int, text: str | bytes) -> int:
    """Send a command; return the number of the packet that answers it: more than 16 MB are sent as several packets."""
    await connection._execute_command(command, text)
    return int(connection._next_seq_id)


async def _answers(connection: Any, numbers: Sequence[int]) -> list[Rows]:
    """Read the answers to commands that were sent one after the other; the first error is raised at the end.

    Args:
        numbers: of the packets with which the answers begin.
    """
    found: list[Rows] = []
    failed: Exception | None = None
    for number in numbers:
        connection._next_seq_id = number
        result = _OwnResult(connection)
        try:
            await result.read()
        except Error as error:
            failed = failed or error
            if connection._writer is None:
                break
            continue
        if result.server_status is not None:
            connection.server_status = result.server_status
        found.append([[_text(cell) for cell in row] for row in result.rows or ()])
    if failed is not None:
        raise failed
    return found


def _text(cell: Any) -> str | None:
    """Return a cell; under ``character_set_results=binary`` aiomysql takes each for bytes."""
    return None if cell is None else cell.decode() if isinstance(cell, bytes) else str(cell)


async def track(connection: Any) -> None:
    """Have the server report what changes, beginning with the character sets."""
    connection.__dict__[TRACKED] = True
    await connection._execute_command(COMMAND.COM_QUERY, tracking.BEGIN)
    await connection._read_ok_packet()
