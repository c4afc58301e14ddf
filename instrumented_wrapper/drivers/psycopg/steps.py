"""The rare decisions around the choke point: before a step, after it failed, and after it was answered.

Nothing here waits. A `Loss` that is returned is repaired by the caller, `flow`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import psycopg
from psycopg import pq

from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.drivers import Driver, Flows
from instrumented_wrapper.drivers.engine import decisions, loss_rules
from instrumented_wrapper.drivers.engine.loss_rules import Facts
from instrumented_wrapper.drivers.engine.search import accepts_standby
from instrumented_wrapper.drivers.psycopg.facts import (
    LISTENING_STEPS,
    belongs_to_old,
    facts_after,
    facts_of,
    frame_of,
    is_commit,
    is_pending,
)
from instrumented_wrapper.drivers.psycopg.liveness import LAST_WORDS
from instrumented_wrapper.drivers.psycopg.records import Record
from instrumented_wrapper.errors import FailoverError, again
from instrumented_wrapper.failover import Loss
from instrumented_wrapper.statement import Effects

__all__ = ["after", "answered", "before", "is_done_plainly", "is_stale", "note", "once_more", "question_for"]

_BAD: Final = pq.ConnStatus.BAD
_IDLE, _INERROR = pq.TransactionStatus.IDLE, pq.TransactionStatus.INERROR
_SETTLED: Final = frozenset({_IDLE, pq.TransactionStatus.INTRANS})
_ACTIVE, _UNKNOWN = pq.TransactionStatus.ACTIVE, pq.TransactionStatus.UNKNOWN
_ROLLBACKS: Final = ("_rollback_gen", "rollback_alone")
_UNDEFINED_FUNCTION: Final = "42883"


def note(record: Record, effects: Effects) -> None:
    """A statement is about to be sent. One that would end a lost transaction as if it were whole is not sent.

    Raises:
        FailoverSuccessError: the transaction was lost and the app did not roll back.
    """
    if record.off or record.muted:
        return
    if record.lost is not None and effects.outcome_unknown_if_lost:
        raise again(record.lost)
    decisions.note(record, effects)


# --- before -----------------------------------------------------------------------------------------------------


def before(connection: Any, record: Record, gen: Any, phase: int, ended: bool) -> Loss | None:
    """Decide before anything is sent; what is owed to the app is raised here. `ended`: the server ended the session."""
    step = getattr(gen, "__name__", "")
    if record.needs_slow_path:
        _in_trouble(connection, record, step, phase)
    if phase == _UNKNOWN and record.failed is not None and is_commit(gen, step):
        raise again(record.failed)
    if phase != _UNKNOWN:
        record.transaction_status = phase
        if not is_pending(connection):
            record.broken = False
            record.settle(for_good=False, certain=False, idle=phase == _IDLE)  # a stream, or an interrupted step
    if connection._closed or not (ended and record.switchable):
        return None
    return loss_rules.found_before_sending(facts_of(connection, record, gen, step))


def _in_trouble(connection: Any, record: Record, step: str, phase: int) -> None:
    if phase == _IDLE:
        decisions.transaction_was_left(record)
    if step in LISTENING_STEPS or step in _ROLLBACKS:
        return
    if (error := decisions.pending_error(record)) is not None:
        raise error
    if record.pipeline_error is not None and is_stale(connection):
        raise again(record.pipeline_error)
    record.pipeline_error = None
    record.refresh()


def is_stale(connection: Any) -> bool:
    """Return True if a pipeline block is open that began on a physical connection which was replaced."""
    pipeline = connection._pipeline
    return pipeline is not None and pipeline.pgconn is not connection.pgconn


def question_for(driver: Driver, flows: Flows, connection: Any, record: Record) -> Any:
    """Return what asks the server now for what it alone can tell; None where there is nothing, or it would disturb.

    Then the next statement asks first; in a transaction, its end does.
    """
    idle = connection.pgconn.transaction_status == _IDLE
    pipelined = connection._pipeline is not None and connection._pipeline.level > 0
    if pipelined or not (idle and record.wants_to_ask()):
        record.ask_next(idle or pipelined)
        return None
    record.ask_next(False)
    return ask_quietly(record, flows.run_within(flows.settle_doubts(driver.within, connection, record)))


def ask_quietly(record: Record, question: Any) -> Any:
    """Ask; where that fails the doubts stay, and are told if the connection is lost."""
    try:
        yield from question
    except (psycopg.Error, ValueError):  # not asked again after each statement, only when more is in doubt
        record.unsure, record.resync_failed = False, True


# --- after ------------------------------------------------------------------------------------------------------


def after(
    driver: Driver, flows: Flows, connection: Any, record: Record, step: str, error: psycopg.Error
) -> Loss | None:
    """A step raised: say what loss it is, None where the driver's error is to pass."""
    if isinstance(error, FailoverError):
        if step == "_tpc_prepare_gen" and connection._tpc:
            connection._tpc = (connection._tpc[0], False)  # refused, not prepared: tpc_rollback() is a ROLLBACK
        return None
    if connection.pgconn.status != _BAD and error.diag.severity_nonlocalized not in LAST_WORDS:
        return _refused(connection, record, step, error)
    facts = facts_after(connection, record, step, error)
    reading = frame_of(error, "read_pristine") is not None
    loss = _while_reading(facts) if reading else loss_rules.found_while_under_way(facts, error)
    if connection._closed or loss is None:
        return None
    if record.switchable:
        return loss
    if decisions.may_observe_loss(record):
        with record.resumed():
            flows.observe_loss(driver, connection, record, loss)
    return None


