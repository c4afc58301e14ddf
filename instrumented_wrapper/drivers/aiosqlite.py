"""aiosqlite: connections of sqlite3, each in a thread of its own. What the app calls runs there in the app's context.

The connections are those of ``drivers.sqlite3``. All that an app, or SQLAlchemy, has done in such a thread goes through
one queue, whose items get the context of whoever puts them there: spans are children of the app's, and what configures
a new connection is its baseline. `supported.PoolEntry` says how a function is called in the thread.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Final

from aiosqlite import core

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches

PARTS: Final = {core.Connection: "_execute ._connection ._tx".split()}


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


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch how connections are made."""
    patches.close_over(core.Connection, "__init__", _making)


def _making(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self._tx = _Calls(self._tx)

    return __init__
