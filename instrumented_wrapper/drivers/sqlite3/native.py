"""What sqlite3 is like: `Native`. A file has no server: nothing is ever lost, and nothing is switched."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from instrumented_wrapper.databases import sqlite
from instrumented_wrapper.drivers import Refused
from instrumented_wrapper.drivers.blocking.native import Phase, Room
from instrumented_wrapper.drivers.blocking.records import Record
from instrumented_wrapper.drivers.talking import Rows, Talk, Values
from instrumented_wrapper.errors import Address
from instrumented_wrapper.events import Peer
from instrumented_wrapper.failover import Loss
from instrumented_wrapper.operations import Site
from instrumented_wrapper.server_settings import Assignment, Told
from instrumented_wrapper.statement import Effects

__all__ = ["SETTINGS", "SQLite", "readable"]

HAS_AUTOCOMMIT: Final = sys.version_info >= (3, 12)
SETTINGS: Final = ("isolation_level", "autocommit") if HAS_AUTOCOMMIT else ("isolation_level",)
_C: Final[Any] = sqlite3.Connection


class _Talk:
    """`talking.Talk` with SQLite, which is in this process."""

    def __init__(self, native: SQLite, record: Record) -> None:
        self._native, self._record = native, record

    def reported(self, names: Sequence[str]) -> dict[str, str]:
        """Nothing is told unasked."""
        return {}

    def keep_reported(self) -> None:
        """Nothing is told unasked."""

    def notice(self) -> None:
        """Nothing is told unasked."""

    def moved(self) -> None:
        """It never is."""

    def present(self, names: Sequence[str]) -> Values:
        """Read PRAGMAs."""
        return {name: self._value(name) for name in names}

    def _value(self, name: str) -> str | None:
        rows = self._native.query(self._record.connection(), sqlite.present(name))
        return sqlite.answer(rows[0][0]) if rows else None

    def assign(self, assignments: Sequence[Assignment], clears: Sequence[str], back: bool) -> Values | None:
        """Set PRAGMAs."""
        before: Values = {} if back else self.present([assignment.name for assignment in assignments])
        for text, assignment in zip(sqlite.assign(assignments), assignments, strict=False):
            try:
                self._native.query(self._record.connection(), text)
            except sqlite3.Error as error:
                raise Refused(assignment.name, error) from error
        return before

    def ask(self) -> Values:
        """Read what is in doubt."""
        names = self._record.on_server.names_in_doubt()
        self._record.told(Told(self.present(names), {}), None)
        self._record.on_server.doubts.clear()
        return {}

    def understood(self, effects: Effects) -> Effects | None:
        """The text says all."""
        return effects


class SQLite:
    """`Native` for sqlite3."""

    name = "sqlite3"
    room: Room = sqlite
    error: type[Exception] = sqlite3.Error
    raises: tuple[type[Exception], ...] = (sqlite3.Error,)
    operational_error: type[Exception] = sqlite3.OperationalError
    programming_error: type[Exception] = sqlite3.ProgrammingError
    nests = False
    settings: Sequence[str] = SETTINGS
    aliases: Mapping[str, str] = MappingProxyType({"query_only": "read_only"})
    kinds: tuple[type[Any], ...] = (_C,)

    def talk(self, connection: Any, record: Record) -> Talk:
        """Talk with SQLite."""
        return _Talk(self, record)

    def phase(self, connection: Any, record: Record) -> Phase:
        """Tell whether a transaction is open; with ``autocommit=False`` one always is, and empty after a commit."""
        if not connection.in_transaction:
            return Phase.IDLE
        always = HAS_AUTOCOMMIT and connection.autocommit is False
        return Phase.OPEN if not always or record.used else Phase.IDLE

    def begins(self, connection: Any) -> bool:
        """Nothing depends on it: there are no losses."""
        return False

    def is_streaming(self, connection: Any) -> bool:
        """PRAGMAs may be read while rows are."""
        return False

    def is_closed(self, connection: Any) -> bool:
        """Tell whether it is closed; another thread than its own is not allowed to know."""
        try:
            _ = _C.total_changes.__get__(connection)
        except sqlite3.ProgrammingError:
            return True
        return False

    def is_lost(self, connection: Any, error: BaseException | None) -> bool:
        """Nothing is ever lost."""
        return False

    def is_alive(self, connection: Any) -> bool:
        """It always is."""
        return True

    def socket(self, connection: Any) -> int | None:
        """There is none."""
        return None

    def peer(self, connection: Any, record: Record) -> Peer:
        """Return the file, as the app named it."""
        return Peer(sqlite.SYSTEM, str(record.arguments.positional[0]), "", None)

    def site(self, connection: Any, record: Record) -> Site:
        """Return the same."""
        return Site(sqlite.SYSTEM, str(record.arguments.positional[0]), "", None)

    def read(self, connection: Any, setting: str) -> Any:
        """Return an attribute."""
        return getattr(_C, setting).__get__(connection)

    def write(self, connection: Any, setting: str, value: Any) -> None:
        """Set an attribute, where it is another one: setting it may end a transaction."""
        if self.read(connection, setting) != value:
            getattr(_C, setting).__set__(connection, value)

    def query(self, connection: Any, text: str) -> Rows:
        """Run a statement past all that is patched, and past the app's factories."""
        cursor = sqlite3.Cursor(connection)
        cursor.row_factory = None
        return [list(row) for row in cursor.execute(text).fetchall()]

    def text_of(self, cursor: Any, query: Any) -> str:
        """Return the text of a query."""
        return str(query)

    def exact(self, cursor: Any, query: Any, parameters: Any) -> str | None:
        """A PRAGMA takes no parameters."""
        return None

    def finish(self, connection: Any, command: str) -> None:
        """Commit, or roll back."""
        (_C.commit if command == "COMMIT" else _C.rollback)(connection)

    def is_standby(self, connection: Any) -> bool | None:
        """There is no server."""
        return None

    def wanted(self, connection: Any, record: Record, loss: Loss) -> str:
        """There is no server."""
        return "any"

    def open(self, connection: Any, record: Record, address: Address, wanted: str, seconds: float) -> Any:
        """There is no other server."""
        raise sqlite3.NotSupportedError("sqlite3 has no server: there is nothing that a connection could be moved to")

    def answer(self, error: BaseException) -> tuple[str, str, bool]:
        """Say so."""
        return "failed", "is no server, but a file of SQLite", True

    def key(self, connection: Any, record: Record) -> tuple[Any, ...]:
        """Nothing is looked for."""
        return (id(connection),)

    def swap(self, connection: Any, other: Any) -> Any:
        """Nothing is exchanged."""
        raise sqlite3.NotSupportedError("sqlite3 has no server")

    def refuse(self, connection: Any) -> None:
        """Nothing is lost."""

    def shut(self, connection: Any, for_good: bool) -> None:
        """Nothing is shut."""

    def demoted(self, connection: Any, record: Record, error: BaseException) -> bool:
        """A file has no role."""
        return False


def readable(database: Any) -> str:
    """Return a file's name as the app gave it."""
    return database.decode(errors="replace") if isinstance(database, bytes) else str(database)
