"""Query and set settings of PostgreSQL through libpq, and keep psycopg2's own state consistent."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

import psycopg2
from psycopg2 import extensions

from instrumented_wrapper.databases.postgresql.state import CUSTOM
from instrumented_wrapper.drivers import Assigned
from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.psycopg2 import libpq
from instrumented_wrapper.drivers.psycopg2.classes import LOST, C, physical
from instrumented_wrapper.drivers.server_session import Rows
from instrumented_wrapper.drivers.server_session.postgresql import PostgreSQLSettings
from instrumented_wrapper.plans import Assignment

_UNKNOWN: Final = 4  # libpq's PGTransactionStatusType of a connection that is not there
_BY_PSYCOPG2: Final = "default_transaction_read_only"
_DATES: Final = "datestyle"
_OWN: Final = (  # in autocommit, and when it connects
    _BY_PSYCOPG2,
    "default_transaction_isolation",
    "default_transaction_deferrable",
    _DATES,
    "client_encoding",
)
_status: Final = vars(C)["get_transaction_status"]
_closed: Final = vars(C)["closed"]
_reported: Final = vars(C)["get_parameter_status"]


class Channel:
    """A connection of psycopg2, talked with by libpq."""

    error: type[Exception] = psycopg2.Error

    def __init__(self, adapter: DriverAdapter, connection: Any, record: Record) -> None:
        self._adapter, self.record = adapter, record

    def _of(self) -> Any:
        return self.record.connection()

    @property
    def _physical(self) -> Any:
        return physical(self._of())

    def send(self, text: str) -> Generator[Any, Any, Rows]:
        """Send a text and return the rows of its answers."""
        yield from ()  # a generator, which never waits
        rows: Rows = self._adapter.query(self._of(), text)
        return rows

    def _is(self, status: TransactionStatus) -> bool:
        return self._adapter.transaction_status(self._of(), self.record) == status

    def is_idle(self) -> bool:
        """Return True if no transaction is open."""
        return self._is(TransactionStatus.IDLE)

    def has_failed(self) -> bool:
        """Return True if the open transaction has failed."""
        return self._is(TransactionStatus.INERROR)

    def is_healthy(self) -> bool:
        """Return True unless psycopg2 knows that the connection has ended."""
        return not _closed.__get__(self._physical) and _status(self._physical) != _UNKNOWN

    def forget_prepared(self) -> None:
        """psycopg2 prepares nothing by itself."""

    def process(self) -> int:
        """Return the process that libpq was given at login."""
        return int(C.get_backend_pid(self._physical))

    def status(self, name: str) -> str | None:
        """Return a value that the server reports whenever it changes."""
        return self.statuses((name,))[0]

    def statuses(self, names: Sequence[str]) -> tuple[str | None, ...]:
        """Return several of them, of a connection that is lost the last ones."""
        here = self._physical
        if not (closed := _closed.__get__(here)):
            return tuple(map(_reported.__get__(here), names))  # a loop in C: each return to a pool comes here
        pgconn = C.pgconn_ptr.__get__(here) if closed == LOST else None
        if pgconn is None:
            return (None,) * len(names)
        encoding = extensions.encodings.get(C.encoding.__get__(here), "utf-8")
        return tuple(libpq.reported(pgconn, name, encoding) for name in names)

    def has_set(self, name: str, value: str) -> bool:
        """Return True if psycopg2 itself has given a setting this value: in autocommit, for its attribute."""
        if name != _BY_PSYCOPG2 or _closed.__get__(self._physical):
            return name == _BY_PSYCOPG2
        read_only = C.readonly.__get__(self._physical) if C.autocommit.__get__(self._physical) else None
        return read_only is not None and read_only is (value == "on")

    def encode(self) -> None:
        """Have texts in the encoding that the server reports."""
        if (reported := self.status("client_encoding")) is not None:
            C.set_client_encoding(self._physical, reported)  # sends nothing where psycopg2 knows

    def where(self) -> tuple[object, ...]:
        """Return the key of the cache of functions: server and database."""
        info = C.info.__get__(self._physical)
        return info.host, info.port, info.dbname


class Psycopg2Settings(PostgreSQLSettings):
    """Also does what psycopg2 does only when it connects: the encoding, and dates that it can read."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel, channel.status, channel.statuses, channel.where, channel.has_set)
        self._psycopg2 = channel

    def assign(self, assignments: Sequence[Assignment], clears: Sequence[str], back: bool) -> Assigned | None:
        """Clear state and give settings."""
        assigned = super().assign(self._readable(assignments, clears) if back else assignments, clears, back)
        self._psycopg2.encode()
        return assigned

    def verify(self) -> Any:
        """Ask for all that is tracked; what psycopg2 itself sets for its attributes is no difference."""
        found = super().verify()
        return found and tuple(one for one in found if one.is_tracked or one.name not in _OWN)

    def _readable(self, given: Sequence[Assignment], clears: Sequence[str]) -> list[Assignment]:
        """Dates go back to what psycopg2 had set, not to the server's default."""
        kept = [assignment for assignment in given if assignment.name != _DATES or assignment.text is not None]
        by_default = len(kept) < len(given) or (CUSTOM in clears and all(a.name != _DATES for a in given))
        _, pristine = self._psycopg2.record.on_server.of(_DATES)
        return [*kept, Assignment(_DATES, pristine or "ISO")] if by_default else kept
