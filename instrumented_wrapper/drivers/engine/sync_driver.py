"""The engine's driver for blocking calls."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any

from instrumented_wrapper import runners
from instrumented_wrapper.drivers.engine import race_threads
from instrumented_wrapper.drivers.engine.adapted_record import record_of
from instrumented_wrapper.drivers.engine.deadlines import bounded
from instrumented_wrapper.drivers.engine.driver import AdaptedDriver


class SyncDriver(AdaptedDriver):
    """`Driver` for one driver that blocks."""

    _run = staticmethod(runners.run)
    _race = race_threads

    def is_async(self, connection: object) -> bool:
        """Calls on it are not awaited."""
        return False

    def lock(self, connection: object) -> AbstractContextManager[Any]:
        """Return the lock that excludes another switch."""
        record = record_of(connection)
        return threading.RLock() if record is None else record.use_lock

    def _bounded(self, connection: object, deadline: float) -> AbstractContextManager[None]:
        return bounded(self._adapter.socket(connection), deadline)
