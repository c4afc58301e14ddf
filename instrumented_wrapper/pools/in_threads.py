"""Connections that are used in a thread of their own, whatever the pool: those of aiosqlite."""

from __future__ import annotations

from typing import Any

from instrumented_wrapper.drivers.registry import tracked_as
from instrumented_wrapper.owners import thread_of, unwrapped


def own(held: object) -> Any:
    """Return the driver's own connection of what a pool has; that is `held` itself, unless it is used in a thread."""
    return held if tracked_as(held) is not None or thread_of(held) is None else unwrapped(held)
