"""The rare decisions around the choke point: before a step is sent, after it failed, and after it was answered.

Nothing here waits. A `Loss` that is returned is repaired by the caller, `flow`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import psycopg
from psycopg import pq

from instrumented_wrapper.drivers import Driver, Flows
from instrumented_wrapper.drivers.engine import decisions, loss_rules
from instrumented_wrapper.drivers.engine.guards import raise_due
from instrumented_wrapper.drivers.engine.loss_rules import Facts
from instrumented_wrapper.drivers.engine.repair import resync, to_repair
from instrumented_wrapper.drivers.engine.request import Request, TransactionStatus
from instrumented_wrapper.drivers.for_postgresql import is_demoted
from instrumented_wrapper.drivers.psycopg.liveness import LAST_WORDS, has_ended
from instrumented_wrapper.drivers.psycopg.loss_facts import (
    belongs_to_old,
    facts_after,
    facts_of,
    frame_of,
    is_pending,
    request_of,
)
from instrumented_wrapper.drivers.psycopg.query_text import STATEMENTS, effects_of_step
from instrumented_wrapper.drivers.psycopg.records import Record
from instrumented_wrapper.drivers.server_session.reported_settings import with_calls
from instrumented_wrapper.errors import FailoverError, again
from instrumented_wrapper.failover import Loss
from instrumented_wrapper.statement import Effects

_BAD: Final = pq.ConnStatus.BAD
_SETTLED: Final = frozenset({int(TransactionStatus.IDLE), int(TransactionStatus.INTRANS)})
_UNDEFINED_FUNCTION: Final = "42883"


def note(record: Record, effects: Effects) -> None:
    """Record the effects of a statement that is about to be sent, unless it would commit or go on with a lost one.

    Raises:
        FailoverSuccessError: the transaction was lost and the app did not roll back.
    """
    if record.off or record.muted:
        return
    raise_due(decisions.lost_again(record, Request.STATEMENT, effects))
    decisions.note(record, effects)


# --- before -----------------------------------------------------------------------------------------------------


def before(connection: Any, record: Record, gen: object, step: str, status: TransactionStatus) -> Loss | None:
    """Decide before anything is sent: raise the app's error, or return the loss if the session has ended.

    A session that has ended is replaced first: the switch then reports what is missing. Only a COMMIT without a
    transaction, which would replace nothing, is refused in any case.
    """
    ended = has_ended(connection, record, step, status)
    if status != TransactionStatus.UNKNOWN:
        record.transaction_status = status
    if record.needs_slow_path:
        is_commit = request_of(step) in (Request.COMMIT, Request.TWO_PHASE)
        if not ended or (is_commit and record.transaction_status == TransactionStatus.IDLE):
            refuse(connection, record, gen, step, status)
        _raise_due(connection, record, gen, step)
    if status != TransactionStatus.UNKNOWN and not is_pending(connection):
        record.broken = False  # what is in flight belongs to a stream, or to a step that was interrupted
        record.settle(for_good=False, certain=False, idle=status == TransactionStatus.IDLE)
    if connection._closed or not (ended and record.switchable):
        return None
    return loss_rules.found_before_sending(facts_of(connection, record, gen, step))


def refuse(connection: Any, record: Record, gen: object, step: str, status: TransactionStatus) -> None:
    """Refuse a step that could use data without the app's role, tenant or schema, or commit what was refused.

    Raises:
        FailoverSuccessError: again.
    """
    request = request_of(step)
    is_of_psycopg = request is Request.STATEMENT and step not in STATEMENTS
    if record.refusal.error is None or connection._closed or is_of_psycopg:
        return
    effects = effects_of_step(gen, step)
    if effects is not None and effects.calls:
        effects = with_calls(record, effects)
    raise_due(decisions.refusal_of(record, request, effects, status == TransactionStatus.INERROR))


def _raise_due(connection: object, record: Record, gen: object, step: str) -> None:
    is_two_phase = record.failed is not None and step.startswith("_tpc_")
    request = Request.TWO_PHASE if is_two_phase else request_of(step)
    raise_due(decisions.due_error(record, request, effects_of_step(gen, step)))
    if request in (Request.LISTEN, Request.ROLLBACK):
        return
    if record.pipeline_error is not None and is_stale(connection):
        raise again(record.pipeline_error)
    record.pipeline_error = None
    record.refresh()


def is_stale(connection: Any) -> bool:
    """Return True if a pipeline block is open that began on a physical connection which was replaced."""
    pipeline = connection._pipeline
    return pipeline is not None and pipeline.pgconn is not connection.pgconn


def resync_now(driver: Driver, flows: Flows, connection: Any, record: Record) -> Any:
    """Return the generator that queries what is in doubt; None if there is nothing, or if a query would disturb.

    In that case the next statement queries first; in a transaction, its end does.
    """
    idle = connection.pgconn.transaction_status == TransactionStatus.IDLE
    pipelined = connection._pipeline is not None and connection._pipeline.level > 0
    if pipelined or not (idle and record.may_resync()):
        record.schedule_resync(idle or pipelined)
        return None
    record.schedule_resync(False)
    return flows.run_within(resync(flows, driver.within, connection, record, (psycopg.Error, ValueError)))


# --- after ------------------------------------------------------------------------------------------------------


def after(
    driver: Driver, flows: Flows, connection: Any, record: Record, step: str, error: psycopg.Error
) -> Loss | None:
    """Return the loss if a step failed with its connection or on a demoted server; None: psycopg's error passes."""
    if isinstance(error, FailoverError):
        if step == "_tpc_prepare_gen" and connection._tpc:
            connection._tpc = (connection._tpc[0], False)  # refused, not prepared: tpc_rollback() is a ROLLBACK
        return None
    if connection.pgconn.status != _BAD and error.diag.severity_nonlocalized not in LAST_WORDS:
        return _refused(connection, record, step, error)
    facts = facts_after(connection, record, step, error)
    reading = frame_of(error, "read_pristine") is not None
    loss = _while_reading(facts) if reading else loss_rules.found_while_under_way(facts, error)
    with record.resumed():
        return to_repair(flows, driver, connection, record, None if connection._closed else loss)


