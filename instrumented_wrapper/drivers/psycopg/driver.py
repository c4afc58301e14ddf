"""`Driver` for psycopg: read, write, open a new physical connection, put it under the app's object."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any, Final
from weakref import ref

import psycopg
from psycopg import pq

from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.databases.postgresql.connect_arguments import hosts_of, requested_role
from instrumented_wrapper.drivers import Flow, Probe, Replacement
from instrumented_wrapper.drivers.engine.closing import closing_for_good
from instrumented_wrapper.drivers.engine.deadlines import silence
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.engine.search import find, target_of
from instrumented_wrapper.drivers.engine.takeover import (
    candidate,
    exchanging,
    make_internal,
    options_of_candidate,
    taking_over,
)
from instrumented_wrapper.drivers.engine.tracked_driver import TrackedDriver
from instrumented_wrapper.drivers.psycopg import probes
from instrumented_wrapper.drivers.psycopg.libpq_race import Login, contest
from instrumented_wrapper.drivers.psycopg.private_api import AsyncConnection, BaseConnection, Connection
from instrumented_wrapper.drivers.psycopg.query_text import text_of
from instrumented_wrapper.drivers.psycopg.records import Record, peer_of, record_of
from instrumented_wrapper.drivers.psycopg.settings_queries import SettingsQueries, fresh_prepared
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.errors import Address
from instrumented_wrapper.events import ServerAddress
from instrumented_wrapper.failover import Found, Loss

SETTINGS: Final = ("autocommit", "isolation_level", "read_only", "deferrable")
_IDLE, _INTRANS = TransactionStatus.IDLE, TransactionStatus.INTRANS
_IN_TRANSACTION: Final = (_INTRANS, TransactionStatus.INERROR)


class Psycopg(SettingsQueries, TrackedDriver):
    """`Driver` for psycopg 3."""

    name = "psycopg"
    settings: Sequence[str] = SETTINGS
    room = postgresql
    operational_error = psycopg.OperationalError
    error_number: int | None = None  # only a text stands in psycopg's errors
    raises: tuple[type[Exception], ...] = (psycopg.Error,)

    session_of = staticmethod(record_of)
    text_of = staticmethod(text_of)

    @property
    def within(self) -> Psycopg:
        """The same, for use within psycopg's own generators."""
        return _WITHIN

    def loss_attributes(self, cause: BaseException | None) -> Mapping[str, Any]:
        """Return nothing: pools look at the connection."""
        return {}

    def owns(self, connection: object) -> bool:
        """Return True if it is a connection of psycopg, sync or async."""
        return isinstance(connection, BaseConnection)

    def peer(self, connection: Any) -> ServerAddress:
        record: Any = record_of(connection)
        if record.peer is None:
            record.peer = peer_of(connection.pgconn)
        return record.peer  # type: ignore[no-any-return]

    def is_async(self, connection: object) -> bool:
        """Return True if it is an `AsyncConnection`."""
        return isinstance(connection, AsyncConnection)

    def read(self, connection: object, setting: str) -> Any:
        """Return the value of one of `SETTINGS`: all four only shape the BEGIN that psycopg sends."""
        return getattr(connection, f"_{setting}")

    def write(self, connection: Any, setting: str, value: object) -> None:
        """Set one of `SETTINGS` without the lock and without a round trip."""
        setattr(connection, f"_{setting}", value)
        connection._begin_statement = b""

    def is_idle(self, connection: Any) -> bool:
        return bool(connection.pgconn.transaction_status == _IDLE)

    def is_lost(self, connection: Any, error: BaseException | None = None) -> bool:
        """Return True if libpq knows that the connection has ended."""
        return bool(connection.pgconn.status == pq.ConnStatus.BAD)

    def is_in_transaction(self, connection: Any) -> bool:
        return bool(connection.pgconn.transaction_status in _IN_TRANSACTION)

    def is_closed(self, connection: Any) -> bool:
        return bool(connection.closed)

    def check_outside_transaction(self, connection: Any, verb: str) -> None:
        """Raise where the connection is closed, or a transaction is open, or something is under way."""
        if connection._closed:
            raise psycopg.OperationalError(f"{verb} needs an open connection")
        pipelined = connection._pipeline is not None
        record = record_of(connection)
        lost_outside = self.is_lost(connection) and record is not None and record.transaction_status == _IDLE
        idle = self.is_idle(connection) or lost_outside
        if not idle or connection._num_transactions or pipelined:
            status = TransactionStatus(connection.pgconn.transaction_status).name
            where = "a pipeline block: leave it" if pipelined else f"transaction status {status}: commit or roll back"
            raise psycopg.ProgrammingError(
                f"{verb} needs a connection outside a transaction; this one is in {where} first"
            )

    def lock(self, connection: Any) -> Any:
        return connection.lock

    def finish_work(self, connection: Any) -> Any:
        if connection.pgconn.transaction_status == TransactionStatus.INERROR:
            raise psycopg.errors.InFailedSqlTransaction("the handler left an aborted transaction")
        return connection.commit() if connection.pgconn.transaction_status == _INTRANS else None

    def replacement(self, connection: object, loss: Loss, deadline: float) -> Flow[Replacement]:
        """Find a server, together with the other connections that are lost now, and connect to it."""
        record: Any = record_of(connection)
        parameters = yield partial(_parameters, connection, record)
        login = Login(parameters, loss.probe)
        own, asked = hosts_of(parameters, os.environ), requested_role(parameters, os.environ)
        was_standby, before = _was_standby(connection, record), self.peer(connection)
        target = target_of(record, loss, own, asked, was_standby, login.identity, before)
        pgconn, found = yield from find(target, contest(login, self.is_async(connection)), deadline)
        return self._dressed(connection, record, pgconn, found, deadline)

    def _dressed(self, connection: Any, record: Record, pgconn: Any, found: Found, deadline: float) -> Replacement:
        """Dress a new physical connection in a plain connection object, at the baseline of the app's."""
        dressed: Any = (AsyncConnection if self.is_async(connection) else Connection)(pgconn)
        internal = Record(dressed, options_of_candidate(record), None, (found.address,))
        make_internal(internal, record)
        setattr(dressed, KEY, internal)
        dressed.row_factory, dressed._adapters = connection.row_factory, connection._adapters
        for setting in SETTINGS:
            self.write(dressed, setting, record.pristine(setting, self.read(connection, setting)))
        return candidate(dressed, internal, record, found, pgconn.socket, deadline)

    def abort_transaction(self, replacement: Replacement) -> Any:
        connection = replacement.connection
        return connection.wait(_aborted(connection))

    def graft(self, connection: Any, replacement: Replacement) -> None:
        record: Any = record_of(connection)
        other = replacement.connection
        with taking_over(record):
            for setting in SETTINGS:
                ours, theirs = self.read(connection, setting), self.read(other, setting)
                self.write(connection, setting, theirs)
                self.write(other, setting, ours)
            connection.pgconn, other.pgconn = other.pgconn, connection.pgconn
            _own(connection)
            _own(other)
            connection._closed = False
            connection._prepared = fresh_prepared(connection._prepared)
            with exchanging(record, _record(other)):
                record.track_physical(connection.pgconn)
            record.keep_reported()  # what the app's transfer handler has set included
            record.loss_reported = False

    def abandon(self, connection: Any) -> None:
        record: Any = record_of(connection)
        with closing_for_good(record):
            connection._closed = True
            connection.pgconn.finish()

    def silence(self, connection: Any) -> None:
        if not connection.closed:
            silence(connection.pgconn.socket)

    def open_probe(self, connection: object, address: Address, seconds: float) -> Flow[Probe | None]:
        parameters = yield partial(_parameters, connection, _record(connection))
        return probes.opened(Login(parameters), address, seconds)

    def ask_probe(self, probe: Probe, seconds: float) -> Flow[None]:
        yield from ()  # a flow, without a step
        probes.ask(probe.session, seconds)

    def end_probe(self, probe: Probe) -> None:
        probe.session.finish()

    def end(self, connection: Any) -> None:
        connection.pgconn.finish()

    def discard(self, replacement: Replacement) -> None:
        replacement.connection._closed = True
        replacement.connection.pgconn.finish()


