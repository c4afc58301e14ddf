"""PyMySQL: its classes are patched in place, and a switch exchanges the socket and what belongs to it.

The server reports with each OK packet what a statement has changed in the session (CLIENT_SESSION_TRACK), also inside
procedures: nothing is asked for it. Private parts that are used are looked for once, when patching.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

import pymysql
from pymysql import connections, cursors
from pymysql.constants import CLIENT, COMMAND, SERVER_STATUS

from instrumented_wrapper.databases.mysql import tracking
from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.blocking.adapter import Blocking
from instrumented_wrapper.drivers.blocking.calls import Calls
from instrumented_wrapper.drivers.blocking.closing import closing
from instrumented_wrapper.drivers.blocking.losses import Call
from instrumented_wrapper.drivers.blocking.native import Phase
from instrumented_wrapper.drivers.blocking.records import Arguments, Record, record_of
from instrumented_wrapper.drivers.blocking.steps import Steps
from instrumented_wrapper.drivers.blocking.telling import Telling
from instrumented_wrapper.drivers.for_mysql import ForMySQL, selects, sets_autocommit, sets_names
from instrumented_wrapper.drivers.talking import Rows
from instrumented_wrapper.drivers.watching import KEY, drop_all
from instrumented_wrapper.errors import Address
from instrumented_wrapper.operations import Site
from instrumented_wrapper.options import Options, take_keywords
from instrumented_wrapper.patching import Patches

__all__ = ["DRIVER", "PyMySQL", "install", "uninstall"]

logger = logging.getLogger("instrumented_wrapper")
Method = Callable[..., Any]
OLDEST: Final = (1, 1)
_IN_TRANSACTION: Final = SERVER_STATUS.SERVER_STATUS_IN_TRANS
_AUTOCOMMIT: Final = SERVER_STATUS.SERVER_STATUS_AUTOCOMMIT
_STATE_CHANGED: Final = 0x4000  # SERVER_SESSION_STATE_CHANGED
_COM_RESET_CONNECTION: Final = 0x1F
_construct: Final[Any] = connections.Connection.__init__
# What belongs to the physical connection.
_PHYSICAL: Final = (
    "_sock _rfile _secure _next_seq_id _current_timeout host port unix_socket host_info server_status server_version"
    " server_thread_id server_capabilities server_language server_charset salt protocol_version _auth_plugin_name"
    " client_flag _closed"
).split()
_PARTS: Final = {
    connections.Connection: "_execute_command _read_ok_packet _read_query_result _force_close query".split(),
    connections.MySQLResult: "read _finish_unbuffered_query".split(),
    cursors.Cursor: "execute executemany callproc mogrify".split(),
    cursors.SSCursor: "fetchone fetchmany read_next nextset".split(),
}


class PyMySQL(ForMySQL):
    """`Native` for PyMySQL."""

    name = "pymysql"
    error = pymysql.err.Error
    operational_error = pymysql.err.OperationalError
    programming_error = pymysql.err.ProgrammingError
    kinds: tuple[type[Any], ...] = (connections.Connection,)

    def version(self, connection: Any) -> str:
        """Return what the greeting said."""
        return str(connection.server_version)

    def phase(self, connection: Any, record: Record) -> Phase:
        """Tell by the flags of the server's last answer."""
        return Phase.OPEN if connection.server_status & _IN_TRANSACTION else Phase.IDLE

    def begins(self, connection: Any) -> bool:
        """Tell by the same flags."""
        return not connection.server_status & _AUTOCOMMIT

    def is_streaming(self, connection: Any) -> bool:
        """Tell whether an unbuffered result is not read to its end."""
        result = connection._result
        return result is not None and bool(result.unbuffered_active or result.has_next)

    def is_closed(self, connection: Any) -> bool:
        """Tell whether the app has closed it."""
        return bool(connection._closed)

    def has_ended(self, connection: Any) -> bool:
        """PyMySQL closes the socket at the first sign of a loss."""
        return connection._sock is None and not connection._closed

    def mark_lost(self, connection: Any) -> None:
        """Close the socket."""
        connection._force_close()

    def is_alive(self, connection: Any) -> bool:
        """Ping."""
        try:
            connection._execute_command(COMMAND.COM_PING, "")
            connection._read_ok_packet()
        except (pymysql.err.Error, OSError):
            connection._force_close()
        return connection._sock is not None

    def socket(self, connection: Any) -> int | None:
        """Return the socket's descriptor."""
        return None if connection._sock is None else int(connection._sock.fileno())

    def where(self, connection: Any) -> tuple[str, int | None]:
        """Return the host and port, or the path of the socket."""
        path = connection.unix_socket
        return (str(path), None) if path else (str(connection.host), int(connection.port))

    def database(self, connection: Any) -> str:
        """Return what connecting asked for; PyMySQL encodes it on the way."""
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
            for text in texts:
                connection._execute_command(COMMAND.COM_QUERY, text)
            return list(_answers(connection, len(texts)))
        finally:
            if connection._sock is not None:
                connection._result, connection._affected_rows = kept

    def reset(self, connection: Any, record: Record) -> bool:
        """Reset the session; what connecting did follows, for the server has its own defaults now."""
        connection._execute_command(_COM_RESET_CONNECTION, b"")
        connection._read_ok_packet()
        _track(connection)
        connection.set_character_set(record.kept["charset"], record.kept["collation"])
        texts = [] if connection.sql_mode is None else [f"SET sql_mode={connection.escape(connection.sql_mode)}"]
        texts += [] if connection.init_command is None else [connection.init_command]
        autocommit = record.arguments.keywords.get("autocommit", False)
        texts += [] if autocommit is None else [f"SET autocommit={int(bool(autocommit))}"]
        self.send(connection, texts)
        return True

    def exact(self, cursor: Any, query: Any, parameters: Any) -> str | None:
        """Return the statement as PyMySQL will send it."""
        try:
            return self.text_of(cursor, cursor.mogrify(query, parameters))
        except Exception:  # noqa: BLE001 - PyMySQL does the same again, and says what is wrong
            return None

    def open(self, connection: Any, record: Record, address: Address, wanted: str, seconds: float) -> Any:
        """Connect with the app's own arguments, and with the database that is the current one now."""
        host, port = address
        given = {**record.arguments.keywords, "host": host, "defer_connect": False}
        given |= {"port": port or 0, "database": self.current_database(connection, record) or None}
        if host.startswith("/"):
            given |= {"unix_socket": host, "host": None}
        else:
            given.pop("unix_socket", None)
        given["connect_timeout"] = min(seconds, given.get("connect_timeout") or seconds)
        given.pop("db", None)
        new = object.__new__(type(connection))
        _construct(new, **given)
        return self.checked(new, wanted)

    def key(self, connection: Any, record: Record) -> tuple[Any, ...]:
        """Return who asks for which database; of the password only a number is kept."""
        return (connection.user, connection.db, hash(bytes(connection.password)))

    def swap(self, connection: Any, other: Any) -> Any:
        """Exchange the sockets, and what belongs to them. A result that is still to be read is given up."""
        result = connection._result
        if result is not None and result.unbuffered_active:
            result.unbuffered_active = False
        connection._result = other._result = None
        ours, theirs = connection.__dict__, other.__dict__
        for name in _PHYSICAL:
            ours[name], theirs[name] = getattr(other, name, None), getattr(connection, name, None)
        return other

    def shut(self, connection: Any, for_good: bool) -> None:
        """Close the socket without a word where it is lost."""
        connection._closed = for_good
        connection._force_close()


