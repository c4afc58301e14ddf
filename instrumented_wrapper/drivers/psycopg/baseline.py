"""Where the baseline ends: what is set before the app first has the connection is no change of the app's.

Until ``connect`` returns, a subclass's own included; in a pool, until the pool first hands the connection out
(`registry.configuring`).
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

from instrumented_wrapper.drivers.psycopg.records import Record


def is_the_apps_doing(connection: object, record: Record) -> bool:
    """Return True if a change now is one of the app's."""
    return record.recording and not record.off and not is_before_the_app(connection, record)


def is_before_the_app(connection: object, record: Record) -> bool:
    """Return True if the connection is still being configured."""
    if record.held:
        return True
    record.baseline_done = record.baseline_done or not _inside_connect(type(connection))
    return not record.baseline_done


def _inside_connect(kind: type[Any]) -> bool:
    """Return True if a subclass's own ``connect`` is still running: what it sets belongs to the baseline."""
    overrides = {id(_code_of(base.__dict__["connect"])) for base in kind.__mro__ if "connect" in base.__dict__}
    frame = sys._getframe(1)
    while frame is not None:
        if id(frame.f_code) in overrides:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _code_of(method: Any) -> Any:
    function = inspect.unwrap(getattr(method, "__func__", method))
    return getattr(function, "__code__", None)
