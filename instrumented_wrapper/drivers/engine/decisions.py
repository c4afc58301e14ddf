"""What is decided around a request, before it is sent and after it was answered: the same for all drivers.

Nothing here sends or waits. Errors that the app has to get are returned; `guards.raise_due` raises them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from instrumented_wrapper import events
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.drivers.engine.request import Request, TransactionStatus
from instrumented_wrapper.errors import FailoverError, again
from instrumented_wrapper.statement import BEGIN, COMMIT, OF_TRANSACTIONS, Effects, Step

_CHAINED: Final = (Step(COMMIT), Step(BEGIN))
_COMMITS: Final = ((Step(COMMIT),), _CHAINED)
_MAY_BE_STANDBY: Final = ("read-only", "standby", "prefer-standby")


# --- before it is sent ------------------------------------------------------------------------------------------


def due_error(record: TrackedConnection, request: Request, effects: Effects | None) -> FailoverError | None:
    """Return the error that the app gets instead of its request: a pending one, or the loss of its transaction again.

    A rollback ends the refusal of that transaction; where the server has aborted transactions, any end does.
    """
    aborts, idle = record.can.aborts_transactions, record.transaction_status == TransactionStatus.IDLE
    rolls_back = request is Request.ROLLBACK or (effects is not None and effects.rolls_back and not effects.several)
    if idle if aborts else rolls_back:
        _transaction_was_left(record)
    if rolls_back:
        record.refusal.has_refused = False
    if rolls_back or request is Request.LISTEN:
        return None
    if (pending := record.pending_error) is not None:
        record.set_pending_error(None)
        return again(pending)
    if record.failed is not None and _ends(request, effects):
        return again(record.failed)
    return lost_again(record, request, effects)


def lost_again(record: TrackedConnection, request: Request, effects: Effects | None) -> FailoverError | None:
    """Return the loss again for what would end a lost transaction as if it were whole, or go on with its savepoints.

    Where the server has no aborted transactions, any request would go on with it.
    """
    goes_on = effects is not None and effects.needs_its_transaction
    if record.lost is None or (record.can.aborts_transactions and not (goes_on or _ends(request, effects))):
        return None
    return again(record.lost)


def _ends(request: Request, effects: Effects | None) -> bool:
    is_end = request in (Request.COMMIT, Request.TWO_PHASE)
    return is_end or (effects is not None and effects.outcome_unknown_if_lost)


def refusal_of(
    record: TrackedConnection, request: Request, effects: Effects | None, aborted: bool
) -> FailoverError | None:
    """Return the error that refuses a request on a session without the app's role, tenant or schema.

    Neither a statement may use such a session, nor a COMMIT pass for what was refused.

    Args:
        aborted: the transaction has failed, so that the server refuses all but its end.
    """
    error, refusal = record.refusal.error, record.refusal
    if error is None or aborted or request in (Request.READ, Request.LISTEN):
        return None
    if request is Request.ROLLBACK:
        refusal.has_refused = False
        return None
    commits = request in (Request.COMMIT, Request.TWO_PHASE)
    refused = refusal.refuses_commit() if commits else refusal.refuses(effects)
    if not refused:
        return None
    record.set_pending_error(None)
    return again(error)


def unread(record: TrackedConnection, steps: Sequence[Step]) -> tuple[str, ...]:
    """Return the settings that `steps` change and whose pristine values are to be read before.

    Only of what the app changes: what a transfer handler, a pool's callback or ``connect`` sets is the baseline.
    """
    is_app = record.recording and not (record.off or record.internal or record.configuring)
    return record.on_server.unfetched(steps) if is_app else ()


def reads_position(record: TrackedConnection, effects: Effects) -> bool:
    """Return True if `effects` are a COMMIT alone, before which is read what its outcome is found out by."""
    return record.resolves_commits and record.switchable and effects.steps in _COMMITS and not effects.several


def begins_next(effects: Effects) -> bool:
    """Return True if a COMMIT begins the next transaction, too."""
    return effects.steps == _CHAINED


def note(record: TrackedConnection, effects: Effects) -> None:
    """Record a statement as in flight until it is answered."""
    if effects.defines and record.functions is not None:
        record.functions.forget()
    if effects.sets:
        record.templates = None  # perhaps the namespace
    if not effects.is_plain:
        record.end_unclear = True
    record.in_flight.append(effects)


def attributed(record: TrackedConnection, effects: Effects) -> Effects:
    """Return effects with the span that is their origin; what a handler does is not the app's doing."""
    if not record.recording:
        return replace(effects, steps=tuple(step for step in effects.steps if step.kind in OF_TRANSACTIONS))
    origin = events.origin() if effects.sets or effects.leaves else None
    if origin is None and not record.configuring:
        return effects
    return replace(effects, origin=origin, configured=record.configuring)


# --- after ------------------------------------------------------------------------------------------------------


def note_status(record: TrackedConnection, status: TransactionStatus) -> None:
    """End the refusal of a lost transaction if the server has it no more: the app has rolled back, perhaps begun anew.

    Where the server has no aborted transactions, only the request shows that (`due_error`).
    """
    if record.can.aborts_transactions and status in (TransactionStatus.IDLE, TransactionStatus.INTRANS):
        _transaction_was_left(record)


def settle(record: TrackedConnection, status: TransactionStatus, certain: bool) -> None:
    """Record what the statements in flight have done.

    Args:
        record: the record of the connection.
        status: the transaction status now.
        certain: the server has answered each of them.
    """
    idle, alone = status == TransactionStatus.IDLE, len(record.in_flight) == 1
    aborted = record.transaction_status == TransactionStatus.INERROR
    record.settle(idle and alone and certain, certain=certain, idle=idle, aborted=aborted)
    if status != TransactionStatus.UNKNOWN:
        record.transaction_status = status


def is_demoted(record: TrackedConnection, requested_role: str) -> bool:
    """Return True if a server that refuses writes as a standby was demoted: the app did not request a standby.

    Args:
        record: the record of the connection.
        requested_role: the kind of server that the app requests, in libpq's words.
    """
    accepted = requested_role in _MAY_BE_STANDBY or (requested_role == "any" and record.was_standby)
    return record.may_be_demoted() and not accepted


def _transaction_was_left(record: TrackedConnection) -> None:
    if record.lost is not None:
        record.lost = None
        record.refresh()


def may_resync(record: TrackedConnection) -> bool:
    """Return True if uncertain settings have to be queried, and the wrapper may do so now."""
    quiet = record.off or record.shared or record.internal or record.returning or not record.recording
    return record.on_server.has_doubts and not quiet


def may_observe_loss(record: TrackedConnection) -> bool:
    """Return True once for a loss that leads to no switch."""
    if record.loss_reported or record.foreign or record.internal or record.returning:
        return False
    record.loss_reported = True
    return True
