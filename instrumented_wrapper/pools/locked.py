"""What a pool does while it holds its lock, which every other checkout and return waits for, is limited in time."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, Final

from instrumented_wrapper.drivers.registry import checking_out

LOCK_TIMEOUT: Final = 2.0  # seconds of a search; a server that has taken over is found at once


def limited(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `original`, within which a switch or the search of a connect ends in time."""

    @functools.wraps(original)
    def method(*args: Any, **kwargs: Any) -> Any:
        with checking_out(time.monotonic() + LOCK_TIMEOUT):
            return original(*args, **kwargs)

    return method


def limited_async(original: Callable[..., Any]) -> Callable[..., Any]:
    """Do as `limited` does, for a coroutine."""

    @functools.wraps(original)
    async def method(*args: Any, **kwargs: Any) -> Any:
        with checking_out(time.monotonic() + LOCK_TIMEOUT):
            return await original(*args, **kwargs)

    return method
