"""The engine's driver for asyncio: calls are awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

from instrumented_wrapper import runners
from instrumented_wrapper.drivers.engine import race_tasks
from instrumented_wrapper.drivers.engine.adapted_record import record_of
from instrumented_wrapper.drivers.engine.adapter import AsyncAdapter
from instrumented_wrapper.drivers.engine.async_record import AsyncRecord
from instrumented_wrapper.drivers.engine.driver import AdaptedDriver


class AsyncDriver(AdaptedDriver):
    """`Driver` for one async driver."""

    _adapter: AsyncAdapter
    _run = staticmethod(runners.run_async)
    _race = race_tasks
    _record_class = AsyncRecord

    def is_async(self, connection: object) -> bool:
        """Calls on it are awaited."""
        return True

    def lock(self, connection: object) -> AbstractAsyncContextManager[Any]:
        """Return the lock that excludes another switch."""
        record = record_of(connection)
        return record.exclusive() if isinstance(record, AsyncRecord) else asyncio.Lock()

    @contextmanager
    def _bounded(self, connection: object, deadline: float) -> Iterator[None]:
        """While inside, calls fail from `deadline` on: the transport is cut, so that no task is cancelled for it."""
        if (cut := self._adapter.cutter(connection)) is None:
            yield
            return
        timer = asyncio.get_running_loop().call_later(max(0.0, deadline - time.monotonic()), cut)
        try:
            yield
        finally:
            timer.cancel()
