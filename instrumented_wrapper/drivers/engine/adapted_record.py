"""The record of each connection of a driver with an adapter: its session, and what a switch needs to know about it.

Knows nothing of the order of steps. The flags that the frequent path reads are plain attributes, updated by
`TrackedConnection.refresh`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from weakref import ProxyType, ref

from instrumented_wrapper.drivers.engine.adapter import DriverAdapter
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.registry import KEY, keep_record, never, poll_of, tracked_as, watch
from instrumented_wrapper.drivers.server_session import SettingsClient
from instrumented_wrapper.errors import Address
from instrumented_wrapper.events import ServerAddress
from instrumented_wrapper.operations import Site
from instrumented_wrapper.options import Options


class Arguments(NamedTuple):
    """The app's connect arguments, which are used again for a new connection."""

    positional: tuple[Any, ...]
    keywords: Mapping[str, Any]

    def __repr__(self) -> str:
        return "<Arguments of connect>"  # the password is among them


class Record(TrackedConnection):
    """The session behind one connection of a driver that blocks.

    Attributes:
        adapter: what the driver's own file says of the driver.
        use_lock: held by the thread that uses the physical connection, or looks for another one.
        active_caller: True while a call of the app is under way, and what the driver calls within it is part of it;
            the thread's number while something of ours is.
        chains: ``commit()`` and ``rollback()`` begin the next transaction.
        used: something was sent since the last transaction ended.
        begun: the app has opened a transaction by SQL.
        is_prepared: what is open is prepared: it outlives the session.
        reports_deferred: what the server has reported is to be noticed when the transaction has ended.
        live: a reference to the driver's own object with the present physical connection, where that is not the app's.
        abandoned: it is shut for good, and the app has not closed it yet.
        seen: the server of the physical connection; None: it was not looked at yet.
        driver_state: what the driver's own file keeps.
    """

    settings_client: SettingsClient

    def __init__(self, adapter: DriverAdapter, connection: Any, options: Options, arguments: Arguments) -> None:
        super().__init__(adapter.name, connection, options, adapter.room, arguments)
        self.adapter, self.aliases = adapter, adapter.aliases
        self.alive_by_default = adapter.alive_by_default
        self.use_lock: Any = threading.RLock()
        self.active_caller: object = False
        self.abandoned = self.used = self.begun = self.is_prepared = self.reports_deferred = False
        self.chains = False
        self.seen: ServerAddress | None = None
        self.live: ref[Any] | None = None
        self.driver_state: dict[str, Any] = {}
        self.settings_client = adapter.settings_client(connection, self)

    def is_within(self) -> bool:
        """Return True if a call now is part of the call in progress, in this thread."""
        return self.active_caller is True or self.active_caller == threading.get_ident()

    def caller(self) -> object:
        """Return what `active_caller` is while something of ours is under way: the thread's number."""
        return threading.get_ident()

    def app_caller(self) -> object:
        """Return what `active_caller` is while a call of the app is under way."""
        return self.adapter.reentrant

    def needs_look_at_end(self, clears: bool) -> bool:
        """Find out whether the end of the transaction concerns more than plain statements.

        Where it does not, this need not be called again until `end_unclear` is True.

        Args:
            clears: the end clears session state that is no setting.
        """
        if self.needs_slow_path or self.in_flight or self.chains or self.asked_read_only or self.on_server.open.levels:
            return True
        if self.resolves_commits:
            return True
        if self.residual.kinds:
            return clears
        self.end_unclear = False
        return False

    def keeps_changes(self) -> bool:
        """Return True if a change now is the app's."""
        ours = self.off or self.configuring or (self.active_caller and self.is_within())
        return self.recording and not ours

    def refresh_changed(self) -> None:
        """Do as any session does; the app may have set what an end of a transaction does besides."""
        super().refresh_changed()
        self.chains = self.settings_client.chains()

    def belongs_to(self, connection: object) -> None:
        """It is the record of this object."""
        self.connection = ref(connection)

    def attach(self, connection: object, hosts: tuple[Address, ...]) -> None:
        """Watch `connection` from now on."""
        self.begin(connection, hosts)
        self.was_standby = self._asked_role(connection) if self.failover else None
        self.watch(connection)

    def begin(self, connection: object, hosts: tuple[Address, ...]) -> None:
        """Start tracking `connection`, on a server that was searched for on `hosts`."""
        self.hosts, self.failover = hosts, self.would_switch(hosts)
        self.system = self.adapter.system(connection)
        self.track_physical(connection)

    def watch(self, connection: object) -> None:
        """Attach this record to `connection`, and register it for the case that this process is forked."""
        keep_record(connection, self)
        watch(self)

    def _asked_role(self, connection: object) -> bool | None:
        try:
            return self.adapter.is_standby(connection)  # type: ignore[no-any-return]
        except self.adapter.raises:  # it does not say, or is lost already: connecting went well, for all the app knows
            return None

    def session_restarted(self, connection: object) -> None:
        """The app has had the driver connect again: the session is a new one, at what connecting gives it."""
        self.forget()
        self.residual.forget()
        self.in_flight.clear()
        self.lost = self.pending_error = None
        self.accept()
        self.closed_by_app = False
        self.track_physical(connection)
        self.refresh_changed()

    def keep_reported(self) -> None:
        """Take what the server has reported up to now as the baseline."""
        self.settings_client.keep_reported()

    def take_reported(self) -> None:
        """Update the settings from what the server has reported by itself."""
        self.settings_client.apply_reports()

    def track_physical(self, connection: object) -> None:
        """Watch another physical connection for an end that the server announces."""
        self.seen, self.transaction_status = None, TransactionStatus.IDLE
        self.moved_to(self.adapter.socket(connection) if self.failover else None)
        self.used = self.begun = self.resync_next = self.loss_reported = self.is_prepared = False
        self.settings_client.moved()
        self.refresh()

    def server(self) -> Address:
        """Return where the physical connection leads."""
        watched = self.connection()
        at = ServerAddress("", "", "", None) if watched is None else self.adapter.peer(watched, self)
        return at.address, at.port

    def is_waiting(self, connection: object) -> bool:
        """Return True if a call is under way: its thread has the lock."""
        if not self.use_lock.acquire(blocking=False):
            return True
        try:
            return self.adapter.is_streaming(connection)
        finally:
            self.use_lock.release()

    def seems_open(self) -> bool:
        """Return True if a transaction is open, as far as the driver's own file knows."""
        connection = self.connection()
        return connection is not None and self.adapter.seems_open(connection, self)

    def poll_for(self, connection: object) -> Callable[[int], Any]:
        """Return a function that looks whether the server has sent something unasked."""
        descriptor = self.adapter.socket(connection)
        return never if descriptor is None else poll_of(descriptor)

    def site(self) -> Site:
        """Return where operations go now."""
        watched = self.connection()
        return Site("", "", "", None) if watched is None else self.adapter.site(watched, self)

    def peer(self) -> ServerAddress:
        """Return the server of the physical connection, also after its loss."""
        watched = self.connection()
        if self.seen is None and watched is not None:
            self.seen = self.adapter.peer(watched, self)
        return self.seen or ServerAddress("", "", "", None)

    def became_foreign(self) -> None:
        """This is a forked child: the connection is the parent's."""
        self.use_lock = threading.RLock()
        super().became_foreign()


def record_of(connection: object) -> Record | None:
    """Return the record of a connection that is watched, also of a weak proxy of one: cursors hold such."""
    record: Any = connection.__dict__.get(KEY) if isinstance(connection, ProxyType) else tracked_as(connection)
    return record if isinstance(record, Record) else None
