"""What we keep for each psycopg connection, and where: in the connection's own ``__dict__``, under `KEY`.

Knows nothing of the order of steps. The flags that the frequent path reads are plain attributes, kept up to date by
`Record.refresh`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Final, NamedTuple
from weakref import ReferenceType, ref

import psycopg

from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.databases.postgresql import questions
from instrumented_wrapper.databases.postgresql.knowledge import Functions
from instrumented_wrapper.drivers.talking.postgresql import FUNCTIONS
from instrumented_wrapper.drivers.watching import KEY, never, poll_of, watch
from instrumented_wrapper.errors import Address, FailoverError
from instrumented_wrapper.events import Peer
from instrumented_wrapper.operations import Operation, Site, SpanTemplates
from instrumented_wrapper.options import Options
from instrumented_wrapper.session import Session

__all__ = ["KEY", "Arguments", "Record", "encoding_of", "record_of"]

IDLE: Final = 0
_WATCHED: Final = tuple(name.encode() for name in questions.REPORTED.values())


class Arguments(NamedTuple):
    """How the app asked for the connection; used again for a new one, so that passwords may be fetched anew."""

    conninfo: str
    keywords: dict[str, Any]

    def __repr__(self) -> str:
        return "<Arguments of connect>"  # the password is among them


class Record(Session):
    """The session behind one psycopg connection, and what a switch needs to know of its physical side.

    Attributes:
        off: nothing is looked at any more (forked child, not instrumented any more).
        alert: the frequent path must take the long way (an error is owed, a lost transaction, a deadline).
        switchable: a loss leads to a switch.
        heard: when the server last answered (monotonic seconds).
        phase: transaction status when the server was last heard.
        internal: a connection of ours, on its way to become the app's.
        handed_out: a pool has given it to the app; None for one that is not from a pool.
        returning: the pool takes it back: a loss is then the pool's to handle.
        recording: changes are the app's doing.
        returned: it was reset on its way into the pool just now.
        broken: something in the pipeline has failed, and what came after it was not done.
        called: functions of which the server has to be asked what they may do.
        asks: the server has to be asked before the next statement.
        in_vain: the server was asked and did not tell.
        operations_wanted: telemetry records the operations of the app.
        spans_wanted: they have spans; False where another instrumentation makes these.
        templates: spans of operations on the present server; None: where these go has to be found out.
        moves: how often it has got a physical connection.
        lent: when the pool handed it out, on the clock of its metrics.
        operation: one that lasts while the app does other things (a stream, a COPY).
        process: that of the server session, where a pooler keeps it for this connection; None: the one it was told of.
        successor: the socket of the connection that is about to take its place; whoever closes it ends that one, too.
        unfinished: the same, where the choke point has to end it.
    """

    def __init__(
        self, connection: Any, options: Options, arguments: Arguments | None, hosts: tuple[Address, ...]
    ) -> None:
        super().__init__(options, postgresql)
        self.driver_name = "psycopg"
        self.connection: ReferenceType[Any] = ref(connection)
        self.arguments = arguments
        self.hosts = hosts
        self.mutex = threading.Lock()
        self.off = self.alert = self.internal = self.foreign = False
        self.handed_out = self.returning = self.returned = False
        self.muted = False  # psycopg converts a query without sending it
        self.asks = self.in_vain = False
        self.called: set[str] = set()
        self.operations_wanted, self.spans_wanted = False, True
        self.moves = 0
        self.lent = 0.0
        self.templates: SpanTemplates | None = None
        self.operation: Operation | None = None
        self.unfinished: Operation | None = None
        self.broken = False
        self.parameters: dict[str, Any] | None = None  # of libpq, where the app's own arguments are not known
        self.recording, self.baseline_done = True, False
        self.closed_by_app = self.loss_told = False
        self.deadline: float | None = None
        self.successor: tuple[int, int] | None = None
        self.process: int | None = None
        self.phase = IDLE
        self.heard = 0.0
        self.compared = 0.0  # when what the server reports was last looked at
        self.reported_first: tuple[bytes | None, ...] = ()
        self.wanted = ""  # the app's target_session_attrs
        self.chosen = False  # the app has moved to this server whatever it is
        self.pipeline_error: FailoverError | None = None
        self.last_error: FailoverError | None = None
        several = len(options.failover_hosts or hosts) > 1
        self.failover = options.failover == "on" or (options.failover == "auto" and several)
        self.switchable = self.failover
        self.poll: Callable[[int], Any] = never
        self.peer: Peer | None = None
        self.reported = partial(_reported, self.connection)
        self.look_at(connection.pgconn)
        self.keep_reported()
        watch(self)

    def hand_out(self) -> None:
        """Do as any session does; what the server has reported up to now is the baseline."""
        super().hand_out()
        self.keep_reported()

    def look_at(self, pgconn: Any) -> None:
        """Watch another physical connection for an end that the server announces."""
        self.phase, self.peer, self.templates = IDLE, None, None
        self.moves += 1
        self.functions = FUNCTIONS.setdefault((pgconn.host, pgconn.port, pgconn.db), Functions())
        self.shared, self.process = self.options.pooler == "transaction", None
        self.standby = pgconn.parameter_status(b"in_hot_standby") == b"on"
        self.poll = poll_of(pgconn.socket) if self.failover else never

    def may_be_demoted(self) -> bool:
        """Return True if its server may have been demoted, and another one is known.

        One that was a standby before was demoted if the app came to it by chance, as after a failover.
        """
        by_chance = not self.chosen and len({*self.hosts, *self.options.failover_hosts}) > 1
        return not self.standby or by_chance

    def mark_pristine(self, read: Callable[[str], Any]) -> None:
        """Do as any session does, with what the server has reported."""
        self.notice()
        super().mark_pristine(read)
        self.keep_reported()

    def keep_reported(self) -> None:
        """What the server reports now is the baseline."""
        self.compared, self.reported_first = self.heard, self._reported_now()

    def _reported_now(self) -> tuple[bytes | None, ...]:
        watched = self.connection()
        try:
            return () if watched is None else tuple(map(watched.pgconn.parameter_status, _WATCHED))
        except psycopg.OperationalError:  # closed: nothing more is heard
            return self.reported_first

    def notice(self) -> bool:
        """Take what the server has reported outside a transaction; tell whether there is anything to reset."""
        if self.compared != self.heard and self.phase == IDLE and not self.off:
            self.compared = self.heard
            if (now := self._reported_now()) != self.reported_first:
                self._take_reported(now)
        return self.changed

    def _take_reported(self, now: tuple[bytes | None, ...]) -> None:
        watched = self.connection()
        encoding = encoding_of(watched) if watched is not None else "utf-8"
        for name, first, value in zip(questions.REPORTED, self.reported_first, now, strict=False):
            if first is not None and value is not None and first != value:
                self.on_server.noticed(name, first.decode(encoding), value.decode(encoding))
        self.refresh_changed()

    def wants_to_ask(self) -> bool:
        """Tell whether the server has to be asked something, and may be."""
        quiet = self.in_vain or self.off or self.shared or self.internal or self.returning or not self.recording
        return self.on_server.wants_asking and not quiet

    def refresh_changed(self) -> None:
        """Do as any session does; something was done, so that it may be asked again."""
        super().refresh_changed()
        self.in_vain, self.templates = False, None

    def ask_next(self, now: bool) -> None:
        """Have the next statement ask first, where there is something to ask."""
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
        if any(effects.sets for effects in self.noted):
            return ""  # what was sent is not answered yet
        if reported := connection.pgconn.parameter_status(b"search_path"):
            return str(reported.decode(encoding_of(connection)))
        if self.on_server.is_masked("search_path"):
            return ""  # a value of the transaction's, which nobody keeps
        value, pristine = self.on_server.shown.get("search_path", (None, None))
        return value or pristine or ""

    def resumed(self) -> AbstractContextManager[None]:
        """While inside, what happens belongs to the operation that lasts, if there is one."""
        return nullcontext() if self.operation is None else self.operation.resumed()

    @contextmanager
    def failing(self) -> Iterator[None]:
        """What is raised inside ends the operation that the choke point has to end."""
        try:
            yield
        except BaseException as error:
            self.finish(error)
            raise

    def finish(self, error: BaseException | None = None) -> None:
        """The operation that the choke point has to end is over."""
        if self.unfinished is not None:
            self.unfinished.end(error)
            self.operation = self.unfinished = None

    def owe(self, error: FailoverError | None) -> None:
        """Do as any session does, and have the next statement look."""
        super().owe(error)
        self.refresh()

    def given_up(self) -> None:
        """The app has left the transaction that was open when the connection was lost."""
        self.phase = IDLE
        self.noted.clear()
        self.on_server.end(commit=False)

    def became_foreign(self) -> None:
        """This is a forked child: the connection is the parent's."""
        self.mutex = threading.Lock()
        self.foreign = True
        self.refresh()

    def refresh(self) -> None:
        """Recompute the flags that the frequent path reads."""
        self.off = self.foreign
        self.switchable = self.failover and not (self.returning or self.foreign or self.closed_by_app)
        troubles = (self.lost, self.owed, self.pipeline_error, self.deadline, self.refusal.error)
        self.alert = self.off or self.muted or self.asks or any(trouble is not None for trouble in troubles)


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
    record: Record | None = vars(connection).get(KEY)
    return record
