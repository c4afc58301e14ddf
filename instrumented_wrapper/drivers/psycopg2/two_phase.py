"""Two-phase transactions of psycopg2, whose struct forgets them in a switch: what is prepared outlives the session."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from psycopg2 import extensions

from instrumented_wrapper.drivers.engine.adapted_record import record_of
from instrumented_wrapper.drivers.engine.request import Request
from instrumented_wrapper.drivers.psycopg2.classes import C, physical
from instrumented_wrapper.statement import Effects

Method = Callable[..., Any]
_BEGUN: Final = "two-phase transaction"
_PREPARED: Final = "prepared transaction"
_IN_DOUBT: Final = Effects(outcome_unknown_if_lost=True)


def beginning(original: Method) -> Method:
    """Wrap ``tpc_begin``: record the transaction's id."""

    @functools.wraps(original)
    def tpc_begin(self: Any, xid: object) -> None:
        original(self, xid)
        _kept(self)[_BEGUN] = xid

    return tpc_begin


def preparing(original: Method) -> Method:
    """``tpc_prepare``: from now on it waits on the server."""

    @functools.wraps(original)
    def tpc_prepare(self: Any) -> None:
        original(self)
        kept = _kept(self)
        kept[_PREPARED] = kept.pop(_BEGUN, None)

    return tpc_prepare


def ending(original: Method) -> Method:
    """Wrap ``tpc_commit`` and ``tpc_rollback``: another session ends a prepared transaction by its name."""

    @functools.wraps(original)
    def end(self: Any, *xid: object) -> None:
        record, kept = record_of(self), _kept(self)
        known = _state_of(self) != extensions.STATUS_READY
        if xid or (known and not (record is not None and record.lost is not None)):
            original(self, *xid)
        elif record is not None and record.lost is not None:
            self.rollback()
        elif kept.get(_PREPARED) is not None:
            original(self, kept[_PREPARED])
        else:
            original(self)
        if not xid:
            kept.pop(_PREPARED, None)

    return end


def rolling_back(ended: Method, watched: Method) -> Method:
    """Wrap ``tpc_rollback``: the end of its session does not roll back a prepared transaction."""
    open_one = watched(ended, Request.ROLLBACK)
    prepared = watched(ended, Request.STATEMENT, effects=lambda record, *xid: _IN_DOUBT)

    @functools.wraps(ended)
    def tpc_rollback(self: Any, *xid: object) -> None:
        (prepared if xid or _kept(self).get(_PREPARED) is not None else open_one)(self, *xid)

    return tpc_rollback


def _kept(connection: object) -> dict[str, Any]:
    record = record_of(connection)
    return {} if record is None else record.driver_state


def _state_of(connection: object) -> int:
    state: int = C.status.__get__(physical(connection))
    return state
