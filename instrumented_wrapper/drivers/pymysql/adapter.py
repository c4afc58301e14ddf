"""What PyMySQL is like: `DriverAdapter`. Private parts that are used are looked for once, when patching.

Classes are taken from the modules that define them, once. After ``install_as_MySQLdb()`` an ``import MySQLdb.cursors``
loads a second copy of a module, and ``pymysql.cursors`` is then that copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pymysql.connections import Connection, MySQLResult, charset_by_name
from pymysql.constants import COMMAND, CR
from pymysql.err import Error, OperationalError, ProgrammingError

from instrumented_wrapper.databases import mysql
from instrumented_wrapper.databases.mysql import questions, tracking
from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.for_mysql import STALE, cell_text
from instrumented_wrapper.drivers.for_pymysql import (
    COM_RESET_CONNECTION,
    ENCODED,
    ForPyMySQL,
    exchange_tracked,
    give_up_results,
)
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.drivers.server_session import Rows
from instrumented_wrapper.drivers.session_track import TRACKED
from instrumented_wrapper.errors import Address

_construct: Final[Any] = Connection.__init__
# What belongs to the physical connection.
_PHYSICAL: Final = (
    "_sock _rfile _secure _next_seq_id _current_timeout host port unix_socket host_info server_status server_version"
    " server_thread_id server_capabilities server_language server_charset salt protocol_version _auth_plugin_name"
    " client_flag ctx _closed"
).split()


class PyMySQL(ForPyMySQL):
    """`DriverAdapter` for PyMySQL."""

    name = "pymysql"
    error = Error
    raises: tuple[type[Exception], ...] = (Error,)
    operational_error = OperationalError
    programming_error = ProgrammingError
    kinds: tuple[type[Any], ...] = (Connection,)

    def is_closed(self, connection: Any) -> bool:
        return bool(connection._closed)

    def has_ended(self, connection: Any) -> bool:
        """PyMySQL closes the socket at the first sign of a loss."""
        return connection._sock is None and not connection._closed

    def mark_lost(self, connection: Any) -> None:
        connection._force_close()

    def is_alive(self, connection: Any) -> bool:
        try:
            connection._execute_command(COMMAND.COM_PING, "")
            connection._read_ok_packet()
        except (Error, OSError):
            connection._force_close()
        return connection._sock is not None

    def socket(self, connection: Any) -> int | None:
        """Return the socket's descriptor."""
        return None if connection._sock is None else int(connection._sock.fileno())

    def where(self, connection: Any) -> tuple[str, int | None]:
        path = connection.unix_socket
        return (str(path), None) if path else (str(connection.host), int(connection.port))

    def database(self, connection: Any) -> str:
        """Return the database of the arguments of ``connect``, which PyMySQL encodes."""
        name = connection.db
        return name.decode(errors="replace") if isinstance(name, bytes) else str(name or "")

    def known(self, connection: Any, record: Record, name: str) -> str | None:
        """Autocommit is among the flags."""
        return str(int(not self.begins(connection))) if name == "autocommit" and connection._sock else None

    def send(self, connection: Any, texts: Sequence[str]) -> list[Rows]:
        """Write all of them, then read the answers; the app's last result stays what it was."""
        kept = connection._result, connection._affected_rows
        connection._result = None
        try:
            return list(_answers(connection, [_write(connection, COMMAND.COM_QUERY, text) for text in texts]))
        finally:
            if connection._sock is not None:
                connection._result, connection._affected_rows = kept

    def fetch_reports(self, connection: Any) -> None:
        """Send what changes nothing: the answer to that reports all that is still to be reported."""
        mariadb = questions.dialect_of(self.version(connection)).mariadb
        connection._execute_command(COMMAND.COM_QUERY, tracking.LISTEN_MARIADB if mariadb else tracking.LISTEN)
        connection._read_ok_packet()  # patched: it receives the reports

    def reset(self, connection: Any, record: Record, without_database: bool = False) -> bool:
        """Reset the session and, in the same round trip, redo what connecting did: the server has its defaults now."""
        if without_database:  # PyMySQL has no COM_CHANGE_USER
            return False
        kept = record.driver_state or vars(connection)  # what a switch leaves behind
        charset, collation = kept["charset"], kept["collation"]
        texts = [tracking.ENABLE] if TRACKED in connection.__dict__ else []
        texts.append(f"SET NAMES {charset}" + (f" COLLATE {collation}" if collation else ""))
        texts += [] if connection.sql_mode is None else [f"SET sql_mode={connection.escape(connection.sql_mode)}"]
        texts += [] if connection.init_command is None else [connection.init_command]
        autocommit = record.arguments.keywords.get("autocommit", False)
        texts += [] if autocommit is None else [f"SET autocommit={int(bool(autocommit))}"]
        numbers = [_write(connection, COM_RESET_CONNECTION, b"")]
        numbers += [_write(connection, COMMAND.COM_QUERY, text) for text in texts]
        list(_answers(connection, numbers))
        self.restored(connection, record, ENCODED)
        return True

    def restored(self, connection: Any, record: Record, settings: Sequence[str]) -> None:
        """Restore the encoding: PyMySQL uses the last one that was set."""
        known = record.driver_state  # empty for what a switch leaves behind, which writes no more
        if known and any(name in settings for name in ENCODED):
            connection.charset, connection.collation = known["charset"], known["collation"]
            connection.encoding = charset_by_name(connection.charset).encoding

    def open(self, connection: object, record: Record, address: Address, role: str, seconds: float) -> Any:
        """Connect with the app's own arguments, and with the database that is the current one now."""
        host, port = address
        given = {**record.arguments.keywords, "database": self.current_database(connection, record) or None}
        given["connect_timeout"] = min(seconds, given.get("connect_timeout") or seconds)
        given.pop("db", None)
        new = _construct_like(connection, record, {**given, "defer_connect": True})
        new.host, new.port = ("localhost", 3306) if host.startswith("/") else (host, port or 3306)
        if TRACKED in connection.__dict__:
            new.__dict__[TRACKED] = True  # its server is asked, too, to report what changes
        new.unix_socket = host if host.startswith("/") else None  # also where an option file names one
        with _in_time(new, seconds):
            try:
                new.connect()
            except OperationalError as error:
                record.driver_state[STALE] = self.answer(error)[0] == mysql.TLS_FAILED
                raise
        if _is_stripped(connection, new):
            self.shut(new, True)
            raise OperationalError(CR.CR_SSL_CONNECTION_ERROR, "the server offers no TLS")
        return new

    def key(self, connection: Any, record: Record) -> tuple[Any, ...]:
        """Return the user and the database of the login; of the password only a hash is kept."""
        return (connection.user, connection.db, hash(bytes(connection.password)))

    def swap(self, connection: Any, other: Any) -> Any:
        """Exchange the sockets, and what belongs to them. A result that is still to be read is given up."""
        give_up_results(connection, other)
        ours, theirs = connection.__dict__, other.__dict__
        record: Record = ours[KEY]
        carried = record.options.transfer_session_state_on_switch and ENCODED[0] in record.carried_settings()
        handled = other.charset != record.driver_state["charset"]  # the app's own transfer handler has chosen one
        if not carried or handled:
            connection.charset, connection.collation = other.charset, other.collation
            connection.encoding = other.encoding
        for name in _PHYSICAL:
            ours[name], theirs[name] = getattr(other, name, None), getattr(connection, name, None)
        exchange_tracked(connection, other)
        return other

    def shut(self, connection: Any, for_good: bool) -> None:
        """Close the socket without a word where it is lost."""
        connection._closed = for_good
        connection._force_close()


