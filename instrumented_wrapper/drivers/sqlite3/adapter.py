"""What sqlite3 is like: `DriverAdapter`. A file has no server: nothing is ever lost, and nothing is switched."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from instrumented_wrapper.databases import sqlite
from instrumented_wrapper.drivers import Flow, Replacement
from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter, Room
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.engine.search import ANY
from instrumented_wrapper.drivers.engine.sync_driver import SyncDriver
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.drivers.server_session import Rows, SettingsClient
from instrumented_wrapper.drivers.server_session.sqlite import Channel, SQLiteSettings
from instrumented_wrapper.drivers.sqlite3.classes import C_CONNECTION as _C
from instrumented_wrapper.drivers.sqlite3.classes import C_CURSOR
from instrumented_wrapper.errors import Address
from instrumented_wrapper.events import ServerAddress
from instrumented_wrapper.failover import Loss, NoServer
from instrumented_wrapper.operations import Site

HAS_AUTOCOMMIT: Final = sys.version_info >= (3, 12)
SETTINGS: Final = ("isolation_level", "autocommit") if HAS_AUTOCOMMIT else ("isolation_level",)
HIDDEN: Final = "_instrumented_wrapper_hidden"  # in a connection's ``__dict__``: threads that ask for us
_IN_TRANSACTION: Final = _C.in_transaction.__get__


class SQLite(DriverAdapter):
    """`DriverAdapter` for sqlite3."""

    name = "sqlite3"
    room: Room = sqlite
    error: type[Exception] = sqlite3.Error
    raises: tuple[type[Exception], ...] = (sqlite3.Error,)
    operational_error: type[Exception] = sqlite3.OperationalError
    programming_error: type[Exception] = sqlite3.ProgrammingError
    settings: Sequence[str] = SETTINGS
    aliases: Mapping[str, str] = MappingProxyType({"query_only": "read_only"})
    kinds: tuple[type[Any], ...] = (_C,)

    def settings_client(self, connection: object, record: Record) -> SettingsClient:
        """Talk with SQLite."""
        query, outside = partial(_with, record, self.query), partial(_with, record, self.outside)
        return SQLiteSettings(record, Channel(query, outside, self.error))

    def transaction_status(self, connection: object, record: Record) -> TransactionStatus:
        """Return the status; with ``autocommit=False`` a transaction is always open, and empty after a commit."""
        if not _IN_TRANSACTION(connection):
            return TransactionStatus.IDLE
        return (
            TransactionStatus.INTRANS if record.used or not self._is_always_in(connection) else TransactionStatus.IDLE
        )

    def _is_always_in(self, connection: object) -> bool:
        return HAS_AUTOCOMMIT and self.read(connection, "autocommit") is False

    def begins(self, connection: object) -> bool:
        return False

    def is_closed(self, connection: object) -> bool:
        """Return True if the connection is closed, or this thread may not use it."""
        try:
            _ = _C.total_changes.__get__(connection)
        except sqlite3.ProgrammingError:
            return True
        return False

    def is_lost(self, connection: object, error: BaseException | None) -> bool:
        return False

    def is_alive(self, connection: object) -> bool:
        return True

    def socket(self, connection: object) -> int | None:
        return None

    def peer(self, connection: object, record: Record) -> ServerAddress:
        """Return the file, as the app named it."""
        return ServerAddress(sqlite.SYSTEM, str(record.arguments.positional[0]), "", None)

    def site(self, connection: object, record: Record) -> Site:
        return Site(sqlite.SYSTEM, str(record.arguments.positional[0]), "", None)

    def read(self, connection: object, setting: str) -> Any:
        """Return an attribute."""
        return getattr(_C, setting).__get__(connection)

    def write(self, connection: object, setting: str, value: object) -> None:
        """Set an attribute, where it is another one; never in a transaction of the app's, as that may commit it."""
        record = record_of(connection)
        if (
            self.read(connection, setting) == value
            or record is None
            or self.transaction_status(connection, record) != TransactionStatus.IDLE
        ):
            return
        if setting == "autocommit":  # an empty transaction would be left open
            self._to_autocommit(connection, True, where=False)
        with self.outside(connection), _hidden(connection):
            getattr(_C, setting).__set__(connection, value)
        record.used = False

    def query(self, connection: object, text: str) -> Rows:
        """Run a statement past all that is patched, and past the app's factories and its trace callback."""
        with _hidden(connection):
            cursor = C_CURSOR(connection)
            cursor.row_factory = None
            return [list(row) for row in cursor.execute(text).fetchall()]

    @contextmanager
    def outside(self, connection: object) -> Iterator[None]:
        """While inside, no transaction is open that is there only because one always is: PRAGMAs may need that."""
        before = self._to_autocommit(connection, True, where=False)
        try:
            yield
        finally:
            if before:
                self._to_autocommit(connection, False, where=True)

    def _to_autocommit(self, connection: object, value: bool, where: bool) -> bool:
        """Set ``autocommit``, where it is `where`."""
        if not HAS_AUTOCOMMIT or self.read(connection, "autocommit") is not where:
            return False
        with _hidden(connection):
            _C.autocommit.__set__(connection, value)
        connection.__dict__[KEY].used = False
        return True

    def text_of(self, cursor: object, query: object) -> str:
        return query if isinstance(query, str) else ""

    def exact(self, cursor: object, query: object, parameters: object) -> str | None:
        """A PRAGMA takes no parameters."""
        return None

    def finish(self, connection: object, command: str) -> None:
        """Commit, or roll back."""
        (_C.commit if command == "COMMIT" else _C.rollback)(connection)

    def ended(self, connection: object, record: Record) -> None:
        """There is no loss."""

    def is_standby(self, connection: object) -> bool | None:
        return None

    def requested_role(self, record: Record) -> str:
        return ANY

    def open(self, connection: object, record: Record, address: Address, role: str, seconds: float) -> Any:
        raise sqlite3.NotSupportedError("sqlite3 has no server")

    def checked(self, connection: object, role: str, asks: bool) -> bool | None:
        return None

    def answer(self, error: BaseException) -> tuple[str, str, bool]:
        return "failed", "is no server", True

    def key(self, connection: object, record: Record) -> tuple[Any, ...]:
        return (id(connection),)

    def swap(self, connection: object, other: object) -> Any:
        raise sqlite3.NotSupportedError("sqlite3 has no server")

    def refuse(self, connection: object) -> None:
        """Nothing is lost."""

    def shut(self, connection: object, for_good: bool) -> None:
        """Nothing is shut."""

    def demoted(self, connection: object, record: Record, error: BaseException) -> bool:
        return False


class Files(SyncDriver):
    """`Driver` for databases that are files: there is nowhere to go."""

    def replacement(self, connection: object, loss: Loss, deadline: float) -> Flow[Replacement]:
        """Raise: a file has no server that could take over."""
        yield from ()  # a flow, without a step
        raise NoServer(0, True, {("sqlite3", None): "has none, a database is a file"})


@contextmanager
def _hidden(connection: object) -> Iterator[None]:
    """While inside, the app's trace callback does not see the statements of this thread."""
    hidden, this = connection.__dict__.get(HIDDEN), threading.get_ident()
    if hidden is None or this in hidden:
        yield
        return
    hidden.add(this)
    try:
        yield
    finally:
        hidden.discard(this)


def _with(record: Record, function: Callable[..., Any], *arguments: Any) -> Any:
    return function(record.connection(), *arguments)


def readable(database: object) -> str:
    """Return a file's name as the app gave it; of a URI the part before its parameters, which may hold a key."""
    name = os.fspath(database) if isinstance(database, (str, bytes, os.PathLike)) else ""
    text = name.decode(errors="replace") if isinstance(name, bytes) else name
    return text.partition("?")[0] if text.startswith("file:") else text
