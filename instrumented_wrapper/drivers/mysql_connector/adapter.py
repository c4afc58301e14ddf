"""What mysql-connector-python is like: `DriverAdapter`, for its pure connections and for those of the C extension."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final
from weakref import ref

from mysql.connector import Error, errors  # by name: while it is being imported, its package does not have it
from mysql.connector.abstracts import MySQLConnectionAbstract
from mysql.connector.connection import MySQLConnection
from mysql.connector.constants import ClientFlag

from instrumented_wrapper.databases import mysql
from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.partial_execution import codes_of, frames_of
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.for_mysql import STALE, ForMySQL, cell_text, code_of
from instrumented_wrapper.drivers.mysql_connector import driver_defaults, sockets
from instrumented_wrapper.drivers.server_session import Rows
from instrumented_wrapper.errors import Address
from instrumented_wrapper.plans import Assignment

try:
    from _mysql_connector import MySQLInterfaceError
    from mysql.connector.connection_cext import CMySQLConnection
except ImportError:  # without the C extension
    KINDS: tuple[type[Any], ...] = (MySQLConnection,)
    LOST: tuple[type[Exception], ...] = ()
else:
    KINDS = (MySQLConnection, CMySQLConnection)
    LOST = (MySQLInterfaceError,)  # of a lost connection's commit() and rollback(); no DB-API error

_QUIET: Final = 0.5  # seconds; where the socket is not known: after such a pause it is pinged before a statement
# What belongs to the physical connection.
_PHYSICAL: Final = (
    *"_socket _protocol _cmysql _handshake _server_version _unread_result _have_next_result _columns_desc".split(),
    *"_columns _in_transaction _host _port _unix_socket _ssl_active _query_attrs_supported _client_flags".split(),
    sockets.NAME,
)
_EXCHANGES: Final = codes_of(
    [
        getattr(MySQLConnection, name)
        for name in ("_send_cmd", "_send_data", "_handle_result", "_handle_binary_result", "cmd_query_iter", "get_rows")
    ]
)
_SENDING: Final = ("__init__", "cmd_change_user", "cmd_ping", "cmd_reset_connection")
# The methods that the wrapper uses itself, as they are before they are patched.
_ORIGINALS: Final = {(kind, name): getattr(kind, name) for kind in KINDS for name in _SENDING}


def _call(connection: object, name: str, *arguments: Any, **keywords: object) -> Any:
    kind = next(kind for kind in KINDS if isinstance(connection, kind))
    return _ORIGINALS[kind, name](connection, *arguments, **keywords)


class MySQLConnector(ForMySQL):
    """`DriverAdapter` for mysql-connector-python."""

    name = "mysql.connector"
    error: type[Exception] = Error
    raises: tuple[type[Exception], ...] = (Error, *LOST)
    operational_error: type[Exception] = errors.OperationalError
    programming_error: type[Exception] = errors.ProgrammingError
    error_number: int | None = None  # its constructor takes the text first
    number_attribute = "errno"
    kinds: tuple[type[Any], ...] = (MySQLConnectionAbstract,)

    def version(self, connection: Any) -> str:
        handshake = connection._handshake or {}
        return str(handshake.get("server_version_original") or "")

    def transaction_status(self, connection: Any, record: Record) -> TransactionStatus:
        """Return the status by the flags of the last response; for a lost connection, the status before the loss."""
        if record.driver_state.get("lost") == record.generation:
            return record.transaction_status
        try:
            return TransactionStatus.INTRANS if connection.in_transaction else TransactionStatus.IDLE
        except Exception:  # noqa: BLE001 - the C extension has closed it
            return record.transaction_status

    def seems_open(self, connection: Any, record: Record) -> bool:
        """Return the flag of the last response: an attribute, in C a field of the struct that the object itself has."""
        return self.transaction_status(connection, record) == TransactionStatus.INTRANS

    def begins(self, connection: Any) -> bool:
        """Return True outside autocommit, by what was set: the driver does not keep the server's flag."""
        record = record_of(connection)
        value = None if record is None else record.on_server.of("autocommit")[0]
        return value == "0" if value is not None else not connection._autocommit

    def is_streaming(self, connection: Any) -> bool:
        """Return True if a result has unread rows."""
        if connection.unread_result or connection._have_next_result:
            return True
        return _is_c(connection) and not self.has_ended(connection) and bool(connection.more_results)

    def is_closed(self, connection: object) -> bool:
        record = record_of(connection)
        return record is not None and record.driver_state.get("closed") == record.generation

    def mark_closed(self, connection: object) -> None:
        """Record that the connection is closed."""
        if (record := record_of(connection)) is not None:
            record.driver_state["closed"] = record.generation

    def is_lost(self, connection: object, error: BaseException | None) -> bool:
        """Return True also for errors without a number that mysql-connector raises itself."""
        if super().is_lost(connection, error) or _vanished(error):
            return True
        unnumbered = isinstance(error, self.operational_error) and code_of(error) < 0
        return unnumbered and not (self.is_closed(connection) or self.is_alive(connection))

    def leaves_unread(self, connection: object, error: BaseException) -> bool:
        """Return True for an interruption of the pure driver: in C, nothing interrupts an exchange."""
        return not isinstance(error, self.raises) and any(frame.f_code in _EXCHANGES for frame in frames_of(error))

    def is_alive(self, connection: Any) -> bool:
        try:
            if getattr(connection, "_cmysql", None) is None:
                _call(connection, "cmd_ping")
                return True
            alive = bool(connection._cmysql.ping())
        except (Error, OSError, *LOST):  # type: ignore[misc, unused-ignore]
            alive = False
        if not alive:
            self.mark_lost(connection)
        return alive

    def socket(self, connection: object) -> int | None:
        if _is_c(connection):
            return sockets.number_of(connection)
        sock = getattr(getattr(connection, "_socket", None), "sock", None)
        return None if sock is None or sock.fileno() < 0 else int(sock.fileno())

    def keep_context(self, connection: object) -> None:
        """Have the driver not send our spans where it cannot, see `driver_defaults`."""
        driver_defaults.keep_context(connection, knows=mysql.system_of(self.version(connection)) != "mariadb")

    def look(self, connection: object, record: Record) -> None:
        """Query the server after a pause, where there is no socket to look at."""
        if record.failover and self.socket(connection) is None:
            record.poll = partial(_is_quiet, ref(record))

    def where(self, connection: Any) -> tuple[str, int | None]:
        path = connection._unix_socket
        return (str(path), None) if path else (str(connection._host), int(connection._port))

    def database(self, connection: Any) -> str:
        """Return the database of the arguments of ``connect``, or of the last ``cmd_change_user``."""
        record = record_of(connection)
        given = {} if record is None else record.arguments.keywords
        return str(given.get("database", connection._database) or "")

    def known(self, connection: object, record: Record, name: str) -> str | None:
        """Return nothing: the driver does not expose what the server reports."""
        return None

    def send(self, connection: Any, texts: Sequence[str]) -> list[Rows]:
        """Send everything as one text, unless the app has disabled that in the driver."""
        together = connection.isset_client_flag(ClientFlag.MULTI_STATEMENTS)
        given = [";".join(texts)] if together and texts else texts
        return [rows for text in given for rows in _answers(connection, text)]

    def finish(self, connection: object, command: str) -> None:
        """Send COMMIT or ROLLBACK."""
        self.send(connection, [command])

    def reset(self, connection: Any, record: Record, without_database: bool = False) -> bool:
        """Reset the session; the driver redoes what connecting did, with the values that it has now."""
        if without_database:
            given = connection._user, connection._password, "", connection._charset_id
            _call(connection, "cmd_change_user", *given)
            return True
        return bool(_call(connection, "cmd_reset_connection"))

    def before_assign(self, connection: object, assignments: Sequence[Assignment], back: bool) -> None:
        """Update the settings that the driver keeps itself."""
        driver_defaults.give(connection, assignments)
        self.keep_context(connection)

    def exact(self, cursor: object, query: object, parameters: object) -> str | None:
        """The driver puts parameters into the text on its way: that one is read in `cmd_query`."""
        return None

    def open(self, connection: Any, record: Record, address: Address, role: str, seconds: float) -> Any:
        """Connect with the app's own arguments, and with the database that is the current one now."""
        host, port = address
        given = {**record.arguments.keywords, "host": host, "port": port or 3306}
        for name in ("db", "failover", "pool_name", "pool_size", "pool_reset_session"):
            given.pop(name, None)
        if host.startswith("/"):
            given["unix_socket"] = host
        else:
            given.pop("unix_socket", None)
        given["connection_timeout"] = max(1, round(min(seconds, given.pop("connect_timeout", None) or seconds)))
        if database := self.current_database(connection, record):
            given["database"] = database
        new: Any = object.__new__(type(connection))
        _call(new, "__init__")  # as it is before it is patched: nobody watches this one yet
        new.otel_context_propagation = connection.otel_context_propagation
        with _context_of(connection, new, stale=record.driver_state.pop(STALE, False)):
            try:
                new.connect(**given)
            except BaseException as error:  # the driver closes what it has opened only after an Exception
                if isinstance(error, Error):
                    record.driver_state[STALE] = self.answer(error)[0] == mysql.TLS_FAILED
                self.shut(new, for_good=True)
                raise
        return new

    def key(self, connection: Any, record: Record) -> tuple[Any, ...]:
        """Return the user and the database of the login; of the password only a hash is kept."""
        return (connection._user, connection._database, hash(str(connection._password)))

    def swap(self, connection: object, other: object) -> Any:
        """Exchange the physical side. A result that is still to be read is given up."""
        ours, theirs = connection.__dict__, other.__dict__
        for name in _PHYSICAL:
            if name in ours or name in theirs:
                ours[name], theirs[name] = theirs.get(name), ours.get(name)
        return other

    def shut(self, connection: Any, for_good: bool) -> None:
        """Close without a word where it is lost."""
        self.mark_closed(connection) if for_good else self.mark_lost(connection)
        with contextlib.suppress(Exception):  # it has ended, or it ends now
            if getattr(connection, "_cmysql", None) is not None:
                connection._cmysql.close()
            elif connection._socket is not None:
                connection._socket.close_connection()


