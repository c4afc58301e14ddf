"""Collect the facts about a call whose connection was lost, as `Facts` for ``engine/loss_rules.py``."""

from __future__ import annotations

from typing import Final

from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter
from instrumented_wrapper.drivers.engine.loss_rules import Facts
from instrumented_wrapper.drivers.engine.request import Request, TransactionStatus
from instrumented_wrapper.statement import COMMIT, ROLLBACK, Effects, Step

_NOTHING: Final = Effects()
_COMMIT: Final = Effects(steps=(Step(COMMIT),), outcome_unknown_if_lost=True)
_ROLLBACK: Final = Effects(steps=(Step(ROLLBACK),), rolls_back=True)
OF_REQUEST: Final = {Request.COMMIT: _COMMIT, Request.ROLLBACK: _ROLLBACK, Request.TWO_PHASE: _COMMIT}


def ends(call: Request, effects: Effects | None) -> bool:
    """Return True if a call ends a transaction, by its kind or by a text."""
    return call in OF_REQUEST or (effects is not None and (effects.outcome_unknown_if_lost or effects.rolls_back))


def facts_before(record: Record, request: Request, effects: Effects | None) -> Facts:
    """Return the facts before the request sends anything."""
    return Facts(
        request,
        in_transaction=_in_transaction(record) and not record.is_prepared,
        rolls_back=effects is not None and effects.gives_up,
    )


def facts_after(
    adapter: DriverAdapter, connection: object, record: Record, request: Request, effects: Effects | None, in_part: bool
) -> Facts:
    """Return the facts after the request has sent something; `in_part`: the driver knows that a part has run."""
    sent, in_part = effects or _NOTHING, in_part or request is Request.READ
    several = sent.several or in_part
    only_ends = sent.outcome_unknown_if_lost and not several  # outside a transaction it begins none
    return Facts(
        request,
        in_transaction=_in_transaction(record),
        aborted=record.transaction_status == TransactionStatus.INERROR,
        begins=sent.begins or (adapter.begins(connection) and not only_ends),
        outcome_unknown_if_lost=sent.outcome_unknown_if_lost,
        prepared=request is Request.TWO_PHASE or (sent.outcome_unknown_if_lost and not (sent.steps or sent.begins)),
        rolls_back=sent.gives_up,
        goes_on=sent.rolls_back and sent.several,
        several=several,
        atomic=adapter.room.CAPABILITIES.runs_text_atomically and not in_part,
        alone=not several,
    )


def _in_transaction(record: Record) -> bool:
    return record.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)
