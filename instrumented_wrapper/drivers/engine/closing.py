"""Close a connection: it stays closed from then on; a reset comes first, if there is something to reset.

These decisions hold for all drivers. The patched ``close`` itself is in a driver's room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from instrumented_wrapper import handlers
from instrumented_wrapper.drivers import Driver, Flow, Flows
from instrumented_wrapper.drivers.engine.deadlines import shut_if_same
from instrumented_wrapper.drivers.engine.record import TrackedConnection


def last_reset(
    driver: Driver,
    flows: Flows,
    connection: object,
    record: TrackedConnection,
    within: bool = False,
    in_use: bool = False,
) -> Flow[bool] | None:
    """Record that the app closes its connection. Returns the reset that comes first, None where there is none.

    Args:
        driver: of the connection.
        flows: the reset is one of them.
        connection: the app's object.
        record: of that connection.
        within: a handler of the app calls ``close`` in a switch of this connection.
        in_use: a reset would have to wait for whoever uses the connection.
    """
    _mark_closed(record, within)
    if within or in_use or record.returned or not driver.wants_reset(connection):
        return None
    if not _may_reset(driver, connection, record):
        return None
    if record.logical is not None:
        record.logical.keep(record)
    return flows.reset(driver, connection, record, "close")


def _mark_closed(record: TrackedConnection, within: bool) -> None:
    """Have it stay closed, and end a switch in another thread, which may wait for its new server for long."""
    with closing_for_good(record):
        successor = None if within else record.successor
    if successor is not None:
        shut_if_same(*successor)


@contextmanager
def closing_for_good(record: TrackedConnection) -> Iterator[None]:
    """While inside, no new physical connection takes over; nor afterwards."""
    with record.mutex:
        record.closed_by_app = True
        record.refresh()
        yield


def _may_reset(driver: Driver, connection: object, record: TrackedConnection) -> bool:
    """Return True if a reset may run: outside a transaction, or in one by the app's own handler."""
    if driver.is_idle(connection) or record.out_of_step:
        return not record.out_of_step
    handled = handlers.reset_handler(record.logical) is not None and not driver.is_lost(connection)
    return handled and driver.is_in_transaction(connection)


@contextmanager
def closed_if_interrupted(close: Callable[[], object]) -> Iterator[None]:
    """While inside, whatever interrupts the app (Ctrl-C, a task that is cancelled) closes its connection and passes."""
    try:
        yield
    except BaseException:
        close()
        raise
