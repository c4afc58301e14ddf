"""Whether sessions would survive a loss at this moment, and what keeps the others from it.

A thread that collects metrics asks, while the app goes on: the records of connections are read, and neither a driver
nor a network is touched. What a switch could not carry is decided by the session, as it is for a loss.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.drivers.registry import records
from instrumented_wrapper.operations import Survival

NONE, DOUBT, TRANSACTION, POOLER, OFF = "none", "doubt", "transaction", "pooler", "failover_off"
# What lasts comes before what will be over soon: a session has one reason.
_RANKED: Final = ("temporary_table", "advisory_lock", "prepared_statement", "held_cursor", "listen", DOUBT, TRANSACTION)
_ATTEMPTS: Final = 10


def survey() -> Counter[Survival]:
    """Count the sessions that are open, by what would keep them from surviving a loss."""
    counted = (record for record in records() if _counts(record))
    return Counter(Survival(record.system, record.driver_name, obstacle(record)) for record in counted)


def _counts(record: TrackedConnection) -> bool:
    """Return True for a session of the app that has not ended, as far as is known."""
    ended = record.closed_by_app or record.failed is not None or record.loss_reported
    logical = record.logical  # read once: another thread may take it away
    if logical is not None and not logical.is_current(record):
        return False
    return record.options.metrics and not (record.off or record.internal or ended) and record.connection() is not None


def obstacle(record: TrackedConnection) -> str:
    """Return what would keep a session from surviving a loss at this moment."""
    logical = record.logical
    if not (record.failover or (logical is not None and logical.repairs_losses)):
        return OFF
    if record.shared:
        return POOLER
    found = {record.obstacles.get(name, DOUBT) for name in _not_carried(record)}
    if record.lost is not None or record.seems_open():
        found.add(TRANSACTION)
    return next((reason for reason in _RANKED if reason in found), NONE)


def _not_carried(record: TrackedConnection) -> tuple[str, ...]:
    for _ in range(_ATTEMPTS):
        try:
            return record.not_carried()
        except (RuntimeError, KeyError):  # the app has changed it meanwhile: it is read again
            continue
    return ("",)  # in doubt, it changes all the time
