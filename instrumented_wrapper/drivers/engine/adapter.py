"""`DriverAdapter`: the interface that each driver implements for the engine. Knows no driver.

A method that may wait for the server returns a value if the driver blocks, else an awaitable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from instrumented_wrapper.databases import Database
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.server_session import SettingsClient
from instrumented_wrapper.errors import Address
from instrumented_wrapper.events import ServerAddress
from instrumented_wrapper.operations import Site, Words
from instrumented_wrapper.statement import Effects

if TYPE_CHECKING:
    from instrumented_wrapper.drivers.engine.adapted_record import Record


class Room(Database, Protocol):
    """What drivers whose calls block need of a database's room, besides what a session needs."""

    def reads_last(self, text: str) -> bool:
        """Return True if a text reads diagnostics of the last statement: no query may be sent in between."""

    def scan(self, text: str) -> Effects | None:
        """Return what a text may do to the session."""

    def words_of(self, text: str) -> Words:
        """Return what telemetry may show of a text."""

    def cut(self, text: str) -> str:
        """Return a text, at most as long as telemetry shows one."""


class DriverAdapter(Protocol):
    """Base class of the adapters; the methods with a body are the same for most drivers.

    `connection` is always the driver's own object, `record` its record.
    """

    name: str  # what telemetry calls it, and the option `drivers`
    room: Room
    error: type[Exception]
    raises: tuple[type[Exception], ...]  # all that its calls raise: also what is no DB-API error
    operational_error: type[Exception]
    programming_error: type[Exception]
    error_number: int | None = None  # of an error that is none of the server's, where a number stands before the text
    reentrant: bool = False  # its methods call each other, and a connection is never shared by threads
    settings: Sequence[str] = ()  # those that the driver keeps itself
    aliases: Mapping[str, str] = MappingProxyType({})  # the driver's own names of settings, where they are not ours
    alive_by_default: bool = False  # it turns the keepalive of its sockets on: one without it is the app's wish
    kinds: tuple[type[Any], ...]  # of connections

    def loss_attributes(self, cause: BaseException | None) -> Mapping[str, Any]:
        """Return the attributes by which pools see that an error ends the connection: most look at the connection."""
        return {}

    def settings_client(self, connection: object, record: Record) -> SettingsClient:
        """Return what talks with the server about settings."""

    def transaction_status(self, connection: object, record: Record) -> TransactionStatus:
        """Return the transaction status. Sends nothing."""

    def seems_open(self, connection: object, record: Record) -> bool:
        """Return True if a transaction is open, as far as is known without the client library: any thread may ask."""
        known = record.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)
        return known or record.begun or (record.used and self.begins(connection))

    def begins(self, connection: object) -> bool:
        """Return True if any statement begins a transaction (outside autocommit). Sends nothing."""

    def is_streaming(self, connection: object) -> bool:
        """Return True if rows of an answer are still to be read from the server."""
        return False

    def is_closed(self, connection: object) -> bool:
        """Return True if the app has closed the connection."""

    def is_lost(self, connection: object, error: BaseException | None) -> bool:
        """Return True if the physical connection has ended, by its state and by the error that was just raised."""

    def may_have_ended(self, error: BaseException) -> bool:
        """Return True if an error leaves open whether the session has ended, so that `is_alive` has to find out."""
        return False

    def leaves_unread(self, connection: object, error: BaseException) -> bool:
        """Return True if a call ended with `error` before its answer was read, which the driver goes on with."""
        return False

    def is_alive(self, connection: object) -> Any:
        """Read unsolicited messages or send a query; never reconnect. May wait.

        Returns False if the physical connection has ended, which `is_lost` knows from then on.
        """

    def socket(self, connection: object) -> int | None:
        """Return the descriptor of the physical connection, if the driver exposes it."""

    def system(self, connection: object) -> str:
        """Return the database, as OpenTelemetry names it."""
        return self.room.SYSTEM

    def peer(self, connection: object, record: Record) -> ServerAddress:
        """Return the server of the physical connection."""

    def site(self, connection: object, record: Record) -> Site:
        """Return where operations go now: with the namespace as it is at this moment."""

    def read(self, connection: object, setting: str) -> Any:
        """Return the value of one of `settings`."""

    def write(self, connection: object, setting: str, value: object) -> None:
        """Set one of `settings`, unrecorded."""

    def query(self, connection: object, text: str) -> Any:
        """Send a text, past all that is patched, and return its last rows as text. May wait.

        Raises:
            Exception: the driver's.
        """

    def text_of(self, cursor: object, query: object) -> str:
        """Return the text of a query."""

    def executed(self, cursor: object) -> str | None:
        """Return the text whose results a cursor reads, if that matters and the driver keeps it."""
        return None

    def exact(self, cursor: object, query: object, parameters: object) -> str | None:
        """Return a statement with its parameters in it, as it will be sent; None where that is not to be had."""

    def finish(self, connection: object, command: str) -> Any:
        """Send COMMIT or ROLLBACK, past all that is patched. May wait."""

    def ended(self, connection: object, record: Record) -> None:
        """Have the driver know that no transaction is open: the app has ended it in a call that met a loss."""

    def requested_role(self, record: Record) -> str:
        """Return the kind of server that the app requests, in libpq's words; empty if it requests none."""

    def open(self, connection: object, record: Record, address: Address, role: str, seconds: float) -> Any:
        """Return a new connection like `connection`, at its baseline; `role`: where the client library looks for it.

        May wait.

        Raises:
            Exception: the driver's.
        """

    def open_bare(self, connection: object, record: Record, address: Address, role: str, seconds: float) -> Any:
        """Return a new connection with the same login, of any state. May wait.

        Raises:
            Exception: the driver's.
        """
        return self.open(connection, record, address, role, seconds)

    def checked(self, connection: object, role: str, asks: bool) -> Any:
        """Return whether the server of a new connection is a standby. May wait.

        `asks`: a query is sent in any case, which only a working server answers.

        Raises:
            WrongRole: the server is of another kind than the requested one.
            Exception: the driver's.
        """

    def answer(self, error: BaseException) -> tuple[str, str, bool]:
        """Return the outcome of an attempt, for telemetry and for the user, and whether another attempt is useless."""

    def key(self, connection: object, record: Record) -> tuple[Any, ...]:
        """Return what makes two searches the same, without the password."""

    def swap(self, connection: object, other: object) -> Any:
        """Give the app's object the physical connection of `other`; return what then has its former one."""

    def refuse(self, connection: object) -> Any:
        """Put the session into an aborted transaction, if the database has these. May wait."""

    def shut(self, connection: object, for_good: bool) -> None:
        """End the physical connection; `for_good`: later uses of the object raise that it is closed."""

    def two_phase_refusal(self, connection: object, effects: Effects | None, error: BaseException) -> str:
        """Return why a statement about a two-phase transaction fails on another session than that which began it.

        ``autocommit``: only a session in autocommit may end it; ``gone``: the server does not have it; or nothing.
        """
        return ""

    def demoted(self, connection: object, record: Record, error: BaseException) -> Any:
        """Return True if a write was refused because the server is not a primary any more. May wait."""

    def leaves_in_doubt(self, error: BaseException) -> bool:
        """Return True if a server that raises this and is demoted may have carried out the statement."""
        return False

    def is_standby(self, connection: object) -> Any:
        """Return True if the server is not a primary; None if unknown. May wait."""


class AsyncAdapter(DriverAdapter, Protocol):
    """One driver whose calls are awaited, on asyncio."""

    def poll(self, connection: object) -> Callable[[int], Any]:
        """Return a function that checks, without waiting, whether the server has sent something unsolicited, or has
        gone.

        The event loop may have read it already, so its buffers are checked first.
        """

    def cutter(self, connection: object) -> Callable[[], None] | None:
        """Return a function that ends the physical connection at once, so that waiting calls fail; None if there is
        none.
        """
