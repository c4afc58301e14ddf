"""The rare decisions around the choke point: what is done before a step, after it failed, and after it was answered.

Nothing here waits. A `Loss` that is returned is repaired by the caller, which knows whether it is sync or async.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Generator
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final

import psycopg
from psycopg import pq

from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.drivers import Driver, Flows
from instrumented_wrapper.drivers.psycopg import losses
from instrumented_wrapper.drivers.psycopg.losses import Facts
from instrumented_wrapper.drivers.psycopg.parts import AsyncConnection, BaseTransaction
from instrumented_wrapper.drivers.psycopg.records import Record
from instrumented_wrapper.errors import FailoverError, again
from instrumented_wrapper.session import Effects, Loss

__all__ = ["adapted", "after", "answered", "before", "note", "once_more", "repaired", "rollback_alone", "seconds_left"]

_BAD: Final = pq.ConnStatus.BAD
_IDLE, _INERROR = pq.TransactionStatus.IDLE, pq.TransactionStatus.INERROR
_ACTIVE, _UNKNOWN = pq.TransactionStatus.ACTIVE, pq.TransactionStatus.UNKNOWN
_TOO_LATE: Final = "no answer within the time that a session reset may take"
_READS: Final = 4  # the first read may only give the server's last words, the end comes with the next
_ROLLBACKS: Final = ("_rollback_gen", "rollback_alone")
_SEVERITY: Final = pq.DiagnosticField.SEVERITY_NONLOCALIZED
_LAST_WORDS: Final = ("FATAL", "PANIC")  # the server ends the connection after such an error
_COPIES: Final = ("copy_from", "copy_to", "copy_end")
_STANDBYS: Final = ("read-only", "standby", "prefer-standby")

# When a pool waits for a health check: the moment (monotonic seconds) until which a switch may last.
pool_deadline: ContextVar[float | None] = ContextVar("pool_deadline", default=None)


def seconds_left() -> float | None:
    """Return how long a switch may take because a pool waits for it; None where only the option limits it."""
    moment = pool_deadline.get()
    return None if moment is None else max(0.0, moment - time.monotonic())


def note(record: Record, effects: Effects) -> None:
    """A statement is about to be sent. One that would end a lost transaction as if it were whole is not sent.

    Raises:
        FailoverSuccessError: the transaction was lost and the app did not roll back.
    """
    if record.off:
        return
    if record.lost is not None and effects.in_doubt:
        raise again(record.lost)
    record.noted.append(effects)


# --- before -----------------------------------------------------------------------------------------------------


def before(connection: Any, record: Record, gen: Any, phase: int) -> Loss | None:
    """Look at the connection before anything is sent; what is owed to the app is raised here."""
    step = getattr(gen, "__name__", "")
    if record.alert:
        _in_trouble(connection, record, step, phase)
    if phase != _UNKNOWN:
        record.phase = phase
        record.settle(for_good=phase == _IDLE)
    reads = phase != _UNKNOWN and step not in losses.SILENT_STEPS  # notifies() waits for what we would read
    ended = reads and _read_what_came(connection, record)
    ended = ended or connection.pgconn.status == _BAD
    if connection._closed or not (ended and record.switchable):
        return None
    return losses.found_before_sending(_facts(connection, record, gen, step))


def _in_trouble(connection: Any, record: Record, step: str, phase: int) -> None:
    if record.lost is not None and phase == _IDLE:
        record.lost = None  # the app has rolled back
        record.refresh()
    if step in losses.SILENT_STEPS or step in _ROLLBACKS:
        return
    if (owed := record.owed) is not None:
        record.owed = None
        record.refresh()
        raise again(owed)
    if record.pipeline_error is not None and _is_stale(connection):
        raise again(record.pipeline_error)
    record.pipeline_error = None
    record.refresh()


def _is_stale(connection: Any) -> bool:
    pipeline = connection._pipeline
    return pipeline is not None and pipeline.pgconn is not connection.pgconn


def _read_what_came(connection: Any, record: Record) -> bool:
    """Read what the server sent unasked: notifications, notices. True if these were its last words."""
    pgconn = connection.pgconn
    severities: list[bytes | None] = []
    handler = pgconn.notice_handler

    def hear(notice: Any) -> None:
        severities.append(notice.error_field(_SEVERITY))  # now: libpq takes it back afterwards
        handler(notice)

    pgconn.notice_handler = hear
    try:
        for _ in range(_READS):
            if pgconn.status == _BAD or not record.poll(0):
                break
            pgconn.consume_input()
            _notify(pgconn)
    except psycopg.OperationalError:
        pass  # the end: the status says so
    finally:
        pgconn.notice_handler = handler
    return b"FATAL" in severities or b"PANIC" in severities


def _notify(pgconn: Any) -> None:
    while notification := pgconn.notifies():
        pgconn.notify_handler(notification)


def _facts(connection: Any, record: Record, gen: Any, step: str) -> Facts:
    owner = _owner(gen)
    in_block = isinstance(owner, BaseTransaction)
    return Facts(
        step=step,
        in_transaction=record.phase != _IDLE,
        aborted=record.phase == _INERROR,
        begins=record.under_way("begins"),
        in_doubt=record.under_way("in_doubt"),
        rolls_back=(record.under_way("rolls_back") and not record.under_way("several")) or _is_rollback(gen, step),
        several=record.under_way("several"),
        pipelined=connection._pipeline is not None and connection._pipeline.level > 0,
        outermost=in_block and (owner._outer_transaction or (step == "_enter_gen" and record.phase == _IDLE)),
        unwinding=in_block and step == "_exit_gen" and _rolls_back(gen, owner),
    )


def _is_rollback(gen: Any, step: str) -> bool:
    """Tell whether a statement that has not begun is a ROLLBACK as SQL text."""
    frame = getattr(gen, "gi_frame", None)
    query = frame.f_locals.get("query") if frame and step == "_execute_gen" else None
    effects = postgresql.scan(query) if isinstance(query, str) else None
    return effects is not None and effects.rolls_back and not effects.several


def _owner(gen: Any) -> Any:
    """Return the object whose generator method `gen` is; None where that cannot be seen any more."""
    frame = getattr(gen, "gi_frame", None)
    return frame.f_locals.get("self") if frame else None


def _rolls_back(gen: Any, owner: Any) -> bool:
    return gen.gi_frame.f_locals.get("exc_val") is not None or owner.force_rollback


def repaired(connection: Any, record: Record, loss: Loss, news: FailoverError | None) -> None:
    """Go on after a switch. What the app is told is kept for those who go on with what is stale."""
    if loss.transaction == "unknown":
        connection._tpc = None  # whatever became of it, it is not this session's any more
    if news is not None:
        record.last_error = news
        record.pipeline_error = news if _is_stale(connection) else None
    record.refresh()


def adapted(connection: Any, record: Record, gen: Any, switched: bool) -> Any:
    """Fit a step to what was found: a switch just now, a time limit, a pipeline block that is stale."""
    owner = _owner(gen)
    if switched and owner is not None and hasattr(owner, "pgconn"):
        owner.pgconn = connection.pgconn  # made for the old physical connection, not begun yet
    if getattr(gen, "__name__", "") == "_rollback_gen" and _is_stale(connection):
        gen.close()
        gen = rollback_alone(connection)
    if record.deadline is None:
        return gen
    if isinstance(connection, AsyncConnection):
        return _bounded(gen, record.deadline)
    return _blocking(gen, connection.pgconn.socket, record.deadline)


def rollback_alone(connection: Any) -> Generator[Any, Any, None]:
    """Roll back on the physical connection itself, whatever pipeline block is still open."""
    pipeline, connection._pipeline = connection._pipeline, None
    try:
        yield from connection._exec_command(b"ROLLBACK")
    finally:
        connection._pipeline = pipeline


def _blocking(gen: Any, descriptor: int, deadline: float) -> Generator[Any, Any, Any]:
    """Run `gen` to its end here, never yielding: before 3.2.2 psycopg's sync wait does not come back in between.

    Raises:
        OperationalError: the time is up.
    """
    try:
        wanted = next(gen)
        while True:
            with selectors.DefaultSelector() as selector:
                selector.register(descriptor, wanted)  # psycopg's READ and WRITE are those of selectors
                ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise psycopg.OperationalError(_TOO_LATE)
            wanted = gen.send(ready[0][1])
    except StopIteration as end:
        return end.value
    yield  # a generator, as psycopg expects


def _bounded(gen: Any, deadline: float) -> Generator[Any, Any, Any]:
    """Go on with `gen` until `deadline`: psycopg comes back at least every 0.1 s.

    Raises:
        OperationalError: the time is up.
    """
    ready = None
    try:
        while True:
            ready = yield gen.send(ready)
            if not ready and time.monotonic() >= deadline:
                raise psycopg.OperationalError(_TOO_LATE)
    except StopIteration as end:
        return end.value


# --- after ------------------------------------------------------------------------------------------------------


def after(
    driver: Driver, flows: Flows, connection: Any, record: Record, step: str, error: psycopg.Error
) -> Loss | None:
    """A step raised: say what loss it is, None where the driver's error is to pass."""
    if isinstance(error, FailoverError):
        if step == "_tpc_prepare_gen" and connection._tpc:
            connection._tpc = (connection._tpc[0], False)  # refused, not prepared: tpc_rollback() is a ROLLBACK
        return None
    if connection.pgconn.status != _BAD and error.diag.severity_nonlocalized not in _LAST_WORDS:
        return _refused(connection, record, step, error)
    facts = _facts_after(connection, record, step, error)
    loss = losses.found_while_under_way(facts, error)
    if connection._closed or loss is None:
        return None
    if record.switchable:
        return loss
    if not (record.loss_told or record.foreign or record.internal or record.returning):
        record.loss_told = True
        flows.observe_loss(driver, connection, record, loss)
    return None


