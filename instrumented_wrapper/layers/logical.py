"""The app's connection in a package over a driver, which replaces the driver's connections beneath it.

Connections that the package opens are quiet until it makes them current: neither failover, reset, spans nor records.
Its monitors' connections and the candidates of a failover stay so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import Any, Final
from weakref import ref

from instrumented_wrapper.drivers import Driver, Flow, Flows
from instrumented_wrapper.drivers.engine.closing import closed_if_interrupted, last_reset
from instrumented_wrapper.drivers.engine.query_spans import attend
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.drivers.registry import opened_by_package, tracked
from instrumented_wrapper.failover import Loss
from instrumented_wrapper.handlers import Handler
from instrumented_wrapper.options import Options, imposing
from instrumented_wrapper.owners import unwrapped
from instrumented_wrapper.session import Session

_QUIET: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "failover": "off",
        "reset_session_state_on_close": False,
        "traces": False,
        "metrics": False,
        "query_spans": "off",
        "connect_spans": False,
    }
)


@contextmanager
def opening() -> Iterator[None]:
    """Mark the connections that the package opens inside this context."""
    with imposing(_QUIET), opened_by_package():
        yield


@contextmanager
def asking(connection: object) -> Iterator[None]:
    """Mark the statements that the package itself sends inside this context."""
    found = None if connection is None else tracked(unwrapped(connection))
    if found is None:
        yield
        return
    record = found[1]
    before = record.recording, record.operations_wanted
    record.recording = record.operations_wanted = False
    try:
        yield
    finally:
        record.recording, record.operations_wanted = before


class LogicalConnection:
    """`handlers.Logical`, for one connection of the app.

    Attributes:
        arriving: True while the package replaces the connection and the session is carried over already.
        repairs_losses: True if the package replaces a lost connection.
    """

    def __init__(
        self,
        options: Options,
        flows: Flows,
        reset_handler: Callable[[], Handler | None],
        transfer_handler: Callable[[], Handler | None],
        repairs_losses: bool = False,
    ) -> None:
        """Create it before its first connection is known.

        Args:
            options: of the app's connection.
            flows: the lifecycle's.
            reset_handler: returns the package's own reset function.
            transfer_handler: returns the package's own transfer function.
            repairs_losses: True if the package replaces a lost connection.
        """
        self._options, self._flows = replace(options, failover="off"), flows
        self.reset_handler, self.transfer_handler = reset_handler, transfer_handler
        self.arriving, self.repairs_losses = False, repairs_losses
        self._current: Callable[[], Session | None] = lambda: None  # of the connection that the app uses
        self._kept: Session | None = None
        self._lost: Any = None

    def is_current(self, session: Session) -> bool:
        """Return True if the app uses the connection of a session now."""
        return session is self._current()

    def keep(self, session: Session) -> None:
        """Save the state of a session before its reset: its connection may be replaced after that."""
        if self.is_current(session):
            self._kept = session.twin()

    def lose(self, driver: Driver, connection: object, session: Session, loss: Loss) -> None:
        """Save a loss until the package has replaced the connection, or gives up."""
        if self.is_current(session):
            self._lost = self._flows.lost_session(session, loss)

    def give_up(self, connection: object) -> None:
        """Report a loss that the package did not repair: the app gets an error."""
        if self._lost is None or (found := tracked(unwrapped(connection))) is None:
            return
        lost, self._lost = self._lost, None
        driver, record = found
        self._flows.observe_unrepaired(driver, unwrapped(connection), record, lost)

    def arrive(self, old: object, new: object) -> Flow[None]:
        """Make a connection the app's, and carry over the session of the old one; None if it is the first one."""
        self.arriving = False
        found = tracked(unwrapped(new))
        if found is None or old is new:
            return
        driver, record = found
        is_new = record.logical is None
        self._dress(driver, record)
        if old is not None:
            try:
                self.arriving = yield from self._carry(unwrapped(old), driver, unwrapped(new), record, is_new)
            except BaseException:
                self._refuse(driver, unwrapped(new), record, is_new)
                raise
        driver.peer(unwrapped(new))  # which is known after a loss, too
        self._current, self._lost, self._kept = ref(record), None, None
        record.recording = True
        record.refresh()

    def _refuse(self, driver: Driver, connection: Any, record: TrackedConnection, is_new: bool) -> None:
        """Refuse a connection that is half configured. A new one is closed here, because not every plugin does so."""
        self._lost = self._kept = None
        record.options = replace(record.options, reset_session_state_on_close=False)
        if is_new:
            record.logical = None
            driver.end(connection)

    def reset_before_close(self, connection: Any) -> Flow[None]:
        """Reset the session here, because the driver's own ``close`` cannot wait."""
        connection = unwrapped(connection)
        if iscoroutinefunction(type(connection).close) or (found := tracked(connection)) is None:
            return
        driver, record = found
        if (reset := last_reset(driver, self._flows, connection, record)) is not None:
            with closed_if_interrupted(partial(driver.end, connection)):
                yield from reset

    def _dress(self, driver: Driver, record: TrackedConnection) -> None:
        record.logical, record.options = self, self._options
        attend(record, record.options, driver.name, self._flows.operations)

    def _carry(self, old: Any, driver: Driver, new: Any, record: TrackedConnection, is_new: bool) -> Flow[bool]:
        found = tracked(old)
        if found is None or found[0] is not driver:
            return False
        before, lost, kept = found[1], self._lost, self._kept
        if lost is None and kept is None:
            yield from self._flows.ask_before(driver, old, before)
        source = before if kept is None else kept
        record.recording = False
        yield from self._flows.carry_over(driver, old, source, new, record, lost, int(is_new))
        return True
