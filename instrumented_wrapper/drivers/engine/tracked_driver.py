"""What the record of a connection answers to the lifecycle, whatever the driver: a part of `Driver`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from instrumented_wrapper.drivers import Flow
from instrumented_wrapper.drivers.engine import race_tasks, race_threads
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.drivers.engine.search import pause
from instrumented_wrapper.drivers.registry import KEY, tracked_as


class TrackedDriver(ABC):
    """`Driver`, as far as it is the same for all drivers."""

    @abstractmethod
    def is_async(self, connection: object) -> bool:
        """Return True if calls on it are awaited."""

    @abstractmethod
    def is_closed(self, connection: object) -> bool:
        """Return True if the app has closed it, or it has ended."""

    def _bounded(self, connection: object, deadline: float) -> AbstractContextManager[None]:
        """While inside, calls on the connection fail from `deadline` (monotonic seconds) on."""
        return nullcontext()

    def is_shared(self, connection: object) -> bool:
        """Return True if a pooler is known that lends the server session to others."""
        record = tracked_as(connection)
        return record is not None and record.shared

    def roll_back(self, connection: Any) -> Any:
        """Roll back as the app does. May wait."""
        return connection.rollback()

    def wants_reset(self, connection: object) -> bool:
        return not self.is_closed(connection) and _record(connection).wants_reset()

    def pause(self, connection: object, seconds: float) -> Flow[None]:
        """Wait, unless the app closes its connection meanwhile."""
        record, waiting = _record(connection), race_tasks if self.is_async(connection) else race_threads
        return pause(waiting.wait_while_wanted, seconds, lambda: not record.closed_by_app)

    @contextmanager
    def unobserved(self, connection: object, deadline: float) -> Iterator[None]:
        with _record(connection).unobserved(deadline), self._bounded(connection, deadline):
            yield

    @contextmanager
    def returning(self, connection: object, deadline: float | None = None) -> Iterator[None]:
        limit = nullcontext() if deadline is None else self._bounded(connection, deadline)
        with _record(connection).on_its_way_back(deadline), limit:
            yield


def _record(connection: object) -> TrackedConnection:
    """Return the record of a tracked connection."""
    record: TrackedConnection = getattr(connection, KEY)
    return record