def _while_reading(facts: Facts) -> Loss | None:
    """Return the loss while a pristine value was read: the statement was not sent, and a plain one can run again."""
    loss = loss_rules.found_before_sending(facts)
    return loss if loss is None or facts.repeatable else replace(loss, silent=False)


def _refused(connection: Any, record: Record, step: str, error: psycopg.Error) -> Loss | None:
    """Settle a statement that was refused on a live connection, by the server or as one of an old session."""
    stale = record.last_error is not None and belongs_to_old(connection, error)
    facts = facts_after(connection, record, step, error)
    status = connection.pgconn.transaction_status
    idle = status == TransactionStatus.IDLE
    if status == TransactionStatus.INERROR:
        record.ended_at = -1.0  # before any response
    if not is_pending(connection) and status != TransactionStatus.ACTIVE:
        if error.sqlstate is None:  # psycopg's own refusal, of what the server may have done
            record.settle(for_good=False, certain=False, idle=idle)
        elif error.sqlstate == _UNDEFINED_FUNCTION:
            record.called.difference_update(*(effects.calls for effects in record.in_flight))
        record.refused(facts.pipelined, idle=idle)
        record.schedule_resync(idle)
    else:  # an earlier one, interrupted, has no answer yet
        record.broken = record.end_unclear = True
    if stale and record.last_error is not None:
        raise again(record.last_error) from error
    if record.switchable and _demoted(connection, record, error):
        return loss_rules.found_demoted(facts, error)
    return None


def _demoted(connection: Any, record: Record, error: psycopg.Error) -> bool:
    """Return True if the server refused a write because it is a standby now and the app did not ask for one."""
    if connection._read_only:
        return False
    is_standby = connection.pgconn.parameter_status(b"in_hot_standby") == b"on"
    return is_demoted(record, error.sqlstate, error.diag.source_function, record.wanted, is_standby)


def once_more(step: str, error: BaseException) -> Any:
    """Return what still has to run after a silent switch in the middle of a step; None: nothing.

    Only what certainly has not run: a statement that a standby refused, and a ROLLBACK (of nothing, now).
    """
    frame = frame_of(error, step)
    if step != "_execute_gen" or frame is None:
        return None
    given = frame.f_locals
    return given["self"]._execute_gen(
        given["query"], given["params"], prepare=given.get("prepare"), binary=given.get("binary")
    )


def is_done_plainly(connection: Any, record: Record) -> bool:
    """Settle, at little cost, transactions that were begun or ended and set nothing; False: `answered` looks closer."""
    status = connection.pgconn.transaction_status
    if status not in _SETTLED or connection._pipeline is not None:
        return False
    if record.end_unclear:
        if record.needs_slow_path or record.broken or record.needs_resync or not record.settle_plainly():
            return False
        record.end_unclear = False
    record.in_flight, record.transaction_status = [], status
    if status == TransactionStatus.IDLE:
        record.ended_at = record.last_response_at
    return True


def answered(connection: Any, record: Record, step: str) -> Loss | None:
    """Settle a step that was answered; return the loss that psycopg hides while it rolls a block back."""
    status = connection.pgconn.transaction_status
    if status == TransactionStatus.UNKNOWN and step == "_exit_gen" and not connection._closed and record.switchable:
        outermost = record.under_way("rolls_back")
        record.settle(for_good=False)
        return Loss(transaction="rolled_back", refuse=not outermost, silent=outermost, later=True)
    decisions.note_status(record, status)
    if status != TransactionStatus.ACTIVE and not is_pending(connection):
        certain, record.broken = not record.broken, False
        decisions.settle(record, status, certain)
        if status == TransactionStatus.IDLE:
            record.ended_at = record.last_response_at
        record.take_reported()  # of what a statement has named, so that `lost` does not take it for a trigger's doing
    return None
