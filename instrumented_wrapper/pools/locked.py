"""What a pool does while it holds its lock, which every other checkout and return waits for, is limited in time."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Final

from instrumented_wrapper.drivers.registry import checking_out
from instrumented_wrapper.patching import around

LOCK_TIMEOUT: Final = 2.0  # seconds of a search; a server that has taken over is found at once


@around
def limited(*args: object, **kwargs: object) -> AbstractContextManager[None]:
    """While inside, a switch or the search of a connect ends in time."""
    return checking_out(time.monotonic() + LOCK_TIMEOUT)
