"""Connect to several hosts at once in asyncio tasks, and wait for another connection that does.

The event loop is not blocked. A task that nobody waits for any more is cancelled, and closes its connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from instrumented_wrapper.drivers import Flow
from instrumented_wrapper.drivers.engine.race import Ended, Opening, race
from instrumented_wrapper.drivers.engine.search import Contest, Target, Winner
from instrumented_wrapper.errors import Address
from instrumented_wrapper.failover import A_WHILE, ClosedMeanwhile, UnderWay
from instrumented_wrapper.single_flight import result_of

Result = TypeVar("Result")


class _Tasks:
    """Attempts, each in a task of its own."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._attempts: dict[asyncio.Task[Any], UnderWay] = {}

    def start(self, attempt: UnderWay, role: str, seconds: float) -> None:
        """Begin to connect."""
        self._attempts[asyncio.ensure_future(self._open(attempt, role, seconds))] = attempt

    async def _open(self, attempt: UnderWay, role: str, seconds: float) -> Any:
        async with asyncio.timeout(seconds):
            return await self._opening.open(attempt.address, role, seconds)

    async def next(self, seconds: float) -> Ended | None:
        """Wait for a task."""
        if not self._attempts:
            await asyncio.sleep(seconds)
            return None
        done, _ = await asyncio.wait(self._attempts, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return self._ended(done.pop()) if done else None

    def _ended(self, task: asyncio.Task[Any]) -> Ended:
        attempt = self._attempts.pop(task)
        if task.cancelled():
            return Ended(attempt, None, asyncio.CancelledError())
        error = task.exception()
        return Ended(attempt, None if error else task.result(), error and error.with_traceback(None))

    def close(self) -> None:
        """Cancel each task; what it gets all the same is closed."""
        for task in self._attempts:
            task.cancel()
            task.add_done_callback(partial(_close_late, self._opening.close))
        self._attempts.clear()


def _close_late(close: Callable[[Any], None], task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is None:
        close(task.result())


def contest(opening: Opening) -> Contest:
    """Return how to connect with `opening` to several hosts at once, in tasks."""

    def race_in_tasks(target: Target, deadline: float) -> Flow[Winner]:
        return race(_Tasks(opening), opening, target, deadline)

    return Contest(race_in_tasks, wait_while_wanted, blocks=False)


async def once(opening: Opening, address: Address, role: str, seconds: float) -> Any:
    """Connect to one host, once.

    Raises:
        TimeoutError: there is no answer within so many seconds.
        Exception: the driver's.
    """
    async with asyncio.timeout(seconds):
        return await opening.open(address, role, seconds)


async def wait_while_wanted(future: Future[Result], deadline: float, is_wanted: Callable[[], bool]) -> Result:
    """Do as in `race_threads`. The waiting task may be cancelled; the search continues."""
    waiting = asyncio.wrap_future(future)
    waiting.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to ask
    while is_wanted():
        left = deadline - time.monotonic()
        await asyncio.wait([waiting], timeout=max(0.0, min(left, A_WHILE)))
        if waiting.done():
            return result_of(future)
        if left <= 0:
            raise TimeoutError
    raise ClosedMeanwhile
