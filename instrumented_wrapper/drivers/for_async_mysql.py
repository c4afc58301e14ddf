"""What aiomysql and asyncmy share as drivers: the part of `AsyncAdapter` that is the same for both.

Both keep a connection's state in attributes of the same names. A driver's own file says what differs: how its streams
are read, and what belongs to the physical connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from instrumented_wrapper import runners
from instrumented_wrapper.databases.mysql import questions, tracking
from instrumented_wrapper.drivers import Flow
from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.async_record import AsyncRecord
from instrumented_wrapper.drivers.for_mysql import cell_text
from instrumented_wrapper.drivers.for_pymysql import (
    COM_QUERY,
    COM_RESET_CONNECTION,
    ENCODED,
    ForPyMySQL,
    exchange_tracked,
    give_up_results,
)
from instrumented_wrapper.drivers.registry import KEY, poll_of
from instrumented_wrapper.drivers.server_session import Rows
from instrumented_wrapper.drivers.session_track import TRACKED
from instrumented_wrapper.errors import Address
from instrumented_wrapper.options import Options

_CLIENT_CONNECT_WITH_DB: Final = 1 << 3
CLIENT_SESSION_TRACK: Final = 1 << 23
_COM_PING: Final = 0x0E
_TLS_REFUSED: Final = 2026  # CR_SSL_CONNECTION_ERROR
_TURNS: Final = 5  # of the event loop, after which it has read what had come


class ForAsyncMySQL(ForPyMySQL, Protocol):
    """The shared part of the adapters.

    Attributes:
        physical: the attributes of a connection that belong to the physical connection.
        flags: the attribute that has the client's capabilities.
        at_connect: the attributes that have ``sql_mode`` and ``init_command``.
        result: the driver's class of results, past all that is patched.
        charset_named: returns what the driver knows of a character set: its encoding, its collation.
        construct, connect, end: the driver's own ``__init__``, connect and ``close``, past all that is patched.
    """

    run: Callable[[Flow[Any]], Any] = staticmethod(runners.run_async)
    blocks: bool = False
    physical: Sequence[str]
    flags: str
    at_connect: tuple[str, str]
    result: Callable[[Any], Any]
    charset_named: Callable[[str], Any]
    construct: Callable[..., Any]
    connect: Callable[[Any], Any]
    end: Callable[[Any], Any]

    # --- what a driver's own file says ---------------------------------------------------------------------------

    def is_open(self, connection: Any) -> bool:
        """Return True if neither the app nor the driver has closed the streams."""

    def seer(self, connection: Any) -> Callable[[], bool]:
        """Return a function that returns True once the event loop has read the end of the present stream."""

    def status_of(self, connection: Any, result: Any) -> int | None:
        """Return the flags at the end of a result that was read, where they are known."""

    def transport(self, connection: Any) -> Any:
        """Return the transport of the event loop; None if it is closed."""

    def before_construction(self, connection: Any) -> None:
        """Prepare an object whose ``__init__`` may refuse its arguments."""
        return

    def options_of(self, connection: Any, options: Options) -> Options | None:
        """Return the options of a connection that was constructed; None if it is left alone."""
        return options

    def logged_in(self, connection: Any) -> None:
        """Have the driver send a statement, before it goes on to set the connection up."""
        return

    # --- what is the same ----------------------------------------------------------------------------------------

    def is_closed(self, connection: Any) -> bool:
        """Return True if the app has closed it, or the driver has: that closes when a task is cancelled."""
        if self.is_open(connection):
            return False
        record = record_of(connection)
        return record is None or record.closed_by_app or connection._close_reason is not None

    def has_ended(self, connection: Any) -> bool:
        """The drivers close at the first sign of a loss; the event loop may know it before."""
        return self.seer(connection)() if self.is_open(connection) else not self.is_closed(connection)

    def mark_lost(self, connection: Any) -> None:
        """Close the streams."""
        self.end(connection)

    async def is_alive(self, connection: Any) -> bool:
        """Let the event loop read what has come; ping if that was no end. A write to a dead socket keeps its frames."""
        for _ in range(_TURNS):
            if self.has_ended(connection):
                self.end(connection)
                return False
            await asyncio.sleep(0)
        try:
            await connection._execute_command(_COM_PING, "")
            await connection._read_ok_packet()
        except self.raises:
            self.end(connection)
        return self.is_open(connection)

    def socket(self, connection: Any) -> int | None:
        """Return the socket's descriptor."""
        transport = self.transport(connection)
        sock = None if transport is None else transport.get_extra_info("socket")
        return None if sock is None or sock.fileno() < 0 else int(sock.fileno())

    def poll(self, connection: Any) -> Callable[[int], Any]:
        """Look at what the event loop has read, then at the socket."""
        descriptor = self.socket(connection)
        look = None if descriptor is None else poll_of(descriptor)
        if look is None:
            return lambda timeout: True
        saw_end = self.seer(connection)
        return lambda timeout: saw_end() or look(timeout)

    def cutter(self, connection: Any) -> Callable[[], None] | None:
        """Return what aborts the transport: the reader sees its end."""
        transport = self.transport(connection)
        return None if transport is None else transport.abort

    def where(self, connection: Any) -> tuple[str, int | None]:
        """Return the host and port, or the path of the socket."""
        path = connection._unix_socket
        return (str(path), None) if path else (str(connection._host), int(connection._port))

    def database(self, connection: Any) -> str:
        """Return what connecting asked for."""
        return cell_text(connection._db) or ""

    def known(self, connection: Any, record: Record, name: str) -> str | None:
        """Autocommit is among the flags."""
        return str(int(not self.begins(connection))) if name == "autocommit" and self.is_open(connection) else None

    async def send(self, connection: Any, texts: Sequence[str]) -> list[Rows]:
        """Write all of them, then read the answers; the app's last result stays what it was."""
        kept = connection._result, connection._affected_rows
        connection._result = None
        try:
            numbers = [await _write(connection, COM_QUERY, text) for text in texts]
            return await self._answers(connection, numbers)
        finally:
            if self.is_open(connection):
                connection._result, connection._affected_rows = kept

    async def _answers(self, connection: Any, numbers: Sequence[int]) -> list[Rows]:
        """Read the answers to commands that were sent one after the other; the first error is raised at the end.

        Args:
            connection: the driver's own object.
            numbers: of the packets with which the answers begin.
        """
        found: list[Rows] = []
        failed: Exception | None = None
        for number in numbers:
            connection._next_seq_id = number
            result = self.result(connection)
            try:
                await result.read()
            except self.error as error:
                failed = failed or error
                if not self.is_open(connection) or self.seer(connection)():
                    break
                continue
            if (status := self.status_of(connection, result)) is not None:
                connection.server_status = status
            found.append([[cell_text(cell) for cell in row] for row in result.rows or ()])
        if failed is not None:
            raise failed
        return found

    async def fetch_reports(self, connection: Any) -> None:
        """Send what changes nothing: the answer to that reports all that is still to be reported."""
        mariadb = questions.dialect_of(self.version(connection)).mariadb
        await connection._execute_command(COM_QUERY, tracking.LISTEN_MARIADB if mariadb else tracking.LISTEN)
        await connection._read_ok_packet()  # patched: it receives the reports

    async def reset(self, connection: Any, record: Record, without_database: bool = False) -> bool:
        """Reset the session and, in the same round trip, redo what connecting did: the server has its defaults now."""
        if without_database:  # the drivers have no COM_CHANGE_USER
            return False
        sql_mode, init_command = (getattr(connection, name) for name in self.at_connect)
        texts = [tracking.ENABLE] if TRACKED in connection.__dict__ else []
        charset = record.driver_state.get("charset") or connection._charset
        texts.append(f"SET NAMES {charset} COLLATE {self.charset_named(charset).collation}")
        texts += [] if sql_mode is None else [f"SET sql_mode={sql_mode}"]
        texts += [] if init_command is None else [init_command]
        autocommit = record.arguments.keywords.get("autocommit", False)
        texts += [] if autocommit is None else [f"SET autocommit={int(bool(autocommit))}"]
        numbers = [await _write(connection, COM_RESET_CONNECTION, b"")]
        numbers += [await _write(connection, COM_QUERY, text) for text in texts]
        await self._answers(connection, numbers)
        self.restored(connection, record, ENCODED)
        return True

    def restored(self, connection: Any, record: Record, settings: Sequence[str]) -> None:
        """The drivers encode by what they were told last."""
        known = record.driver_state  # empty for what a switch leaves behind, which writes no more
        if known and any(name in settings for name in ENCODED):
            self._encode_in(connection, known["charset"])

    def _encode_in(self, connection: Any, charset: str) -> None:
        """Have the driver encode what it sends in a character set, as its ``set_charset`` does."""
        connection._charset, connection._encoding = charset, self.charset_named(charset).encoding

    async def open(self, connection: Any, record: Record, address: Address, role: str, seconds: float) -> Any:
        """Connect with the app's own arguments, and with the database that is the current one now."""
        database = self.current_database(connection, record)
        new = await self.opened_like(connection, record, address, database, tracks=TRACKED in connection.__dict__)
        if connection._secure and new._ssl_context and not new._secure:
            self.shut(new, True)
            raise self.operational_error(_TLS_REFUSED, "the server offers no TLS")
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
        kind: Any = type(connection)
        new = kind.__new__(kind)  # asyncmy's is compiled: `object.__new__` refuses it
        self.construct(new, *record.arguments.positional, **record.arguments.keywords)
        if hasattr(new, "_loop"):
            new._loop = asyncio.get_running_loop()  # a probe has one of its own
        flags = getattr(new, self.flags)
        if database is not None:
            new._db = database or None
            setattr(new, self.flags, flags | (_CLIENT_CONNECT_WITH_DB if database else 0))
        self._lead_to(new, address)
        if not flags & CLIENT_SESSION_TRACK if tracks is None else tracks:
            new.__dict__[TRACKED] = True
        try:
            await self.connect(new)
        except BaseException as error:  # also of a cancelled task: aiomysql closes only after errors
            self.shut(new, True)
            if isinstance(error.__cause__, OSError):  # asyncio keeps it, and its frames the app's connection
                error.__cause__.__traceback__ = None
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
        give_up_results(connection, other)
        record: AsyncRecord = connection.__dict__[KEY]
        carried = record.options.transfer_session_state_on_switch and ENCODED[0] in record.carried_settings()
        handled = other._charset != record.driver_state["charset"]  # the app's own transfer handler has chosen one
        if not carried or handled:
            self._encode_in(connection, other._charset)
        self.exchange(connection, other)
        return other

    def exchange(self, connection: Any, other: Any) -> None:
        """Exchange what belongs to the physical connections."""
        for name in self.physical:
            ours, theirs = getattr(connection, name, None), getattr(other, name, None)
            setattr(connection, name, theirs)
            setattr(other, name, ours)
        exchange_tracked(connection, other)

    def shut(self, connection: Any, for_good: bool) -> None:
        """Close the streams without a word."""
        with suppress(RuntimeError):  # the event loop is closed already
            self.end(connection)


async def _write(connection: Any, command: int, text: str | bytes) -> int:
    """Send a command; return the number of the packet that answers it: more than 16 MB are sent as several packets."""
    await connection._execute_command(command, text)
    return int(connection._next_seq_id)
