"""What psycopg2 is like: `DriverAdapter`."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Final
from weakref import ref

import psycopg2
from psycopg2 import extensions

from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.databases.postgresql.connect_arguments import hosts_of, parameters_for, requested_role
from instrumented_wrapper.databases.postgresql.connect_errors import QUESTION, answer_to
from instrumented_wrapper.drivers import for_postgresql
from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter, Room
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.psycopg2 import libpq
from instrumented_wrapper.drivers.psycopg2.classes import (
    DELEGATE,
    ENTERED,
    LEFT,
    LOST,
    MOVED,
    C,
    DetachedConnection,
    Watched,
    combined,
    make_movable,
    physical,
)
from instrumented_wrapper.drivers.psycopg2.libpq_channel import Channel, Psycopg2Settings
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.drivers.server_session import Rows, SettingsClient
from instrumented_wrapper.errors import Address
from instrumented_wrapper.events import ServerAddress

SETTINGS: Final = ("autocommit", "isolation_level", "read_only", "deferrable")
_ATTRIBUTES: Final = {name: vars(C)[name] for name in ("autocommit", "isolation_level", "readonly", "deferrable")}
_ATTRIBUTES["read_only"] = _ATTRIBUTES.pop("readonly")
_STATUSES: Final = (
    TransactionStatus.IDLE,
    TransactionStatus.ACTIVE,
    TransactionStatus.INTRANS,
    TransactionStatus.INERROR,
)  # by libpq's PGTransactionStatusType
_IDLE: Final = 0
_BEGUN: Final = extensions.STATUS_BEGIN
_UNKNOWN: Final = 4
_UNBEGUN: Final = "unbegun"  # psycopg2 takes a transaction to be open that the app has ended by SQL: it begins none
_status: Final = vars(C)["get_transaction_status"]
_closed: Final = vars(C)["closed"]
_state: Final = vars(C)["status"].__get__
_WANTED: Final = "target_session_attrs"  # what libpq took it to be


class IsolationLevel(IntEnum):
    """psycopg2's numbers, with the names of PostgreSQL."""

    READ_COMMITTED = extensions.ISOLATION_LEVEL_READ_COMMITTED
    REPEATABLE_READ = extensions.ISOLATION_LEVEL_REPEATABLE_READ
    SERIALIZABLE = extensions.ISOLATION_LEVEL_SERIALIZABLE
    READ_UNCOMMITTED = extensions.ISOLATION_LEVEL_READ_UNCOMMITTED