def _while_reading(facts: Facts) -> Loss | None:
    """A pristine value was being read: the statement itself was not sent, and a plain one can be run as it is."""
    loss = loss_rules.found_before_sending(facts)
    return loss if loss is None or facts.repeatable else replace(loss, silent=False)


def _refused(connection: Any, record: Record, step: str, error: psycopg.Error) -> Loss | None:
    """The connection is alive: the statement was refused, by the server or because what it belongs to is stale."""
    stale = record.last_error is not None and belongs_to_old(connection, error)
    facts = facts_after(connection, record, step, error)
    status = connection.pgconn.transaction_status
    if not is_pending(connection) and status != _ACTIVE:
        if error.sqlstate is None:  # psycopg's own refusal, of what the server may have done
            record.settle(for_good=False, certain=False, idle=status == _IDLE)
        elif error.sqlstate == _UNDEFINED_FUNCTION:
            record.called.difference_update(*(effects.calls for effects in record.in_flight))
        record.refused(facts.pipelined, idle=status == _IDLE)  # else an earlier one, interrupted, has no answer yet
        record.ask_next(status == _IDLE)
    else:
        record.broken = True
    if stale and record.last_error is not None:
        raise again(record.last_error) from error
    if record.switchable and _demoted(connection, record, error):
        return loss_rules.found_demoted(facts, error)
    return None


def _demoted(connection: Any, record: Record, error: psycopg.Error) -> bool:
    """Return True if the server is a standby now, and that is not what the app asked for."""
    read_only = bool(connection._read_only or record.asked_read_only)
    if not postgresql.needs_primary(error.sqlstate, error.diag.source_function, read_only):
        return False
    asked = accepts_standby(record.wanted, bool(record.was_standby))
    here = connection.pgconn.parameter_status(b"in_hot_standby") == b"on"
    return here and not asked and record.may_be_demoted()


def once_more(step: str, error: BaseException) -> Any:
    """After a silent switch in the middle of a step: what is still to be run, None where nothing is.

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
    if (
        record.needs_slow_path
        or record.broken
        or record.unsure
        or record.asked_read_only
        or record.on_server.open.levels
        or connection._pipeline is not None
        or (status := connection.pgconn.transaction_status) not in _SETTLED
    ):
        return False
    for effects in record.in_flight:
        if not effects.is_plain:
            return False
    record.in_flight = []
    record.transaction_status = status
    return True


def answered(connection: Any, record: Record, step: str) -> Loss | None:
    """A step went well: keep what it did. psycopg hides a loss while it rolls a block back; it is found here."""
    status = connection.pgconn.transaction_status
    if status == _UNKNOWN and step == "_exit_gen" and not connection._closed and record.switchable:
        outermost = record.under_way("rolls_back")
        record.settle(for_good=False)
        return Loss(transaction="rolled_back", refuse=not outermost, silent=outermost, later=True)
    if status not in (_INERROR, _ACTIVE, _UNKNOWN):
        decisions.transaction_was_left(record)
    if status != _ACTIVE and not is_pending(connection):
        alone, certain, idle = len(record.in_flight) == 1, not record.broken, status == _IDLE
        record.broken = False
        record.settle(idle and alone, certain=certain, idle=idle, aborted=record.transaction_status == _INERROR)
        record.transaction_status = status if status != _UNKNOWN else record.transaction_status
    return None
