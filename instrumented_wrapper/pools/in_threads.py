"""The driver's own connection of what a pool has: of aiosqlite's it is used in a thread; a package may lie over it."""

from __future__ import annotations

from typing import Any

from instrumented_wrapper.drivers.registry import tracked_as
from instrumented_wrapper.owners import unwrapped


def own(held: object) -> Any:
    """Return the driver's own connection of what a pool has; that is `held` itself for most pools."""
    return held if tracked_as(held) is not None else unwrapped(held)
