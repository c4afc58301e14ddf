"""Named cursors that outlive their transaction (``withhold``): a switch cannot carry them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from psycopg2 import extensions

from instrumented_wrapper.databases.postgresql.state import HELD
from instrumented_wrapper.drivers.engine.adapted_record import record_of
from instrumented_wrapper.server_settings import ANY

__all__ = ["closing", "declaring"]

Method = Callable[..., Any]
_withhold: Any = vars(extensions.cursor)["withhold"].__get__


def declaring(original: Method) -> Method:
    """``execute`` of a named cursor: psycopg2 declares it."""

    @functools.wraps(original)
    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if _withhold(self) and (record := record_of(self.connection)) is not None:
            record.residual.add((HELD,))
            record.refresh_changed()
        return result

    return execute


def closing(original: Method) -> Method:
    """``close``: whether another one is held the server is asked when it does not disturb."""

    @functools.wraps(original)
    def close(self: Any) -> None:
        original(self)
        record = record_of(self.connection) if _withhold(self) else None
        if record is not None and HELD in record.residual.kinds:
            record.on_server.doubts[ANY] = "CLOSE"
            record.refresh_changed()

    return close