@contextlib.contextmanager
def _context_of(connection: Any, new: Any, stale: bool) -> Iterator[None]:
    """While inside, a pure connection uses the TLS context of another one: making one costs 50 ms of CPU."""
    sock = getattr(getattr(connection, "_socket", None), "sock", None)
    context = None if stale else getattr(sock, "context", None)
    make = getattr(new, "_get_connection", None)
    if context is None or make is None:
        yield
        return

    def _get_connection() -> Any:
        made = make()
        made.build_ssl_context = lambda **_: context
        return made

    new._get_connection = _get_connection
    try:
        yield
    finally:
        del new._get_connection


def _is_quiet(record: Callable[[], Any], timeout: int) -> bool:
    return bool(time.monotonic() - record().last_response_at > _QUIET)


def _answers(connection: Any, text: str) -> Iterator[Rows]:
    """Send a text past all that is patched, and yield the rows of each of its statements.

    The driver's own settings for results have no part in it.
    """
    answers = _of_c(connection._cmysql, text) if _is_c(connection) else _of_pure(connection, text)
    for rows in answers:
        yield [[cell_text(cell) for cell in row] for row in rows]


def _of_c(handle: Any, text: str) -> Iterator[Sequence[Any]]:
    more = True
    try:
        handle.query(text.encode())
        while more:
            yield list(iter(handle.fetch_row, None)) if handle.have_result_set else ()
            handle.free_result()
            if more := handle.more_results():
                handle.next_result()
    except (
        KeyboardInterrupt,
        SystemExit,
    ):  # heard once the answer is there: left unread, it would be the app's to read
        _give_up(handle)
        raise


def _give_up(handle: Any) -> None:
    handle.free_result()
    while handle.more_results():
        handle.next_result()
        handle.free_result()


def _of_pure(connection: Any, text: str) -> Iterator[Sequence[Any]]:
    for _ in connection.cmd_query_iter(text):
        yield connection.get_rows(raw=True)[0] if connection.unread_result else ()


def _is_c(connection: object) -> bool:
    return getattr(connection, "_cmysql", None) is not None


def _vanished(error: BaseException | None) -> bool:
    """Return True if the kernel gave the connection up: raised as the same error as the app's ``read_timeout``."""
    cause = None if error is None else error.__cause__
    return isinstance(cause, TimeoutError) and cause.errno == errno.ETIMEDOUT
