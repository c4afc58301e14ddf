"""Replace a lost physical connection by a new one: the record's part, and the moment of the change.

These decisions hold for all drivers. How a driver exchanges the two is in its room.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from instrumented_wrapper.drivers import Replacement
from instrumented_wrapper.drivers.engine.deadlines import identity_of
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.drivers.engine.search import is_chosen
from instrumented_wrapper.failover import ClosedMeanwhile, Found
from instrumented_wrapper.options import Options


def options_of_candidate(record: TrackedConnection) -> Options:
    """Return the options of a new connection that is about to take over: a loss of it starts no other search."""
    return replace(record.options, failover="off")


def make_internal(internal: TrackedConnection, record: TrackedConnection) -> None:
    """Have a new connection be the wrapper's own, until it takes over from the one of `record`."""
    internal.internal, internal.recording = True, False
    internal.operations_wanted = record.operations_wanted  # of what the app's transfer handler does
    internal.spans_wanted = record.spans_wanted
    internal.refresh()


def candidate(
    connection: object,
    internal: TrackedConnection,
    record: TrackedConnection,
    found: Found,
    descriptor: int | None,
    deadline: float,
) -> Replacement:
    """Return a new connection that is about to take over.

    Args:
        connection: the new one, in an object of the driver's own class.
        internal: its record.
        record: of the app's connection; whoever closes that one shuts the socket of the new one.
        found: the server, and the attempts to find it.
        descriptor: the socket of the new one, where the driver exposes it.
        deadline: until when it may be configured (monotonic seconds).
    """
    internal.deadline, internal.chosen = deadline, is_chosen(found.role, record.chosen)
    internal.refresh()
    record.successor = identity_of(descriptor)
    return Replacement(connection, found.address, found.attempts, found.tried, found.led_by)


@contextmanager
def taking_over(record: TrackedConnection) -> Iterator[None]:
    """While inside, the app cannot close the connection of `record`.

    Raises:
        ClosedMeanwhile: it has done so.
    """
    with record.mutex:
        if record.closed_by_app:
            raise ClosedMeanwhile
        record.successor = None
        yield


@contextmanager
def exchanging(record: TrackedConnection, other: TrackedConnection) -> Iterator[None]:
    """While inside, each record begins to watch the physical connection of the other; it has its facts afterwards."""
    ours, theirs = (record.shared, record.process), (other.shared, other.process)
    record.was_standby, record.chosen = other.was_standby, other.chosen
    yield
    (record.shared, record.process), (other.shared, other.process) = theirs, ours
