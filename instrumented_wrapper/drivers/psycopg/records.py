"""The record of a psycopg connection, which the attribute `KEY` of the connection refers to.

The wrapper never reads ``__dict__`` of a connection: up to Python 3.12 that slows each later attribute access.

Knows nothing of the order of steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, NamedTuple

import psycopg

from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.databases.postgresql import questions
from instrumented_wrapper.drivers.engine import decisions
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.registry import KEY, watch
from instrumented_wrapper.drivers.server_session.reported_settings import ReportedSettings
from instrumented_wrapper.errors import Address, FailoverError
from instrumented_wrapper.events import ServerAddress
from instrumented_wrapper.operations import Operation, Site
from instrumented_wrapper.options import Options

_ENCODED: Final = {name: name.encode() for name in questions.REPORTED.values()}


class Arguments(NamedTuple):
    """The arguments of the app's connect; used again for a new connection, so that passwords may be fetched anew."""

    conninfo: str
    keywords: dict[str, Any]

    def __repr__(self) -> str:
        return "<Arguments of connect>"  # the password is among them


class Record(TrackedConnection):
    """The session behind one psycopg connection.

    Attributes:
        baseline_done: `connect` has returned it.
        muted: psycopg converts a query without sending it.
        broken: something in the pipeline has failed, and what came after it was not done.
        operation: one that lasts while the app does other things (a stream, a COPY).
        unfinished: the same, where the choke point has to end it.
        parameters: of libpq, where the app's own arguments are not known.
        reports_deferred: what the server has reported is to be noticed when the transaction has ended.
        position: where the transaction is whose COMMIT, a text, is about to be sent.
        ended_at: the response after which no transaction was open, the last one that was looked at.
        compared: the response with which the reported settings were last compared.
        wanted: the app's ``target_session_attrs``.
        pipeline_error: the error that statements of a lost pipeline get.
        peer: the server of the physical connection; None: it was not looked at yet.
    """

    alive_by_default = True
    settings_client: ReportedSettings

    def __init__(
        self, connection: Any, options: Options, arguments: Arguments | None, hosts: tuple[Address, ...]
    ) -> None:
        super().__init__("psycopg", connection, options, postgresql, arguments, hosts)
        self.baseline_done = self.muted = self.broken = False
        self.operation: Operation | None = None
        self.unfinished: Operation | None = None
        self.parameters: dict[str, Any] | None = None
        self.wanted = ""
        self.compared, self.position = 0.0, None
        self.ended_at = 0.0
        self.reports_deferred = False
        self.pipeline_error: FailoverError | None = None
        self.switchable = self.failover = self.would_switch(hosts)
        self.peer: ServerAddress | None = None
        reporting = _Reporting(self)
        self.settings_client = ReportedSettings(
            reporting, reporting.status, reporting.statuses, reporting.place, text=reporting.text
        )
        self.track_physical(connection.pgconn)
        watch(self)

    def track_physical(self, pgconn: Any) -> None:
        """Watch another physical connection for an end that the server announces."""
        self.moved_to(pgconn.socket if self.failover else None)
        self.transaction_status, self.peer = TransactionStatus.IDLE, None
        self.settings_client.moved()
        self.was_standby = pgconn.parameter_status(b"in_hot_standby") == b"on"

    def server(self) -> Address:
        """Return where the physical connection leads."""
        connection = self.connection()
        at = ServerAddress("", "", "", None) if connection is None else peer_of(connection.pgconn)
        return at.address, at.port

    def is_waiting(self, connection: Any) -> bool:
        """Return True if its lock is held, as in streams and COPY; not while the app only waits for notifications."""
        return bool(connection.lock.locked() and connection.pgconn.transaction_status == TransactionStatus.ACTIVE)

    def keep_reported(self) -> None:
        """Take what the server reports now as the baseline."""
        self.compared = self.last_response_at
        self.settings_client.keep_reported()

    def take_reported(self) -> None:
        """Update the settings from what the server has reported outside a transaction."""
        if self.compared != self.last_response_at and self.transaction_status == TransactionStatus.IDLE:
            self.compared = self.last_response_at
            self.settings_client.apply_reports()

    def may_resync(self) -> bool:
        """Return True if something is in doubt, and the server may be queried for it."""
        return self.needs_resync and decisions.may_resync(self)

    def schedule_resync(self, wanted: bool) -> None:
        """Have the next statement query the server first, where something is in doubt."""
        wanted = wanted and self.may_resync()
        if self.resync_next != wanted:
            self.resync_next = wanted
            self.refresh()

    def seems_open(self) -> bool:
        """Return True if psycopg has begun a transaction, or the app has: there was a response since the last end."""
        if self.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            return True
        connection = self.connection()
        return connection is not None and not connection._autocommit and self.last_response_at != self.ended_at

    def changed_to(self, setting: str, value: object, origin: object = None) -> None:
        """Do as any session does; a setting changes outside a transaction only."""
        super().changed_to(setting, value, origin)
        self.ended_at = self.last_response_at

    def site(self) -> Site:
        """Return the present site of operations: the database and, if known, the first schema of the search path."""
        watched = self.connection()
        try:
            pgconn: Any = None if watched is None else watched.pgconn
            parts = () if pgconn is None else (pgconn.db, pgconn.host, pgconn.port, pgconn.hostaddr)
            database, host, port, node = (part.decode() for part in parts)
        except (psycopg.OperationalError, ValueError):  # closed, or gone: what comes is refused by psycopg
            return Site(postgresql.SYSTEM, "", "", None)
        reported = pgconn.parameter_status(b"search_path")
        search_path = self.search_path(reported and reported.decode(encoding_of(watched)))
        number = int(port) if port else None
        namespace = postgresql.namespace(database, search_path)
        return Site(postgresql.SYSTEM, namespace, host, number, node, number if node else None)

    def resumed(self) -> AbstractContextManager[None]:
        """While inside, what happens belongs to the operation that lasts, if there is one."""
        return nullcontext() if self.operation is None else self.operation.resumed()

    @contextmanager
    def failing(self) -> Iterator[None]:
        """End the operation that the choke point has to end with what is raised inside."""
        try:
            yield
        except BaseException as error:
            self.finish(error)
            raise

    def finish(self, error: BaseException | None = None) -> None:
        """End the operation that the choke point has to end."""
        if self.unfinished is not None:
            self.unfinished.end(error)
            self.operation = self.unfinished = None

    def given_up(self) -> None:
        """Forget the transaction that was open when the connection was lost: the app has left it."""
        self.transaction_status = TransactionStatus.IDLE
        self.in_flight.clear()
        self.on_server.end(commit=False)

    def troubles(self) -> tuple[object, ...]:
        """Return what makes the frequent path take the long way, where it is not None."""
        return (*super().troubles(), self.pipeline_error, self.deadline, self.muted or None)


