"""Wait in an asyncio task for what another connection finds, while the event loop goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from instrumented_wrapper.failover import A_WHILE, ClosedMeanwhile
from instrumented_wrapper.single_flight import result_of

__all__ = ["wait_while_wanted"]

Result = TypeVar("Result")


async def wait_while_wanted(future: Future[Result], deadline: float, is_wanted: Callable[[], bool]) -> Result:
    """Do as in `race_threads`. Whoever waits may be cancelled; what is waited for goes on."""
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
