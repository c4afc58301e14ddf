"""aiosqlite: connections of sqlite3, each in a thread of its own. What the app calls runs there in the app's context.

The connections are those of ``drivers.sqlite3``. All that an app, or SQLAlchemy, has done in such a thread goes through
one queue, whose items get the context of whoever puts them there: spans are children of the app's, and what configures
a new connection is its baseline. `supported.ThreadEntry` says how a function is called in the thread.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Final

from aiosqlite import core

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.self_test import missing

logger = logging.getLogger("instrumented_wrapper")
_PARTS: Final = {core.Connection: "_execute ._connection ._tx".split()}


class _Calls:
    """The queue of a connection: each call that is put there takes the context of its caller along."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self.get = queue.get

    def put_nowait(self, item: Any) -> None:
        """Put a pair of future and function; or what ends the thread, which is none."""
        if isinstance(item, tuple):
            future, function = item
            item = future, functools.partial(copy_context().run, function)
        self._queue.put_nowait(item)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)


def install(patches: Patches, options: Options, flows: Flows) -> str:
    """Patch how connections are made. Returns what was done, for a user who asks."""
    if lacking := ", ".join(missing(_PARTS)):
        logger.warning("aiosqlite lacks %s: its spans are not below the app's", lacking)
        return f"left alone: it lacks {lacking}"
    patches.close_over(core.Connection, "__init__", _making)
    return "patched"


def _making(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self._tx = _Calls(self._tx)

    return __init__