def _construct_like(connection: object, record: Record, given: dict[str, Any]) -> Any:
    """Construct as the app did, with the TLS context that the connection has: making one costs 50 ms of CPU."""
    new: Any = object.__new__(type(connection))
    context = None if record.driver_state.pop(STALE, False) else connection.__dict__.get("ctx")
    if context is not None:
        new.__dict__["_create_ssl_ctx"] = lambda _: context
    _construct(new, **given)
    new.__dict__.pop("_create_ssl_ctx", None)
    return new


def _is_stripped(connection: Any, new: Any) -> bool:
    """Return True if PyMySQL 1.1 continues in plain text where a server offers no TLS, even if the app requires it."""
    required = new.ssl and getattr(new, "_ssl_required", True)
    return bool(required and connection._secure and not new._secure)


def _write(connection: Any, command: int, text: str | bytes) -> int:
    """Send a command; return the number of the packet that answers it: more than 16 MB are sent as several packets."""
    connection._execute_command(command, text)
    return int(connection._next_seq_id)


class _OwnResult(MySQLResult):  # type: ignore[misc]
    """The answer to what the wrapper itself has sent: read past all that is patched."""

    _check_packet_is_eof = MySQLResult._check_packet_is_eof


def _answers(connection: Any, numbers: Sequence[int]) -> Iterator[Rows]:
    """Read the answers to commands that were sent one after the other; the first error is raised at the end.

    Args:
        numbers: of the packets with which the answers begin.
    """
    failed: Exception | None = None
    for number in numbers:
        connection._next_seq_id = number
        result = _OwnResult(connection)
        try:
            result.read()
        except Error as error:
            failed = failed or error
            if connection._sock is None:
                break
            continue
        if result.server_status is not None:
            connection.server_status = result.server_status
        yield [[cell_text(cell) for cell in row] for row in result.rows or ()]
    if failed is not None:
        raise failed


@contextmanager
def _in_time(connection: Any, seconds: float) -> Iterator[None]:
    """While inside, answers may take no longer; ``connect_timeout`` is not for the answers of a server that accepts."""
    own = connection._read_timeout
    connection._read_timeout = min(seconds, own or seconds)
    yield
    connection._read_timeout = own


def track(connection: Any) -> None:
    """Have the server report what changes, beginning with the character sets."""
    connection.__dict__[TRACKED] = True
    connection._execute_command(COMMAND.COM_QUERY, tracking.BEGIN)
    connection._read_ok_packet()
