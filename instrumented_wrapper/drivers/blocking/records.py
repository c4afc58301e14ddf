"""What we keep for each connection of a driver that blocks: its session, and what a switch has to know of it.

Knows nothing of the order of steps. The flags that the frequent path reads are plain attributes, kept up to date by
`Record.refresh`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from weakref import ref

from instrumented_wrapper.drivers.blocking.native import Native, Phase
from instrumented_wrapper.drivers.watching import KEY, never, poll_of, watch
from instrumented_wrapper.errors import Address, FailoverError
from instrumented_wrapper.events import Peer
from instrumented_wrapper.operations import Site, SpanTemplates
from instrumented_wrapper.options import Options
from instrumented_wrapper.session import Session

__all__ = ["Arguments", "Record", "record_of"]


class Arguments(NamedTuple):
    """How the app asked for the connection; used again for a new one."""

    positional: tuple[Any, ...]
    keywords: Mapping[str, Any]

    def __repr__(self) -> str:
        return "<Arguments of connect>"  # the password is among them


class Record(Session):
    """The session behind one connection, and what is known of its physical side.

    Attributes:
        arguments: how the app asked for it.
        hosts: where its server was looked for.
        mutex: held while flags and the physical connection are exchanged, which takes no time.
        turn: held by the thread that uses the physical connection, or looks for another one.
        off: nothing is looked at (a forked child).
        busy: a call of the app is under way, and what the driver calls within it is part of it; or, as the thread's
            number, something of ours is.
        alert: the frequent path must take the long way.
        switchable: a loss leads to a switch.
        failover: it would, were the connection not on its way out.
        phase: where the connection was before the call that is under way.
        heard: when the server last answered (monotonic seconds).
        used: something was sent since the last transaction ended.
        begun: the app has opened a transaction by SQL.
        outlived: what is open is prepared: it outlives the session.
        asks: the server has to be asked before the next statement.
        late: what the server has reported is to be noticed when the transaction has ended.
        was_standby: the server was not a primary when the connection was made; None: nobody asked.
        chosen: the app has moved to this server whatever it is.
        recording: changes are the app's doing.
        returning: a pool takes it back, or it is being closed: a loss is then not ours to handle.
        internal: a connection of ours, on its way to become the app's.
        foreign: it belongs to the parent process.
        returned: it was reset on its way into a pool just now.
        process: that of the server session, where a pooler keeps it for this connection; None: the one it was told of.
        successor: the socket of the connection that is about to take its place; whoever closes it ends that one, too.
        live: a reference to the driver's own object with the present physical connection, where that is not the app's.
        abandoned: it is shut for good, and the app has not closed it yet.
        moves: how often it has got a physical connection.
        deadline: until when what is ours to be sent may take (monotonic seconds); None: as long as the app's own.
        operations_wanted: telemetry records the operations of the app.
        spans_wanted: they have spans; False where another instrumentation makes these.
        templates: spans of operations on the present server; None: where these go has to be found out.
    """

    def __init__(self, native: Native, connection: Any, options: Options, arguments: Arguments) -> None:
        super().__init__(options, native.room)
        self.native, self.driver_name, self.connection = native, native.name, ref(connection)
        self.arguments = arguments
        self.aliases = native.aliases
        self.hosts: tuple[Address, ...] = ()
        self.mutex, self.turn = threading.RLock(), threading.RLock()
        self.off = self.alert = self.foreign = self.internal = False
        self.busy: bool | int = False
        self.recording, self.returning, self.returned = True, False, False
        self.closed_by_app = self.abandoned = self.loss_told = False
        self.used = self.begun = self.asks = self.outlived = self.late = False
        self.failover = self.switchable = False
        self.was_standby: bool | None = None
        self.chosen = False
        self.deadline: float | None = None
        self.phase: Phase = Phase.IDLE
        self.heard = 0.0
        self.poll: Callable[[int], Any] = never
        self.seen: Peer | None = None
        self.live: ref[Any] | None = None
        self.successor: tuple[int, int] | None = None
        self.process: int | None = None
        self.moves = 0
        self.operations_wanted, self.spans_wanted = False, True
        self.lent = 0.0
        self.templates: SpanTemplates | None = None
        self.last_error: FailoverError | None = None
        self.functions: Any = None  # PostgreSQL's, see ``talking/postgresql.py``
        self.called: set[str] = set()
        self.kept: dict[str, Any] = {}  # what the driver's own file keeps
        self.talk = native.talk(connection, self)

    def is_within(self) -> bool:
        """Tell whether a call now is part of the one that is under way, in this thread."""
        return self.busy is True or self.busy == threading.get_ident()

    def keeps_changes(self) -> bool:
        """Tell whether a change now is one of the app's."""
        ours = self.off or self.configuring or (self.busy and self.is_within())
        return self.recording and not ours

    def would_switch(self, hosts: tuple[Address, ...]) -> bool:
        """Tell whether a loss leads to a switch, where the server is looked for on `hosts`."""
        several = len(self.options.failover_hosts or hosts) > 1
        return self.options.failover == "on" or (self.options.failover == "auto" and several)

    def may_be_demoted(self) -> bool:
        """Return True if its server may have been demoted, and another one is known.

        One that was a standby before was demoted if the app came to it by chance, as after a failover.
        """
        by_chance = not self.chosen and len({*self.hosts, *self.options.failover_hosts}) > 1
        return not self.was_standby or by_chance

    def belongs_to(self, connection: Any) -> None:
        """It is the record of this object."""
        self.connection = ref(connection)

    def attach(self, connection: Any, hosts: tuple[Address, ...]) -> None:
        """Watch `connection` from now on."""
        self.hosts, self.failover = hosts, self.would_switch(hosts)
        self.look_at(connection)
        self.was_standby = self._asked_role(connection) if self.failover else None
        connection.__dict__[KEY] = self
        watch(self)

    def _asked_role(self, connection: Any) -> bool | None:
        try:
            return self.native.is_standby(connection)
        except self.native.raises:  # it does not say, or is lost already: connecting went well, for all the app knows
            return None

    def began_anew(self, connection: Any) -> None:
        """The app has had the driver connect again: the session is a new one, at what connecting gives it."""
        self.forget()
        self.forget_left()
        self.noted.clear()
        self.lost = self.owed = None
        self.accept()
        self.closed_by_app = False
        self.look_at(connection)
        self.refresh_changed()

    def hand_out(self) -> None:
        """Do as any session does; what the server has reported up to now is the baseline."""
        super().hand_out()
        self.talk.keep_reported()

    def look_at(self, connection: Any) -> None:
        """Watch another physical connection for an end that the server announces."""
        self.seen, self.templates, self.phase = None, None, Phase.IDLE
        self.used = self.begun = self.asks = self.loss_told = self.outlived = False
        self.moves += 1
        self.shared, self.process = self.options.pooler == "transaction", None
        self.poll = self.poll_for(connection) if self.failover else never
        self.talk.moved()
        self.refresh()

    def poll_for(self, connection: Any) -> Callable[[int], Any]:
        """Return a function that looks whether the server has sent something unasked."""
        descriptor = self.native.socket(connection)
        return never if descriptor is None else poll_of(descriptor)

    def mark_pristine(self, read: Callable[[str], Any]) -> None:
        """Do as any session does, with what the server has reported."""
        self.talk.notice()
        super().mark_pristine(read)
        self.talk.keep_reported()

    def refresh_changed(self) -> None:
        """Do as any session does; the namespace may be another one now."""
        super().refresh_changed()
        self.templates = None

    def site(self) -> Site:
        """Return where operations go now."""
        watched = self.connection()
        return Site("", "", "", None) if watched is None else self.native.site(watched, self)

    def peer(self) -> Peer:
        """Return the server of the physical connection; also known after it was lost."""
        watched = self.connection()
        if self.seen is None and watched is not None:
            self.seen = self.native.peer(watched, self)
        return self.seen or Peer("", "", "", None)

    def owe(self, error: FailoverError | None) -> None:
        """Do as any session does, and have the next statement look."""
        super().owe(error)
        self.refresh()

    def became_foreign(self) -> None:
        """This is a forked child: the connection is the parent's."""
        self.mutex, self.turn = threading.RLock(), threading.RLock()
        self.foreign = True
        self.refresh()

    def refresh(self) -> None:
        """Recompute the flags that the frequent path reads."""
        self.off = self.foreign
        self.switchable = self.failover and not (self.returning or self.foreign or self.closed_by_app or self.internal)
        troubles = (self.lost, self.owed, self.failed, self.refusal.error)
        self.alert = self.off or self.asks or any(trouble is not None for trouble in troubles)


def record_of(connection: Any) -> Record | None:
    """Return the record of a connection that is watched."""
    record: Record | None = getattr(connection, "__dict__", {}).get(KEY)
    return record