class PsycopgWithin(Psycopg):
    """The same, for use within one of psycopg's own generators: who may wait is given a generator to go on with."""

    def waiting(self, connection: object, gen: object) -> Any:
        """Leave the waiting to the generator that calls."""
        return gen


_WITHIN: Final = PsycopgWithin()


def _record(connection: object) -> Record:
    """Return the record of a connection that is known to be tracked."""
    record: Record = getattr(connection, KEY)
    return record


def _parameters(connection: Any, record: Record) -> Any:
    """Return the parameters from the app's class again: it may fetch a fresh password. May wait."""
    if (given := record.arguments) is None:
        return dict(record.parameters or {})
    return type(connection)._get_connection_params(given.conninfo, **given.keywords)


def _was_standby(connection: Any, record: Record) -> bool:
    try:
        return bool(connection.pgconn.parameter_status(b"in_hot_standby") == b"on")
    except psycopg.OperationalError:  # psycopg has closed it, after an interruption
        return bool(record.was_standby)


def _aborted(connection: Any) -> Generator[Any, Any, None]:
    try:
        yield from connection._exec_command(postgresql.ABORTED_TRANSACTION.encode())
    except psycopg.Error:
        if connection.pgconn.transaction_status != TransactionStatus.INERROR:
            raise  # not the refusal that was asked for


def _own(connection: Any) -> None:
    """Notices and notifications of a physical connection go to the object that has it now."""
    weak = ref(connection)
    connection.pgconn.notice_handler = partial(BaseConnection._notice_handler, weak)
    connection.pgconn.notify_handler = partial(BaseConnection._notify_handler, weak)