def _answers(connection: Any, number: int) -> Iterator[Rows]:
    """Read the answers to statements that were sent one after the other; the first error is raised at the end."""
    failed: Exception | None = None
    for _ in range(number):
        connection._next_seq_id = 1
        result = connections.MySQLResult(connection)
        try:
            result.read()
        except pymysql.err.Error as error:
            failed = failed or error
            if connection._sock is None:
                break
            continue
        if result.server_status is not None:
            connection.server_status = result.server_status
        yield [[None if cell is None else str(cell) for cell in row] for row in result.rows or ()]
    if failed is not None:
        raise failed


NATIVE: Final = PyMySQL()
DRIVER: Final = Blocking(NATIVE)


def install(patches: Patches, options: Options, flows: Flows) -> str:
    """Patch PyMySQL's classes. Returns what was done, for a user who asks."""
    if pymysql.VERSION[:2] < OLDEST:
        version = ".".join(map(str, pymysql.VERSION[:3]))
        logger.warning("PyMySQL %s is not supported, 1.1 or newer is: it is left alone", version)
        return "left alone: older than 1.1"
    missing = [f"{kind.__name__}.{part}" for kind, parts in _PARTS.items() for part in parts if not hasattr(kind, part)]
    if missing:
        logger.warning("PyMySQL lacks %s: it is left alone", ", ".join(missing))
        return f"left alone: it lacks {', '.join(missing)}"
    telling = Telling(NATIVE, flows.operations)
    calls = Calls(NATIVE, Steps(NATIVE, DRIVER, flows), telling)
    _connections(patches, calls, telling, options, flows)
    _cursors(patches, calls, telling)
    return "patched"


def uninstall() -> None:
    """Forget the connections that were watched; they go on working."""
    drop_all(NATIVE.name)