class Psycopg2(DriverAdapter):
    """`DriverAdapter` for psycopg2."""

    name = "psycopg2"
    room: Room = postgresql
    error: type[Exception] = psycopg2.Error
    raises: tuple[type[Exception], ...] = (psycopg2.Error,)
    operational_error: type[Exception] = psycopg2.OperationalError
    programming_error: type[Exception] = psycopg2.ProgrammingError
    alive_by_default = True
    settings: Sequence[str] = SETTINGS
    aliases: Mapping[str, str] = MappingProxyType({"readonly": "read_only"})
    kinds: tuple[type[Any], ...] = (C,)

    def attach(self, record: Record, connection: object) -> None:
        """Watch a connection, whose parameters may come from a service or the environment, too."""
        given = C.get_dsn_parameters(connection)
        record.driver_state[_WANTED] = given.get("target_session_attrs")
        record.attach(connection, hosts_of(given, os.environ))

    def settings_client(self, connection: object, record: Record) -> SettingsClient:
        """Talk with PostgreSQL."""
        return Psycopg2Settings(Channel(self, connection, record))

    def transaction_status(self, connection: object, record: Record) -> TransactionStatus:
        """Return libpq's status; for a lost connection, the status before the loss."""
        here = connection.__dict__.get(DELEGATE) or connection
        status = _status(here)
        if _IDLE < status < _UNKNOWN:
            return _STATUSES[status]
        if status == _IDLE:
            record.driver_state[_UNBEGUN] = _state(here) == _BEGUN
            return _STATUSES[status]
        if record.transaction_status:
            return record.transaction_status
        opened = record.begun or (record.used and self.begins(connection))
        return TransactionStatus.INTRANS if opened else TransactionStatus.IDLE

    def seems_open(self, connection: object, record: Record) -> bool:
        """Return what psycopg2 keeps of the transactions that it begins, and what is known of those of the app."""
        here = connection.__dict__.get(DELEGATE) or connection
        begun = _state(here) == _BEGUN and not record.driver_state.get(_UNBEGUN)
        return record.begun or bool(record.transaction_status) or begun

    def begins(self, connection: object) -> bool:
        """Outside autocommit, and in a ``with`` block, psycopg2 begins a transaction before any statement."""
        record = connection.__dict__.get(KEY)
        if record is not None and record.driver_state.get(_UNBEGUN):
            return False
        return ENTERED in connection.__dict__ or not C.autocommit.__get__(physical(connection))

    def is_untouched(self, connection: object) -> bool:
        """Return True if neither psycopg2 nor the server has an open transaction."""
        here = physical(connection)
        return bool(_status(here) == _IDLE and _state(here) == extensions.STATUS_READY)

    def is_closed(self, connection: object) -> bool:
        here = physical(connection) if hasattr(connection, "__dict__") else connection  # made before it was patched
        return _closed.__get__(here) == 1  # type: ignore[no-any-return]

    def is_lost(self, connection: object, error: BaseException | None) -> bool:
        """Return True if psycopg2 or libpq knows that the connection has ended."""
        here = physical(connection)
        closed = _closed.__get__(here)
        return closed == LOST or (not closed and _status(here) == _UNKNOWN)

    def is_alive(self, connection: object) -> bool:
        """Read what came unasked: notifications, notices, or the server's last words."""
        here = physical(connection)
        ends = not _closed.__get__(here) and libpq.listen(C.pgconn_ptr.__get__(here))
        return not (ends or self.is_lost(connection, None))

    def socket(self, connection: object) -> int | None:
        """Return libpq's descriptor."""
        here = physical(connection)
        descriptor = -1 if _closed.__get__(here) else int(C.fileno(here))
        return descriptor if descriptor >= 0 else None

    def peer(self, connection: object, record: Record) -> ServerAddress:
        here = physical(connection)
        if _closed.__get__(here):
            return ServerAddress(postgresql.SYSTEM, "", "", None)
        info = C.info.__get__(here)
        return ServerAddress(postgresql.SYSTEM, info.dbname, info.host, info.port)

    site = staticmethod(for_postgresql.site)

    def read(self, connection: object, setting: str) -> Any:
        """Return one of `SETTINGS`, an isolation level by its name."""
        value = _ATTRIBUTES[setting].__get__(physical(connection))
        return IsolationLevel(value) if setting == "isolation_level" and value in (1, 2, 3, 4) else value

    def write(self, connection: object, setting: str, value: object) -> None:
        """Set one of `SETTINGS`; in autocommit psycopg2 sends what is different."""
        given = "DEFAULT" if value is None else value
        if self.read(connection, setting) != value:
            _ATTRIBUTES[setting].__set__(physical(connection), given)

    def query(self, connection: object, text: str) -> Rows:
        """Send a text by libpq, without the transaction that psycopg2 would begin."""
        here = physical(connection)
        encoding = extensions.encodings.get(C.encoding.__get__(here), "utf-8")
        return libpq.send(C.pgconn_ptr.__get__(here), text, encoding)

    def text_of(self, cursor: Any, query: Any) -> str:
        """Return the text of a string, of bytes, or of what was composed."""
        if isinstance(query, bytes):
            return query.decode(errors="replace")
        return query.as_string(cursor.connection) if hasattr(query, "as_string") else str(query)

    def exact(self, cursor: Any, query: Any, parameters: Any) -> str | None:
        """Return the statement as psycopg2 will send it."""
        with contextlib.suppress(Exception):  # psycopg2 says the same again, and what is wrong
            return cursor.mogrify(query, parameters).decode(errors="replace")  # type: ignore[no-any-return]
        return None

    def finish(self, connection: object, command: str) -> None:
        here = physical(connection)
        (C.commit if command == "COMMIT" else C.rollback)(here)
        if _status(here) in (2, 3):  # begun by SQL in autocommit, of which psycopg2 does not know
            self.query(connection, command)

    def ended(self, connection: object, record: Record) -> None:
        """Have psycopg2 begin the next transaction: of an end by SQL it does not know, and would begin none."""
        record.driver_state[_UNBEGUN] = False
        here = physical(connection)
        if _status(here) == _IDLE and _state(here) == extensions.STATUS_BEGIN:
            notices = list(C.notices.__get__(here))
            with contextlib.suppress(psycopg2.Error):  # it is lost again: the next statement finds that
                C.rollback(here)
            C.notices.__set__(here, notices)  # there was no transaction, says the server

    def requested_role(self, record: Record) -> str:
        """Return the app's ``target_session_attrs``."""
        if wish := self.wish(record):
            return wish
        took = record.driver_state.get(_WANTED)
        return "" if took in (None, "any") else str(took)  # "any": libpq's own default

    @staticmethod
    def wish(record: Record) -> str:
        """Return the same, where the app has spelled it."""
        given = extensions.parse_dsn(record.arguments.positional[0])
        return requested_role(given, os.environ)

    def open(self, connection: object, record: Record, address: Address, role: str, seconds: float) -> Any:
        """Connect to one host with the app's own parameters."""
        given = parameters_for(extensions.parse_dsn(record.arguments.positional[0]), address, role)
        given.setdefault("connect_timeout", str(max(2, round(seconds))))
        dsn = extensions.make_dsn("", **given)
        new = combined(C, Watched)(dsn)
        new.cursor_factory = C.cursor_factory.__get__(connection)  # for the app's transfer handler
        return new

    def checked(self, connection: object, role: str, asks: bool) -> bool | None:
        """Send a query: libpq knows the kind of server, but an endpoint may accept a login and then serve nobody."""
        if asks:
            self.query(connection, QUESTION)
        return self.is_standby(connection)

    def answer(self, error: BaseException) -> tuple[str, str, bool]:
        """Read libpq's words."""
        return answer_to(str(error), "read-only or not, as it was", getattr(error, "pgcode", None) or "")

    def key(self, connection: object, record: Record) -> tuple[Any, ...]:
        """Return the parameters that a login depends on; of the password only a hash is kept."""
        return (hash(record.arguments.positional[0]),)

    def swap(self, connection: object, other: object) -> Any:
        """Let the app's object delegate to `other` from now on; return the object that has its former physical
        connection.
        """
        make_movable(connection)
        before = connection.__dict__.get(DELEGATE)
        here, record = physical(connection), connection.__dict__[KEY]
        if ENTERED in connection.__dict__:
            C.__enter__(other)
        if record.driver_state.get(_UNBEGUN) and _status(other) == _IDLE:
            C.cursor(other, cursor_factory=extensions.cursor).execute("COMMIT")
        for kept in (C.notices, C.notifies):
            kept.__set__(other, kept.__get__(here))
        connection.__dict__[DELEGATE], record.live = other, ref(other)
        other.__dict__[KEY] = record
        former = DetachedConnection(connection) if before is None else before
        physical(former).__dict__.update({LEFT: True, MOVED: True})
        other.__dict__[MOVED] = True
        return former

    def refuse(self, connection: object) -> None:
        text = postgresql.ABORTED_TRANSACTION
        cursor = C.cursor(physical(connection), cursor_factory=extensions.cursor)
        with contextlib.suppress(psycopg2.Error):
            cursor.execute(text.partition("; ")[2] if self.begins(connection) else text)
        if _status(physical(connection)) != _STATUSES.index(TransactionStatus.INERROR):
            raise psycopg2.OperationalError("the new session could not be left in an aborted transaction")

    def shut(self, connection: object, for_good: bool) -> None:
        """Close. Of a replaced physical connection only the socket is shut: cursors and C functions still use it."""
        here = physical(connection)
        if LEFT not in here.__dict__:
            C.close(here)
        elif not _closed.__get__(here):
            with contextlib.suppress(OSError, psycopg2.Error):  # it has ended by itself
                end = socket.socket(fileno=os.dup(C.fileno(here)))
                end.shutdown(socket.SHUT_RDWR)
                end.close()
            libpq.listen(C.pgconn_ptr.__get__(here))

    def demoted(self, connection: object, record: Record, error: BaseException) -> bool:
        """Return True if the server is a standby now and the app did not ask for one."""
        state, where = getattr(error, "pgcode", None), getattr(getattr(error, "diag", None), "source_function", None)
        if self.read(connection, "read_only") is True:
            return False
        return for_postgresql.is_demoted(record, state, where, self.wish(record), self.is_standby(connection))

    def is_standby(self, connection: object) -> bool:
        """Return True if the server reports that it is a standby."""
        here = physical(connection)
        return not _closed.__get__(here) and C.get_parameter_status(here, "in_hot_standby") == "on"


ADAPTER: Final = Psycopg2()