def _facts_after(connection: Any, record: Record, step: str, error: BaseException) -> Facts:
    """What is known once the generator has ended: its owner is found in the traceback."""
    return _facts(connection, record, _Ended(_frame(error, step)), step)


class _Ended:
    """A generator that has raised, as far as its frame is still in the traceback."""

    def __init__(self, frame: Any) -> None:
        self.gi_frame = frame


def _frame(error: BaseException, step: str) -> Any:
    return next((tb.tb_frame for tb in _chain(error.__traceback__) if tb.tb_frame.f_code.co_name == step), None)


def _chain(traceback: TracebackType | None) -> Generator[TracebackType, None, None]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _refused(connection: Any, record: Record, step: str, error: psycopg.Error) -> Loss | None:
    """The connection is alive: the statement was refused, by the server or because what it belongs to is stale."""
    stale = record.last_error is not None and _belongs_to_old(connection, error)
    facts = _facts_after(connection, record, step, error)
    record.refused()
    if stale and record.last_error is not None:
        raise again(record.last_error) from error
    if record.switchable and error.sqlstate == postgresql.READ_ONLY_SQL_TRANSACTION and _demoted(connection, record):
        return losses.found_demoted(facts, error)
    return None


def _belongs_to_old(connection: Any, error: BaseException) -> bool:
    """Tell whether the error comes from a COPY that began on a physical connection which was replaced."""
    frames = [tb.tb_frame for tb in _chain(error.__traceback__) if tb.tb_frame.f_code.co_name in _COPIES]
    return any(frame.f_locals.get("pgconn") is not connection.pgconn for frame in frames)


