"""The record of a connection, whatever its driver: its session, and what a switch needs to know about it.

Knows nothing of the order of steps. The flags that the frequent path reads are plain attributes, updated by
`TrackedConnection.refresh`.
"""

from __future__ import annotations

import functools
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final
from weakref import ReferenceType, ref

from instrumented_wrapper.databases import Database
from instrumented_wrapper.drivers.engine import probing
from instrumented_wrapper.drivers.engine.deadlines import identity_of
from instrumented_wrapper.drivers.engine.detection import detect_within, wait_for_reader
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.registry import never, poll_of
from instrumented_wrapper.errors import Address, FailoverError
from instrumented_wrapper.handlers import reset_handler
from instrumented_wrapper.operations import Site, SpanTemplates
from instrumented_wrapper.options import Options
from instrumented_wrapper.session import Session

logger = logging.getLogger("instrumented_wrapper")
_OUT_OF_STEP: Final = (
    "%s: a call was interrupted before its answer was read: the driver gives that answer to a later statement, and the "
    "wrapper sends nothing on this connection any more: close it"
)
_ENDING = frozenset({"on", "close"})  # what `reset_on_return` may be where no change may go on to the next user


class TrackedConnection(Session, ABC):
    """The session behind one connection, and what is known of its physical side.

    Attributes:
        driver_name: the option `drivers` names it so.
        connection: a weak reference to the app's object.
        arguments: how the app asked for it.
        hosts: where its server was looked for.
        mutex: held while flags and the physical connection are exchanged, which takes no time.
        off: nothing is looked at (a forked child, or a connection that is out of step).
        out_of_step: an answer was not read to its end: the driver takes the rest for answers to later statements.
        needs_slow_path: the frequent path must take the long way.
        end_unclear: more than plain statements may have to be looked at when the transaction ends. True from a
            statement that is not plain, or a change of what the frequent path reads, until that was looked at.
        failover: a loss leads to a switch, as long as the connection is the app's.
        switchable: a loss leads to a switch now.
        internal: a connection of ours, on its way to become the app's.
        foreign: it belongs to the parent process.
        recording: changes are the app's doing.
        returning: a pool takes it back, or it is being closed: a loss is then not ours to handle.
        returned: a pool has reset it, and is about to take it back: a close meanwhile resets nothing.
        loss_reported: a loss that is not repaired was observed.
        resync_next: the server has to be asked before the next statement.
        called: functions of which the server has to be asked what they may do.
        functions: what is known of the server's functions; None where nobody asks.
        was_standby: the server was not a primary when the connection was made; None: nobody asked.
        chosen: the app has moved to this server whatever it is.
        last_response_at: when the server last answered (monotonic seconds).
        poll: looks whether the server has sent something unasked.
        user_timeout: of the socket, in milliseconds, where it is ours; 0: there is none.
        streams: how many operations are under way in which the app sends without waiting for answers.
        socket: of the physical connection, where it is shut if its server does not answer probes.
        place: where the physical connection leads, where its server is probed.
        deadline: until when what is ours to be sent may take (monotonic seconds); None: as long as the app's own.
        generation: how often it has got a physical connection.
        transaction_status: that of the connection when the server was last heard, before the call that is under way.
        can: what the database can, as named facts.
        obstacles: what metrics call the state that a switch cannot carry.
        system: the database, as OpenTelemetry names it.
        process: that of the server session, where a pooler keeps it for this connection; None: the one it was told of.
        successor: the socket of the connection that is about to take its place; whoever closes it ends that one, too.
        last_error: what the app was told of the last switch.
        resolves_commits: before a COMMIT is sent, what is needed to find out its outcome is read.
        commit_server: what was read of the present server for that; None: nothing yet.
        operations_wanted: telemetry wants the app's operations.
        alive_by_default: the driver turns the keepalive of its sockets on, unless the app has it do otherwise.
        spans_wanted: they have spans; False where another instrumentation makes these.
        templates: spans of operations on the present server; None: where these go has to be found out.
        settings_client: talks with the server about settings.
    """

    alive_by_default = False
    settings_client: Any

    def __init__(
        self,
        driver_name: str,
        connection: Any,
        options: Options,
        database: Database,
        arguments: Any,
        hosts: tuple[Address, ...] = (),
    ) -> None:
        super().__init__(options, database)
        self.driver_name, self.arguments = driver_name, arguments
        self.connection: ReferenceType[Any] = ref(connection)
        self.hosts, self.failover = hosts, False
        self.mutex: AbstractContextManager[Any] = threading.RLock()
        self.off = self.needs_slow_path = self.internal = self.foreign = self.switchable = False
        self.out_of_step = False
        self.end_unclear = True
        self.recording, self.returning, self.returned = True, False, False
        self.loss_reported = self.resync_next = self.chosen = False
        self.called: set[str] = set()
        self.functions: Any = None
        self.was_standby: bool | None = None
        self.last_response_at = 0.0
        self.poll: Callable[[int], Any] = never
        self.user_timeout = self.streams = 0
        self.socket: tuple[int, int] | None = None
        self.place: Address = ("", None)
        self.deadline: float | None = None
        self.generation, self.transaction_status = 0, TransactionStatus.IDLE
        self.can, self.obstacles, self.system = database.CAPABILITIES, database.OBSTACLES, database.SYSTEM
        self.process: int | None = None
        self.successor: tuple[int, int] | None = None
        self.last_error: FailoverError | None = None
        self.resolves_commits, self.commit_server = False, None
        self.operations_wanted, self.spans_wanted = False, True
        self.templates: SpanTemplates | None = None

    @abstractmethod
    def site(self) -> Site:
        """Return where operations go now."""

    @abstractmethod
    def seems_open(self) -> bool:
        """Return True if a transaction is open, as far as any thread can tell without the driver."""

    @abstractmethod
    def take_reported(self) -> None:
        """Update the settings from what the server has reported by itself."""

    @abstractmethod
    def keep_reported(self) -> None:
        """Take what the server has reported up to now as the baseline."""

    def search_path(self, reported: str | None) -> str:
        """Return PostgreSQL's search path as the server reports it, or as it was set or fetched; empty if unknown."""
        if any(effects.sets for effects in self.in_flight):
            return ""  # what was sent is not answered yet
        if reported:
            return reported
        if self.on_server.is_masked("search_path"):
            return ""  # a value of the transaction's, which nobody keeps
        value, pristine = self.on_server.of("search_path")
        return value or pristine or ""

    def wants_reset(self) -> bool:
        """Return True if a close or a return to a pool has something to reset. Sends nothing."""
        if not self.options.reset_session_state_on_close or self.foreign or self.internal:
            return False
        if self.out_of_step:
            return True
        self.take_reported()
        return self.changed or reset_handler(self.logical) is not None

    def is_clean(self) -> bool:
        """Return True if no statement was sent that may have changed the session: a return has nothing to do.

        At next to no cost, for what happens at the end of each request. It does not compare what servers of PostgreSQL
        report by themselves, which only a trigger, a view or a policy may have set: where a return resets or closes, it
        is not clean, and `wants_reset` or `may_leak` looks; where it only reports, the next question finds that.
        """
        if (
            self.options.reset_on_return in _ENDING
            or self.changed
            or self.needs_resync
            or self.resync_next
            or self.lost is not None
            or self.refusal.error is not None
        ):
            return False
        return reset_handler(self.logical) is None

    def may_leak(self) -> bool:
        """Return True if a return that does not reset may have something to report or to close. Sends nothing."""
        if self.off or self.internal:
            return False
        self.take_reported()
        return self.changed and self.unreported.may_be_more(self.on_server.doubts, self.to_clear())

    def would_switch(self, hosts: tuple[Address, ...]) -> bool:
        """Return True if a loss leads to a switch, where the server is looked for on `hosts`."""
        several = len(self.options.failover_hosts or hosts) > 1
        return self.options.failover == "on" or (self.options.failover == "auto" and several)

    def may_be_demoted(self) -> bool:
        """Return True if the server may have been demoted, and the app says where another one is.

        A server that was a standby before was demoted if the app reached it by chance, as after a failover. A single
        address in ``failover_hosts`` may be a proxy, or a name that moves: it leads to another server later.
        """
        by_chance = not self.chosen and (bool(self.options.failover_hosts) or len({*self.hosts}) > 1)
        return not self.was_standby or by_chance

    def moved_to(self, descriptor: int | None) -> None:
        """Watch another physical connection for an end that the server announces."""
        self.generation += 1
        self.templates, self.process = None, None
        self.shared = self.options.pooler == "transaction"
        self.poll, self.user_timeout, self.streams, self.socket = never, 0, 0, None
        self.commit_server, self.out_of_step = None, False
        self.resolves_commits = (
            self.options.resolve_commits and self.failover and self.can.keeps_outcomes and not self.internal
        )
        if self.failover and descriptor is not None:
            self.poll = poll_of(descriptor)
            seconds, by_default = self.options.detection_timeout, self.alive_by_default
            self.user_timeout = detect_within(descriptor, seconds, alive_by_default=by_default)
            if self.options.probe_after and not self.internal:
                self._have_probed(descriptor)

    def _have_probed(self, descriptor: int) -> None:
        if (found := identity_of(descriptor)) is not None:
            self.socket, self.place = found, self.server()
            probing.watch(self)

    @abstractmethod
    def server(self) -> Address:
        """Return where the physical connection leads."""

    @abstractmethod
    def is_waiting(self, connection: object) -> bool:
        """Return True if a call of the app is under way, or rows are still to be read. For another thread."""

    @contextmanager
    def streaming(self, descriptor: int | None) -> Iterator[None]:
        """While inside, the server may leave unread what it is sent for as long as it wants."""
        self.begin_streaming(descriptor)
        try:
            yield
        finally:
            self.end_streaming(descriptor)

    def begin_streaming(self, descriptor: int | None) -> None:
        """The app begins to send without waiting for answers; such times may be within each other."""
        self.streams += 1
        if self.streams == 1:
            self._limit(descriptor, 0)

    def end_streaming(self, descriptor: int | None) -> None:
        """It has ended."""
        self.streams = max(0, self.streams - 1)  # a switch meanwhile has begun to count anew
        if self.streams == 0:
            self._limit(descriptor, self.user_timeout)

    def _limit(self, descriptor: int | None, milliseconds: int) -> None:
        if self.user_timeout and descriptor is not None:
            wait_for_reader(descriptor, milliseconds)

    def hand_out(self) -> None:
        """Do as any session does; what the server has reported up to now is the baseline."""
        super().hand_out()
        self.keep_reported()

    def mark_pristine(self, read: Callable[[str], Any]) -> None:
        """Do as any session does, with what the server has reported."""
        self.take_reported()
        super().mark_pristine(read)
        self.keep_reported()

    def refresh_changed(self) -> None:
        """Do as any session does; the namespace may be another one now."""
        super().refresh_changed()
        self.templates, self.end_unclear = None, True

    def lose_step(self) -> None:
        """Leave the connection to the driver, which reads wrong answers from now on. Warn once of each driver."""
        self.out_of_step = True
        self.refresh()
        _warn_out_of_step(self.driver_name)

    def set_pending_error(self, error: FailoverError | None) -> None:
        """Do as any session does, and have the next statement look."""
        super().set_pending_error(error)
        self.refresh()

    def became_foreign(self) -> None:
        """This is a forked child: the connection is the parent's."""
        self.mutex, self.foreign, self.successor = threading.RLock(), True, None
        self.refresh()

    @contextmanager
    def on_its_way_back(self, deadline: float | None) -> Iterator[None]:
        """While inside, a loss starts no switch, and what is ours to be sent ends at `deadline`, if there is one."""
        before = self.returning, self.deadline
        self.returning, self.deadline = True, self.deadline if deadline is None else deadline
        self.refresh()
        try:
            yield
        finally:
            self.returning, self.deadline = before
            self.refresh()

    @contextmanager
    def unobserved(self, deadline: float) -> Iterator[None]:
        """While inside, changes are not recorded either."""
        with self.on_its_way_back(deadline):
            before, self.recording = self.recording, False
            try:
                yield
            finally:
                self.recording = before

    def may_switch(self, *, returning: bool) -> None:
        """Have a loss start no switch while a pool takes the connection back. Cheap."""
        self.returning = returning
        wanted = not (returning or self.foreign or self.closed_by_app or self.internal or self.out_of_step)
        self.switchable = self.failover and wanted

    def refresh(self) -> None:
        """Compute anew the flags that the frequent path reads."""
        self.off, self.end_unclear = self.foreign or self.out_of_step, True
        self.may_switch(returning=self.returning)
        self.needs_slow_path = self.off or self.resync_next or any(trouble is not None for trouble in self.troubles())

    def troubles(self) -> tuple[object, ...]:
        """Return what makes the frequent path take the long way, where it is not None."""
        return (self.lost, self.pending_error, self.failed, self.refusal.error)


@functools.cache
def _warn_out_of_step(driver_name: str) -> None:
    logger.warning(_OUT_OF_STEP, driver_name)