def peer_of(pgconn: Any) -> ServerAddress:
    """Return the server of a physical connection."""
    try:
        host, port, database = pgconn.host.decode(), pgconn.port.decode(), pgconn.db.decode()
    except psycopg.OperationalError:  # closed before anybody asked
        return ServerAddress(postgresql.SYSTEM, "", "", None)
    return ServerAddress(postgresql.SYSTEM, database, host, int(port) if port else None)


class _Reporting:
    """What the server of a connection reports by itself, for `ReportedSettings`."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def _pgconn(self) -> Any:
        connection = self.record.connection()
        return None if connection is None else connection.pgconn

    def is_idle(self) -> bool:
        """Return True if no transaction is open."""
        return (pgconn := self._pgconn()) is not None and bool(pgconn.transaction_status == TransactionStatus.IDLE)

    def process(self) -> int:
        """Return the process that the server has reported to libpq."""
        return 0 if (pgconn := self._pgconn()) is None else int(pgconn.backend_pid)

    def status(self, name: str) -> str | None:
        """Return what the server reports of a setting."""
        value = None if (pgconn := self._pgconn()) is None else pgconn.parameter_status(name.encode())
        return None if value is None else self.text(value)

    def statuses(self, names: Sequence[str]) -> tuple[bytes | None, ...]:
        """Return what the server reports of several settings; nothing where psycopg has closed the connection."""
        try:
            return tuple(map(self._pgconn().parameter_status, map(_ENCODED.__getitem__, names)))
        except (psycopg.OperationalError, AttributeError):
            return (None,) * len(names)

    def text(self, value: bytes) -> str:
        """Return a value as text, in the encoding of the connection."""
        connection = self.record.connection()
        return value.decode("utf-8" if connection is None else encoding_of(connection))

    def place(self) -> tuple[object, ...]:
        """Return the key of the cache of functions: server and database."""
        pgconn = self._pgconn()
        return pgconn.host, pgconn.port, pgconn.db


def encoding_of(connection: Any) -> str:
    """Return Python's name of the connection's encoding; for an unknown one, ASCII."""
    try:
        return str(connection.info.encoding)
    except psycopg.NotSupportedError:
        return "latin-1"


def record_of(connection: object) -> Record | None:
    """Return the record of a connection that is watched."""
    record: Record | None = getattr(connection, KEY, None)
    return record