def _demoted(connection: Any, record: Record) -> bool:
    """Tell whether the server is a standby while the app did not ask for read-only."""
    asked = connection._read_only or record.asked_read_only or record.wanted in _STANDBYS
    return not asked and connection.pgconn.parameter_status(b"in_hot_standby") == b"on"


def once_more(step: str, error: BaseException) -> Any:
    """After a silent switch in the middle of a step: what is still to be run, None where nothing is.

    Only what certainly has not run: a statement that a standby refused, and a ROLLBACK (of nothing, now).
    """
    frame = _frame(error, step)
    if step != "_execute_gen" or frame is None:
        return None
    given = frame.f_locals
    return given["self"]._execute_gen(
        given["query"], given["params"], prepare=given.get("prepare"), binary=given.get("binary")
    )


def answered(connection: Any, record: Record, step: str) -> Loss | None:
    """A step went well: keep what it did. psycopg hides a loss while it rolls a block back; it is found here."""
    status = connection.pgconn.transaction_status
    if status == _UNKNOWN and step == "_exit_gen" and not connection._closed and record.switchable:
        outermost = record.under_way("rolls_back")
        record.settle(for_good=False)
        return Loss(transaction="rolled_back", refuse=not outermost, silent=outermost, later=True)
    if record.lost is not None and status not in (_INERROR, _ACTIVE, _UNKNOWN):
        record.lost = None  # rolled back
        record.refresh()
    if status != _ACTIVE:
        record.settle(for_good=status == _IDLE)
    return None
