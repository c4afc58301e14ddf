"""What pg8000 is like: `DriverAdapter`. Private parts that are used are looked for once, when patching."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from pg8000 import dbapi, legacy, native
from pg8000.core import CoreConnection
from pg8000.exceptions import DatabaseError, Error, InterfaceError

from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.databases.postgresql.connect_errors import QUESTION, answer_to
from instrumented_wrapper.drivers import for_postgresql
from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter, Room
from instrumented_wrapper.drivers.engine.race import SocketOfTheApp, WrongRole
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.engine.search import ANY, STANDBY
from instrumented_wrapper.drivers.pg8000.arguments import in_libpq_words, place_of, redirected
from instrumented_wrapper.drivers.pg8000.channel import LOST, PLACE, Channel, database_of, fields_of, send
from instrumented_wrapper.drivers.pg8000.wire import GOODBYE, has_message, is_of_the_socket, leaves_unread, read_message
from instrumented_wrapper.drivers.server_session import Rows, SettingsClient
from instrumented_wrapper.drivers.server_session.postgresql import PostgreSQLSettings
from instrumented_wrapper.errors import Address
from instrumented_wrapper.events import ServerAddress

KINDS: Final[tuple[type[Any], ...]] = (dbapi.Connection, legacy.Connection, native.Connection)
_STATUSES: Final = {
    None: TransactionStatus.IDLE,  # it has just connected
    b"I": TransactionStatus.IDLE,
    b"T": TransactionStatus.INTRANS,
    b"E": TransactionStatus.INERROR,
}
_INITS: Final = {kind: kind.__init__ for kind in KINDS}
# What belongs to the physical connection, and what a new one was given.
_PHYSICAL: Final = (
    "autocommit _usock _sock channel_binding _backend_key_data parameter_statuses _transaction_status"
    f" _caches _statement_nums _client_encoding {LOST} {PLACE}"
).split()
_IS_STANDBY: Final = "SELECT pg_is_in_recovery()"


class PG8000(DriverAdapter):
    """`DriverAdapter` for pg8000."""

    name = "pg8000"
    room: Room = postgresql
    error: type[Exception] = Error
    raises: tuple[type[Exception], ...] = (Error, OSError)  # what the socket raises is not always translated
    operational_error: type[Exception] = dbapi.OperationalError
    programming_error: type[Exception] = dbapi.ProgrammingError
    reentrant = True
    alive_by_default = True
    settings: Sequence[str] = ("autocommit",)
    aliases: Mapping[str, str] = MappingProxyType(
        {
            "read_only": "default_transaction_read_only",
            "isolation_level": "default_transaction_isolation",
            "deferrable": "default_transaction_deferrable",
        }
    )
    kinds: tuple[type[Any], ...] = (CoreConnection,)

    def settings_client(self, connection: Any, record: Record) -> SettingsClient:
        """Talk with PostgreSQL."""
        channel = Channel(record)
        return PostgreSQLSettings(channel, channel.status, channel.statuses, channel.where)

    def transaction_status(self, connection: Any, record: Record) -> TransactionStatus:
        """Return what the server has last reported."""
        return _STATUSES[connection._transaction_status]

    def seems_open(self, connection: Any, record: Record) -> bool:
        return self.transaction_status(connection, record) != TransactionStatus.IDLE

    def begins(self, connection: Any) -> bool:
        """Return True outside autocommit, where pg8000 begins a transaction; ``native`` knows only autocommit."""
        return connection.__dict__.get("autocommit") is False

    def is_closed(self, connection: Any) -> bool:
        return connection._usock is None

    def is_lost(self, connection: Any, error: BaseException | None) -> bool:
        """Return True if the loss was seen before, or if the error comes from the socket."""
        known = connection.__dict__
        if error is not None and LOST not in known and is_of_the_socket(error):
            known[LOST] = True
        return LOST in known and connection._usock is not None

    def leaves_unread(self, connection: Any, error: BaseException) -> bool:
        return leaves_unread(error)

    def is_alive(self, connection: Any) -> bool:
        """Read what came unasked: notifications, notices, or the server's last words."""
        if LOST in connection.__dict__ or connection._usock is None:
            return False
        try:
            while has_message(connection):
                if read_message(connection) == GOODBYE:
                    raise InterfaceError("the server has ended the session")
        except (Error, OSError, ValueError):
            connection.__dict__[LOST] = True
            return False
        return True

    def socket(self, connection: Any) -> int | None:
        """Return the socket's descriptor."""
        usock = connection._usock
        return None if usock is None or usock.fileno() < 0 else int(usock.fileno())

    def peer(self, connection: Any, record: Record) -> ServerAddress:
        """Return the server as the app, or the switch, has named it."""
        return ServerAddress(postgresql.SYSTEM, database_of(record.arguments.keywords), *connection.__dict__[PLACE])

    site = staticmethod(for_postgresql.site)

    def read(self, connection: Any, setting: str) -> Any:
        """Return an attribute; ``native`` has none, and is always in autocommit."""
        return connection.__dict__.get(setting, True)

    def write(self, connection: Any, setting: str, value: Any) -> None:
        """Set an attribute, past all that is patched."""
        if setting in connection.__dict__:
            connection.__dict__[setting] = value

    def query(self, connection: Any, text: str) -> Rows:
        """Send a text, without the transaction that pg8000 would begin."""
        return send(connection, text)

    def text_of(self, cursor: Any, query: Any) -> str:
        return str(query)

    def exact(self, cursor: Any, query: Any, parameters: Any) -> str | None:
        """Parameters are bound by the server."""
        return None

    def finish(self, connection: Any, command: str) -> None:
        if connection._transaction_status in (b"T", b"E"):
            send(connection, command)

    def ended(self, connection: Any, record: Record) -> None:
        """Do nothing: pg8000 keeps the transaction status that the server reports."""

    def requested_role(self, record: Record) -> str:
        """pg8000 takes any server."""
        return ""

    def open(self, connection: Any, record: Record, address: Address, role: str, seconds: float) -> Any:
        """Connect with the app's own arguments, to another host."""
        given = redirected(dict(record.arguments.keywords), address)
        if given.get("sock") is not None:
            raise SocketOfTheApp
        own = given.get("timeout")
        new: Any = object.__new__(type(connection))
        new.__dict__[PLACE] = place_of(given)
        kind = next(kind for kind in KINDS if isinstance(connection, kind))
        _INITS[kind](new, **{**given, "timeout": min(seconds, own or seconds)})
        new._usock.settimeout(own)
        for kept in ("pg_types", "py_types"):  # for the app's transfer handler
            setattr(new, kept, getattr(connection, kept))
        return new

    def checked(self, connection: Any, role: str, asks: bool) -> bool | None:
        """Send a query: an endpoint may accept a login and then serve nobody. pg8000 takes any kind of server."""
        if asks:
            send(connection, QUESTION)
        is_standby = self.is_standby(connection)
        if role != ANY and is_standby is not (role == STANDBY):
            raise WrongRole(role)
        return is_standby

    def answer(self, error: BaseException) -> tuple[str, str, bool]:
        """Read the server's words, or the system's."""
        fields = fields_of(error)
        wanted = "read-only or not, as it was"
        if fields:
            return answer_to(f"{fields.get('S')}: {fields.get('M')}", wanted, str(fields.get("C") or ""))
        return answer_to(in_libpq_words(error), wanted)

    def key(self, connection: Any, record: Record) -> tuple[Any, ...]:
        """Return the user and the database of the login; of the password only a hash is kept."""
        given = record.arguments.keywords
        return (str(given.get("user")), database_of(record.arguments.keywords), hash(str(given.get("password"))))

    def swap(self, connection: Any, other: Any) -> Any:
        """Exchange the sockets, and what belongs to them."""
        ours, theirs = connection.__dict__, other.__dict__
        for name in _PHYSICAL:
            before, after = ours.pop(name, _ABSENT), theirs.pop(name, _ABSENT)
            ours.update({} if after is _ABSENT else {name: after})
            theirs.update({} if before is _ABSENT else {name: before})
        return other

    def refuse(self, connection: Any) -> None:
        with contextlib.suppress(DatabaseError):
            send(connection, postgresql.ABORTED_TRANSACTION)
        if connection._transaction_status != b"E":
            raise dbapi.OperationalError("the new session could not be left in an aborted transaction")

    def shut(self, connection: Any, for_good: bool) -> None:
        """Close the socket; `for_good`: as ``close()`` does."""
        usock = connection._usock
        connection.__dict__[LOST] = True
        if usock is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                usock.shutdown(2)
            usock.close()
        if for_good:
            connection._usock = connection._sock = None

    def demoted(self, connection: Any, record: Record, error: BaseException) -> bool:
        """Return True if the server is a standby now and the app did not ask for one."""
        fields = fields_of(error)
        is_refusal = postgresql.needs_primary(fields.get("C"), fields.get("R"), read_only=False)  # else it is not asked
        is_standby = is_refusal and self.is_standby(connection)
        return for_postgresql.is_demoted(record, fields.get("C"), fields.get("R"), "", is_standby)

    def is_standby(self, connection: Any) -> bool:
        """Return True if the server reports that it is a standby; servers before PostgreSQL 14 are queried."""
        reported = connection.parameter_statuses.get("in_hot_standby")
        if reported is None and connection._transaction_status in (None, b"I"):
            ((reported,),) = send(connection, _IS_STANDBY)
        return reported in ("on", "t")


_ABSENT: Final = object()
ADAPTER: Final = PG8000()
