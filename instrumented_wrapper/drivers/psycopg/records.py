"""The record of a psycopg connection, which the attribute `KEY` of the connection refers to.

The wrapper never reads ``__dict__`` of a connection: up to Python 3.12 that slows each later attribute access.

Knows nothing of the order of steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Final, NamedTuple
from weakref import ReferenceType

import psycopg

from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.databases.postgresql import questions
from instrumented_wrapper.databases.postgresql.knowledge import Functions
from instrumented_wrapper.drivers.engine import decisions
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.registry import KEY, watch
from instrumented_wrapper.drivers.server_session.postgresql import FUNCTIONS
from instrumented_wrapper.errors import Address, FailoverError
from instrumented_wrapper.events import ServerAddress
from instrumented_wrapper.operations import Operation, Site
from instrumented_wrapper.options import Options

__all__ = ["KEY", "Arguments", "Record", "encoding_of", "record_of"]

_WATCHED: Final = tuple(name.encode() for name in questions.REPORTED.values())


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
        wanted: the app's ``target_session_attrs``.
        pipeline_error: the error that statements of a lost pipeline get.
        peer: the server of the physical connection; None: it was not looked at yet.
    """

    def __init__(
        self, connection: Any, options: Options, arguments: Arguments | None, hosts: tuple[Address, ...]
    ) -> None:
        super().__init__("psycopg", connection, options, postgresql, arguments, hosts)
        self.baseline_done = self.muted = self.broken = False
        self.operation: Operation | None = None
        self.unfinished: Operation | None = None
        self.parameters: dict[str, Any] | None = None
        self.wanted = ""
        self.compared = 0.0  # when what the server reports was last looked at
        self.reported_first: tuple[bytes | None, ...] = ()
        self.pipeline_error: FailoverError | None = None
        self.switchable = self.failover = self.would_switch(hosts)
        self.peer: ServerAddress | None = None
        self.reported = partial(_reported, self.connection)
        self.look_at(connection.pgconn)
        self.keep_reported()
        watch(self)

    def look_at(self, pgconn: Any) -> None:
        """Watch another physical connection for an end that the server announces."""
        self.moved_to(pgconn.socket if self.failover else None)
        self.transaction_status, self.peer = TransactionStatus.IDLE, None
        self.functions = FUNCTIONS.setdefault((pgconn.host, pgconn.port, pgconn.db), Functions())
        self.was_standby = pgconn.parameter_status(b"in_hot_standby") == b"on"

    def keep_reported(self) -> None:
        """Take what the server reports now as the baseline."""
        self.compared, self.reported_first = self.last_response_at, self._reported_now()

    def _reported_now(self) -> tuple[bytes | None, ...]:
        watched = self.connection()
        try:
            return () if watched is None else tuple(map(watched.pgconn.parameter_status, _WATCHED))
        except psycopg.OperationalError:  # closed: nothing more is reported
            return self.reported_first

    def take_reported(self) -> None:
        """Update the settings from what the server has reported outside a transaction."""
        if (
            self.compared != self.last_response_at
            and self.transaction_status == TransactionStatus.IDLE
            and not self.off
        ):
            self.compared = self.last_response_at
            if (now := self._reported_now()) != self.reported_first:
                self._take_reported(now)

    def _take_reported(self, now: tuple[bytes | None, ...]) -> None:
        watched = self.connection()
        encoding = encoding_of(watched) if watched is not None else "utf-8"
        for name, first, value in zip(questions.REPORTED, self.reported_first, now, strict=False):
            if first is not None and value is not None and first != value:
                self.on_server.noticed(name, first.decode(encoding), value.decode(encoding))
        self.refresh_changed()

    def wants_to_ask(self) -> bool:
        """Return True if something is in doubt, and the server may be queried for it."""
        return self.unsure and decisions.may_resync(self)

    def ask_next(self, now: bool) -> None:
        """Have the next statement query the server first, where something is in doubt."""
        if self.asks != (wanted := now and self.wants_to_ask()):
            self.asks = wanted
            self.refresh()

    def site(self) -> Site:
        """Return where operations go now: the database and, where it is known, the schema that comes first."""
        watched = self.connection()
        try:
            pgconn = watched.pgconn if watched is not None else None
            parts = () if pgconn is None else (pgconn.db, pgconn.host, pgconn.port, pgconn.hostaddr)
            database, host, port, node = (part.decode() for part in parts)
        except (psycopg.OperationalError, ValueError):  # closed, or gone: what comes is refused by psycopg
            return Site(postgresql.SYSTEM, "", "", None)
        schema = postgresql.first_schema(self._search_path(watched))
        number = int(port) if port else None
        namespace = f"{database}|{schema}" if schema else database
        return Site(postgresql.SYSTEM, namespace, host, number, node, number if node else None)

    def _search_path(self, connection: Any) -> str:
        """Return the search path as the server reports it, or as it was set or fetched; empty where it is not known."""
        if any(effects.sets for effects in self.in_flight):
            return ""  # what was sent is not answered yet
        if reported := connection.pgconn.parameter_status(b"search_path"):
            return str(reported.decode(encoding_of(connection)))
        if self.on_server.is_masked("search_path"):
            return ""  # a value of the transaction's, which nobody keeps
        value, pristine = self.on_server.of("search_path")
        return value or pristine or ""

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


def _reported(connection: ReferenceType[Any], name: str) -> str | None:
    """Return the value of a setting that the server reports whenever it changes."""
    watched, spelled = connection(), questions.REPORTED.get(name)
    if watched is None or spelled is None:
        return None
    value = watched.pgconn.parameter_status(spelled.encode())
    return None if value is None else str(value.decode(encoding_of(watched)))


def encoding_of(connection: Any) -> str:
    """Return Python's name of the connection's encoding; of one that Python does not know, the ASCII part is read."""
    try:
        return str(connection.info.encoding)
    except psycopg.NotSupportedError:
        return "latin-1"


def record_of(connection: Any) -> Record | None:
    """Return the record of a connection that is watched."""
    record: Record | None = getattr(connection, KEY, None)
    return record
