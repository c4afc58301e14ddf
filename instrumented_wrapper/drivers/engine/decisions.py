"""What is decided around a request, before it is sent and after it was answered: the same for all drivers.

Nothing here sends or waits. Errors that the app has to get are returned, and raised by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from instrumented_wrapper import events
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.drivers.engine.request import Request
from instrumented_wrapper.errors import FailoverError, again
from instrumented_wrapper.statement import OF_TRANSACTIONS, Effects, Step

__all__ = [
    "attributed",
    "may_observe_loss",
    "may_resync",
    "note",
    "pending_error",
    "refusal_of",
    "transaction_was_left",
    "unread",
]


# --- before it is sent ------------------------------------------------------------------------------------------


def pending_error(record: TrackedConnection) -> FailoverError | None:
    """Return the error that the app has to get before anything is sent, once."""
    if (owed := record.pending_error) is None:
        return None
    record.set_pending_error(None)
    return again(owed)


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


def note(record: TrackedConnection, effects: Effects) -> None:
    """Keep what a statement does to the session until it is answered."""
    if effects.defines and record.functions is not None:
        record.functions.forget()
    if effects.sets:
        record.templates = None  # perhaps the namespace
    record.in_flight.append(effects)


def attributed(record: TrackedConnection, effects: Effects) -> Effects:
    """Return effects with the span that is their origin; what a handler does is not the app's doing."""
    if not record.recording:
        return replace(effects, steps=tuple(step for step in effects.steps if step.kind in OF_TRANSACTIONS))
    origin = events.origin() if effects.sets else None
    if origin is None and not record.configuring:
        return effects
    return replace(effects, origin=origin, configured=record.configuring)


# --- after ------------------------------------------------------------------------------------------------------


def transaction_was_left(record: TrackedConnection) -> None:
    """End the refusal of a transaction that was lost: the app has rolled back."""
    if record.lost is not None:
        record.lost = None
        record.refresh()


def may_resync(record: TrackedConnection) -> bool:
    """Return True if the server has to be asked for settings in doubt, and this may be done for the app."""
    quiet = record.off or record.shared or record.internal or record.returning or not record.recording
    return record.on_server.has_doubts and not quiet


def may_observe_loss(record: TrackedConnection) -> bool:
    """Return True once for a loss that leads to no switch."""
    if record.loss_reported or record.foreign or record.internal or record.returning:
        return False
    record.loss_reported = True
    return True
