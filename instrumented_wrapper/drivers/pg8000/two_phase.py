"""Two-phase transactions of pg8000, which keeps their id in an attribute that outlives a switch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from pg8000.dbapi import ProgrammingError

from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.request import Request
from instrumented_wrapper.statement import Effects

Method = Callable[..., Any]
_IN_DOUBT: Final = Effects(outcome_unknown_if_lost=True)


def begins(record: Record, *args: Any) -> Effects:
    """Return what ``tpc_begin`` does."""
    return Effects(begins=True)


def committing(original: Method, watched: Method) -> Method:
    """Wrap ``tpc_commit``: another session can commit a prepared transaction too."""
    open_one = watched(original, Request.TWO_PHASE)
    prepared = watched(_known_here(original), Request.STATEMENT, effects=lambda record, *xid: _IN_DOUBT)

    @functools.wraps(original)
    def tpc_commit(self: Any, *xid: Any) -> None:
        (open_one if self._in_transaction else prepared)(self, *xid)

    return tpc_commit


def _known_here(original: Method) -> Method:
    """After a switch: pg8000 would commit nothing, without an error, where the server does not have the transaction."""

    @functools.wraps(original)
    def tpc_commit(self: Any, *xid: Any) -> None:
        record, wanted = record_of(self), xid[0] if xid else self._xid
        moved = record is not None and record.generation > 1
        if moved and wanted is not None and wanted[1] not in {name for _, name, _ in self.tpc_recover()}:
            raise ProgrammingError(
                "tpc_commit(): the server has no such prepared transaction: it was lost or has ended"
            )
        original(self, *xid)

    return tpc_commit


def rolling_back(original: Method, watched: Method) -> Method:
    """Wrap ``tpc_rollback``: the end of its session does not roll back a prepared transaction."""
    open_one = watched(_rolling_back_lost(original), Request.ROLLBACK)
    prepared = watched(original, Request.STATEMENT, effects=lambda record, *xid: _IN_DOUBT)

    @functools.wraps(original)
    def tpc_rollback(self: Any, *xid: Any) -> None:
        (open_one if self._in_transaction else prepared)(self, *xid)

    return tpc_rollback


def _rolling_back_lost(original: Method) -> Method:
    """Roll back in an aborted transaction, where pg8000 cannot query whether this one is prepared: it is not."""

    @functools.wraps(original)
    def tpc_rollback(self: Any, *xid: Any) -> None:
        record = record_of(self)
        if record is None or record.lost is None:
            original(self, *xid)
            return
        self.rollback()
        self._xid = None

    return tpc_rollback
