"""Two-phase transactions of pg8000, which keeps their name in an attribute: it outlives a switch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.request import Request
from instrumented_wrapper.statement import Effects

Method = Callable[..., Any]
_IN_DOUBT: Final = Effects(outcome_unknown_if_lost=True)


def begins(record: Record, *args: Any) -> Effects:
    """Return what ``tpc_begin`` does."""
    return Effects(begins=True)


def rolling_back(original: Method, watched: Method) -> Method:
    """``tpc_rollback``: one that is prepared is not rolled back by the end of its session."""
    open_one = watched(_rolling_back_lost(original), Request.ROLLBACK)
    prepared = watched(original, Request.STATEMENT, effects=lambda record, *xid: _IN_DOUBT)

    @functools.wraps(original)
    def tpc_rollback(self: Any, *xid: Any) -> None:
        (open_one if self._in_transaction else prepared)(self, *xid)

    return tpc_rollback


def _rolling_back_lost(original: Method) -> Method:
    """In an aborted transaction pg8000 cannot ask whether this one is prepared: it is not."""

    @functools.wraps(original)
    def tpc_rollback(self: Any, *xid: Any) -> None:
        record = record_of(self)
        if record is None or record.lost is None:
            original(self, *xid)
            return
        self.rollback()
        self._xid = None

    return tpc_rollback
