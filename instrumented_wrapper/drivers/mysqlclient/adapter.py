"""What mysqlclient is like: `DriverAdapter`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from MySQLdb import _exceptions, _mysql
from MySQLdb.connections import Connection
from MySQLdb.constants import CLIENT

from instrumented_wrapper.databases.mysql import questions
from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.for_mysql import ForMySQL, cell_text
from instrumented_wrapper.drivers.registry import wait_for
from instrumented_wrapper.drivers.server_session import Rows
from instrumented_wrapper.errors import Address
from instrumented_wrapper.plans import Assignment

C: Final[Any] = _mysql.connection
DELEGATE: Final = "_instrumented_wrapper_live"  # in a connection's ``__dict__``: what has its physical connection
_WHERE: Final = "_instrumented_wrapper_where"
_AUTOCOMMITS: Final = "_instrumented_wrapper_autocommits"
_POSITIONAL: Final = ("host", "user", "password", "database", "port", "unix_socket")
_ALIASES: Final = {"db": "database", "passwd": "password"}
_CHARACTER_SETS: Final = (
    *("character_set_client", "character_set_results", "character_set_connection"),
    "collation_connection",  # the last: the one before sets it, too
)
_construct: Final[Any] = Connection.__init__
_choose: Final[Any] = Connection.set_character_set
_more_results: Final[Any] = getattr(C, "more_results", None)  # which older versions do not tell
# C methods that no Python method of the class stands before.
_METHODS: Final = tuple(
    name
    for name, member in vars(C).items()
    if type(member).__name__ == "method_descriptor" and name not in vars(Connection)
)
_CLOSED_OVER: Final = ("commit", "rollback", "select_db", "ping", "close", "change_user")


class DetachedConnection:
    """What a switch leaves behind where the physical connection is still in the app's own struct."""

    def __init__(self, connection: Any) -> None:
        self.__dict__[DELEGATE] = connection


def physical(connection: object) -> Any:
    """Return the object whose C struct has the physical connection."""
    return connection.__dict__.get(DELEGATE) or connection


def bind(connection: object, live: object, names: Sequence[str]) -> None:
    """Have the C methods `names` of a connection done on another one."""
    connection.__dict__.update({name: partial(getattr(C, name), live) for name in names})


def keywords_of(positional: Sequence[Any], keywords: Any) -> dict[str, Any]:
    """Return the arguments of ``connect`` by their names."""
    given = {**dict(zip(_POSITIONAL, positional, strict=False)), **keywords}
    return {_ALIASES.get(name, name): value for name, value in given.items()}


def note_where(connection: object, given: dict[str, Any]) -> None:
    """Record the server of a connection, which the driver does not keep. The C library knows the content of option
    files.
    """
    told, _, by = C.get_host_info(connection).partition(" via ")
    host = given.get("host") or (told if by == "TCP/IP" else "localhost")
    port = C.port.__get__(connection) or given.get("port") or 3306
    path = given.get("unix_socket")
    connection.__dict__[_WHERE] = (str(path), None) if path else (str(host), int(port))