def _connections(patches: Patches, calls: Calls, telling: Telling, options: Options, flows: Flows) -> None:
    kind = connections.Connection

    def over(name: str, make: Callable[[Method], Method]) -> None:
        patches.close_over(kind, name, make)

    def call(name: str, what: Call, begin: Method | None = None, effects: Any = None) -> None:
        over(name, lambda original: calls.call(original, what, begin, effects))

    over("__init__", functools.partial(_constructing, options, telling))
    over("_request_authentication", _authenticating)
    over("_read_ok_packet", _hearing)
    over("_read_query_result", _hearing_result)
    over("query", lambda original: calls.statement(original, _itself, "sql"))
    over("next_result", lambda original: calls.fetch(original, _itself))
    call("commit", Call.COMMIT, functools.partial(telling.command, "COMMIT"))
    call("rollback", Call.ROLLBACK, functools.partial(telling.command, "ROLLBACK"))
    call("begin", Call.STATEMENT, functools.partial(telling.command, "BEGIN"), lambda record: calls.effects_of("BEGIN"))
    call("autocommit", Call.STATEMENT, None, sets_autocommit)
    call("select_db", Call.STATEMENT, None, selects)
    call("set_character_set", Call.STATEMENT, None, sets_names)
    call("show_warnings", Call.STATEMENT)
    call("ping", Call.STATEMENT)
    over("close", closing(NATIVE, DRIVER, flows))


def _cursors(patches: Patches, calls: Calls, telling: Telling) -> None:
    connection_of = attrgetter("connection")
    for name, first, begin in (("execute", "query", None), ("executemany", "query", telling.batch)):
        make = functools.partial(calls.statement, connection_of=connection_of, named=first, begin=begin)
        patches.close_over(cursors.Cursor, name, make)
    patches.close_over(
        cursors.Cursor,
        "callproc",
        lambda original: calls.call(
            original,
            Call.STATEMENT,
            telling.procedure,
            lambda record, name, args=(): record.talk.understood(calls.effects_of(f"CALL {name}()")),
            connection_of,
        ),
    )
    for name in ("fetchone", "fetchmany", "nextset", "scroll", "read_next"):
        patches.close_over(cursors.SSCursor, name, functools.partial(calls.fetch, connection_of=connection_of))


def _itself(connection: Any) -> Any:
    return connection


def _constructing(options: Options, telling: Telling, original: Method) -> Method:
    """``Connection.__init__``: our keywords are taken out; from here on the connection is watched."""

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        ours = take_keywords(kwargs)
        checked = options.with_keywords(ours, "connect") if ours else options
        record = Record(NATIVE, self, checked, Arguments(args, dict(kwargs)))
        record.configuring, record.off = True, True
        self.__dict__[KEY] = record
        with telling.connect(checked, lambda: _asked_for(kwargs)):
            original(self, *args, **kwargs)
        _attach(self, record)
        record.tells = telling.wants(checked)

    return __init__


def _attach(connection: Any, record: Record) -> None:
    """Watch a connection from now on; one whose connecting is deferred is watched as soon as it connects."""
    record.kept = {"charset": connection.charset, "collation": connection.collation}
    record.configuring = False
    if connection._sock is not None:
        record.attach(connection, (NATIVE.where(connection),))
        record.talk.keep_reported()


def _asked_for(keywords: dict[str, Any]) -> Site:
    host = str(keywords.get("unix_socket") or keywords.get("host") or "localhost")
    port = None if keywords.get("unix_socket") else int(keywords.get("port") or 3306)
    return Site("mysql", str(keywords.get("database") or keywords.get("db") or ""), host, port)


def _authenticating(original: Method) -> Method:
    """``Connection._request_authentication``: ask the server to report changes, where it can."""

    @functools.wraps(original)
    def _request_authentication(self: Any) -> None:
        record = record_of(self)
        if record is not None and self.server_capabilities & CLIENT.SESSION_TRACK:
            self.client_flag |= CLIENT.SESSION_TRACK
        original(self)
        _track(self)

    return _request_authentication


def _track(connection: Any) -> None:
    if connection.client_flag & CLIENT.SESSION_TRACK:
        connection._execute_command(COMMAND.COM_QUERY, tracking.ENABLE)
        connection._read_ok_packet()
        connection.__dict__[KEY].talk.tracks = True


def _hearing(original: Method) -> Method:
    """``Connection._read_ok_packet``: the answer to what has no result."""

    @functools.wraps(original)
    def _read_ok_packet(self: Any) -> Any:
        ok = original(self)
        if self.client_flag & CLIENT.SESSION_TRACK:
            ok.message = _heard(self, ok.message, ok.server_status)
        return ok

    return _read_ok_packet


def _hearing_result(original: Method) -> Method:
    """``Connection._read_query_result``: the answer to a statement, where it is one without rows."""

    @functools.wraps(original)
    def _read_query_result(self: Any, unbuffered: bool = False) -> Any:
        affected = original(self, unbuffered)
        result = self._result
        if result.message is not None and self.client_flag & CLIENT.SESSION_TRACK:
            result.message = _heard(self, result.message, result.server_status)
        return affected

    return _read_query_result


def _heard(connection: Any, message: bytes, status: int) -> bytes:
    """Take out of an OK packet what the server reports; return what is left, as without."""
    info, state = tracking.parts(message, bool(status & _STATE_CHANGED))
    record: Record | None = connection.__dict__.get(KEY)
    if state and record is not None and not record.foreign:
        talk: Any = record.talk
        talk.heard(*tracking.changes(state))
    return info
