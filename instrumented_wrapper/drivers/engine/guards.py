"""Conditions that prevent a request: a pending error, missing security state, a session that has ended."""

from __future__ import annotations

from functools import partial

from instrumented_wrapper.drivers import Flow
from instrumented_wrapper.drivers.engine import decisions, loss_rules
from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter
from instrumented_wrapper.drivers.engine.loss_facts import facts_before
from instrumented_wrapper.drivers.engine.request import Request, TransactionStatus
from instrumented_wrapper.errors import FailoverError
from instrumented_wrapper.failover import Loss
from instrumented_wrapper.statement import Effects


def raise_due(error: FailoverError | None) -> None:
    """Raise an error that the app gets instead of its request, if there is one."""
    if error is not None:
        try:
            raise error
        finally:
            del error  # or this frame would keep it, and it this frame and the connection


def refuse(
    adapter: DriverAdapter, connection: object, record: Record, request: Request, effects: Effects | None
) -> Flow[None]:
    """Refuse the use of a session without its role, tenant or schema, and a COMMIT of what was refused.

    If the session has ended and is not replaced, the driver's own error passes.

    Raises:
        FailoverSuccessError: again.
    """
    aborted = record.transaction_status == TransactionStatus.INERROR  # the server refuses all but the end
    if record.refusal.error is None or aborted or adapter.is_closed(connection):
        return
    if (yield from has_ended(adapter, connection, record)):
        return
    raise_due(decisions.refusal_of(record, request, effects, aborted))


def found_dead(
    adapter: DriverAdapter, connection: object, record: Record, request: Request, effects: Effects | None
) -> Flow[Loss | None]:
    """Look whether the physical connection has ended, before anything is sent."""
    if not record.switchable or adapter.is_closed(connection):
        return None
    if not (yield from has_ended(adapter, connection, record)):
        return None
    return loss_rules.found_before_sending(facts_before(record, request, effects))


def has_ended(adapter: DriverAdapter, connection: object, record: Record) -> Flow[bool]:
    """Return True if the session has ended, as far as this side can know."""
    if adapter.is_lost(connection, None):
        return True
    is_quiet = record.transaction_status != TransactionStatus.ACTIVE and not adapter.is_streaming(connection)
    poll = record.poll if record.refusal.error is None else record.poll_for(connection)  # with failover off, too
    return is_quiet and bool(poll(0)) and not (yield partial(adapter.is_alive, connection))


def lost_step(adapter: DriverAdapter, connection: object, record: Record, error: BaseException) -> bool:
    """Return True, and leave the connection to the driver, if a call ended before its answer was read."""
    found = adapter.leaves_unread(connection, error) and not adapter.is_lost(connection, None)
    if found:
        record.lose_step()
    return found