class MySQLClient(ForMySQL):
    """`DriverAdapter` for mysqlclient."""

    name = "MySQLdb"
    error: type[Exception] = _exceptions.Error
    raises: tuple[type[Exception], ...] = (_exceptions.Error,)
    operational_error: type[Exception] = _exceptions.OperationalError
    programming_error: type[Exception] = _exceptions.ProgrammingError
    kinds: tuple[type[Any], ...] = (Connection,)

    def version(self, connection: object) -> str:
        record = record_of(connection)
        known = (
            None if record is None else record.driver_state.get("version")
        )  # a connection on its way in has none yet
        return str(known or C.get_server_info(physical(connection)))

    def seems_open(self, connection: object, record: Record) -> bool:
        """Return True if a transaction is open, by what Python keeps: the C struct may be in use by another thread."""
        value = record.on_server.of("autocommit")[0]
        autocommits = physical(connection).__dict__.get(_AUTOCOMMITS, False) if value is None else value == "1"
        known = record.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)
        return known or record.begun or (record.used and not autocommits)

    def begins(self, connection: object) -> bool:
        """Return the autocommit flag of the server's last response, negated."""
        here = physical(connection)
        try:
            here.__dict__[_AUTOCOMMITS] = bool(C.get_autocommit(here))
        except _exceptions.Error:  # closed: as it was
            return not here.__dict__.get(_AUTOCOMMITS, False)
        return not here.__dict__[_AUTOCOMMITS]

    def is_streaming(self, connection: object) -> bool:
        """Return True if rows of an ``SSCursor``, or further results, have not been read yet."""
        here = physical(connection)
        if _more_results is not None and C.open.__get__(here):
            try:
                if _more_results(here):
                    return True
            except _exceptions.ProgrammingError:  # another thread uses the connection at this moment
                return True
        record = record_of(connection)
        cursor = None if record is None else record.driver_state.get("reading")
        cursor = cursor() if cursor is not None else None
        return cursor is not None and cursor._result is not None

    def is_closed(self, connection: object) -> bool:
        """Return True if the app closed the connection, even if the error says lost: mysqlclient has one number for
        both.
        """
        if C.open.__get__(physical(connection)):
            return False
        record = record_of(connection)
        return record is None or record.closed_by_app or not self.has_ended(connection)

    def is_alive(self, connection: object) -> bool:
        try:
            C.ping(physical(connection))
        except _exceptions.Error:
            self.mark_lost(connection)
            return False
        return True

    def socket(self, connection: object) -> int | None:
        here = physical(connection)
        return int(C.fileno(here)) if C.open.__get__(here) else None

    def where(self, connection: object) -> tuple[str, int | None]:
        """Return the address of the arguments of ``connect``."""
        return physical(connection).__dict__.get(_WHERE, ("", None))  # type: ignore[no-any-return]

    def database(self, connection: object) -> str:
        """Return the database of the arguments of ``connect``."""
        record = record_of(connection)
        return str(self._given(record).get("database") or "") if record is not None else ""

    @staticmethod
    def _given(record: Record) -> dict[str, Any]:
        return keywords_of(record.arguments.positional, record.arguments.keywords)

    def known(self, connection: object, record: Record, name: str) -> str | None:
        """Autocommit is among the flags of the server's last answer."""
        return str(int(not self.begins(connection))) if name == "autocommit" else None

    def send(self, connection: object, texts: Sequence[str]) -> list[Rows]:
        """Send everything as one text, unless the app has disabled that in the driver."""
        record, here = record_of(connection), physical(connection)
        run = C.query if record is None or not record.internal else _run  # to its end: it is to be used again
        together = C.client_flag.__get__(here) & CLIENT.MULTI_STATEMENTS
        given = [";".join(texts)] if together and texts else texts
        return [rows for text in given for rows in _answers(here, text, run)]

    def reset(self, connection: object, record: Record, without_database: bool = False) -> bool:
        """Log in again on the same connection (COM_CHANGE_USER), and redo what connecting did."""
        given, here = self._given(record), physical(connection)
        database = "" if without_database else str(given.get("database") or "")
        C.change_user(here, str(given.get("user") or ""), str(given.get("password") or ""), database)
        charset = record.driver_state.get("charset") or C.character_set_name(here)  # what a switch leaves behind
        C.set_character_set(here, charset)
        texts = [f"SET NAMES {charset} COLLATE {given['collation']}"] if given.get("collation") else []
        texts += [f"SET SESSION sql_mode = '{given['sql_mode']}'"] if given.get("sql_mode") else []
        texts += [given["init_command"]] if given.get("init_command") else []
        autocommit = given.get("autocommit", False)
        texts += [] if autocommit is None else [f"SET autocommit={int(bool(autocommit))}"]
        self.send(connection, texts)
        return True

    def before_assign(self, connection: Any, assignments: Sequence[Assignment], back: bool) -> None:
        """On its way back the driver writes texts in its own character set again, and quotes by it."""
        here, record = physical(connection), record_of(connection)
        if back and record is not None and "character_set_client" in dict(assignments):
            _write_in(here, record.driver_state.get("charset", ""))
            connection.encoding = here.encoding

    def is_standby(self, connection: object) -> bool | None:
        """Query the server and discard the response: ``affected_rows()`` stays as it was after connecting."""
        answer: bool | None = super().is_standby(connection)
        if (record := record_of(connection)) is None or not record.used:
            C.query(physical(connection), questions.nothing().encode())
        return answer

    def exact(self, cursor: Any, query: Any, parameters: Any) -> str | None:
        """Return the statement as mysqlclient will send it."""
        try:
            return self.text_of(cursor, cursor.mogrify(query, parameters))
        except Exception:  # noqa: BLE001 - mysqlclient does the same again, and says what is wrong
            return None

    def open(self, connection: object, record: Record, address: Address, role: str, seconds: float) -> Any:
        """Connect with the app's own arguments, and with the database that is the current one now."""
        here = physical(connection)
        # What the app has closed meanwhile raises; what the driver itself has closed is known by the session.
        known = C.open.__get__(here) or record.closed_by_app
        charset = C.character_set_name(here) if known else None
        new = self.open_bare(connection, record, address, role, seconds)
        if charset and record.options.transfer_session_state_on_switch:
            _write_in(new, charset)
        return new

    def open_bare(self, connection: object, record: Record, address: Address, role: str, seconds: float) -> Any:
        """Connect without the character set that the app has chosen since."""
        host, port = address
        given = {**self._given(record), "host": host, "port": port or 3306}
        given["database"] = self.current_database(connection, record)
        if host.startswith("/"):
            given |= {"unix_socket": host, "host": "localhost"}
        else:
            given.pop("unix_socket", None)
        given["connect_timeout"] = max(1, round(min(seconds, given.get("connect_timeout") or seconds)))
        new = Connection.__new__(type(connection))
        _construct(new, **given)
        note_where(new, given)
        return new

    def key(self, connection: object, record: Record) -> tuple[Any, ...]:
        """Return the user and the database of the login; of the password only a hash is kept."""
        given = self._given(record)
        return (given.get("user"), given.get("database"), hash(str(given.get("password"))))

    def swap(self, connection: Any, other: Any) -> Any:
        """Let the app's object do its C methods on `other`; return what has the physical connection that it had."""
        before = connection.__dict__.get(DELEGATE)
        connection.__dict__[DELEGATE] = other
        connection.encoding = other.encoding
        other.converter.update(physical(before or connection).converter)
        bind(connection, other, [name for name in _METHODS if name not in _CLOSED_OVER])
        record = record_of(connection)
        if record is not None:
            # Now: the driver may close it before anybody asks.
            record.driver_state["version"] = C.get_server_info(other)
            self.begins(connection)
            record.driver_state.pop("reading", None)
        return DetachedConnection(connection) if before is None else before

    def shut(self, connection: object, for_good: bool) -> None:
        """Close the struct with the physical connection.

        Its socket is left alone: a struct that has lost its server may hold a descriptor that now belongs to another
        connection.
        """
        here, record = physical(connection), record_of(connection)
        if C.open.__get__(here):
            C.close(here)
        if record is not None:
            record.driver_state["shut"] = True


def _write_in(here: object, charset: str) -> None:
    """Have the library write and quote in a character set; it changes those of the session, which are put back."""
    if charset and charset != C.character_set_name(here):
        ((kept,),) = _answers(here, questions.one_row(f"@@session.{name}" for name in _CHARACTER_SETS), _run)
        _choose(here, charset)
        values = ("NULL" if value is None else f"'{value}'" for value in kept)
        given = (f"@@session.{name} = {value}" for name, value in zip(_CHARACTER_SETS, values, strict=True))
        list(_answers(here, f"SET {', '.join(given)}", _run))


def _answers(here: object, text: str, run: Callable[[Any, bytes], None]) -> Iterator[Rows]:
    """Yield the rows of each of the statements in one text."""
    run(here, text.encode())
    more = 0
    while more == 0:
        result = C.store_result(here)
        rows = () if result is None else result.fetch_row(maxrows=0)
        yield [[cell_text(cell) for cell in row] for row in rows]
        more = C.next_result(here)


def _run(here: object, text: bytes) -> None:
    C.send_query(here, text)
    wait_for(C.fileno(here))
    C.read_query_result(here)
