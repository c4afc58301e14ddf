"""What was under way, read from psycopg's generators and from the frames of an error's traceback.

Looks, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from types import TracebackType
from typing import Any, Final

from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.drivers.engine.loss_rules import Facts
from instrumented_wrapper.drivers.engine.request import Request, TransactionStatus
from instrumented_wrapper.drivers.psycopg.private_api import BaseTransaction
from instrumented_wrapper.drivers.psycopg.query_text import effects_of_step
from instrumented_wrapper.drivers.psycopg.records import Record

_IDLE, _INERROR = TransactionStatus.IDLE, TransactionStatus.INERROR
_COPIES: Final = ("copy_from", "copy_to", "copy_end")
# Waits that send nothing (where no transaction is open), or that only listen: they never start a switch.
LISTENING_STEPS: Final = frozenset(
    "notifies _set_autocommit_gen _set_isolation_level_gen _set_read_only_gen _set_deferrable_gen".split()
)
_ONLY_IN_TRANSACTIONS: Final = ("_commit_gen", "_close_gen")
_REQUESTS: Final = {
    **dict.fromkeys(LISTENING_STEPS, Request.LISTEN),
    "_commit_gen": Request.COMMIT,
    "_rollback_gen": Request.ROLLBACK,
    "rollback_alone": Request.ROLLBACK,
    "_tpc_prepare_gen": Request.TWO_PHASE,
}


def is_pending(connection: Any) -> bool:
    """Return True if statements wait in a pipeline: not sent, or not answered yet."""
    pipeline = connection._pipeline
    return pipeline is not None and bool(pipeline.command_queue or pipeline.result_queue)


def is_quiet(connection: Any) -> bool:
    """Return True if no transaction is open and nothing waits: a commit sends nothing."""
    idle = connection.pgconn.transaction_status == _IDLE
    return idle and (connection._pipeline is None or not is_pending(connection))


def facts_of(connection: Any, record: Record, gen: object, step: str) -> Facts:
    """Return the facts of a step before it begins, or of one whose frame still exists."""
    owner = owner_of(gen)
    in_block = isinstance(owner, BaseTransaction)
    several = record.under_way("several")
    rolls_back, begins = record.under_way("rolls_back"), record.under_way("begins")
    text = effects_of_step(gen, step)
    ends = record.under_way("outcome_unknown_if_lost")
    pipelined = connection._pipeline is not None and connection._pipeline.level > 0
    in_transaction = record.transaction_status != _IDLE
    return Facts(
        request_of(step, sends=in_transaction or begins or ends),
        in_transaction=in_transaction,
        aborted=record.transaction_status == _INERROR,
        begins=begins,
        outcome_unknown_if_lost=ends,
        prepared=any(
            effects.outcome_unknown_if_lost and not (effects.steps or effects.begins) for effects in record.in_flight
        ),
        rolls_back=(record.under_way("gives_up") and not several) or (text is not None and text.gives_up),
        goes_on=rolls_back and (several or pipelined),
        several=several,
        atomic=postgresql.CAPABILITIES.runs_text_atomically,
        alone=len(record.in_flight) == 1 and not several,
        repeatable=step == "_execute_gen",
        pipelined=pipelined,
        outermost=in_block
        and (owner._outer_transaction or (step == "_enter_gen" and record.transaction_status == _IDLE)),
        unwinding=in_block and step == "_exit_gen" and _rolls_back(gen, owner),
    )


def request_of(step: str, sends: bool = True) -> Request:
    """Return the kind of request; psycopg's commit() `sends` nothing outside a transaction, except in a pipeline.

    Nor does a server cursor that is closed there start a switch: it has ended with its session.
    """
    if step in _ONLY_IN_TRANSACTIONS and not sends:
        return Request.LISTEN
    return _REQUESTS.get(step, Request.STATEMENT)


def owner_of(gen: object) -> Any:
    """Return the object whose generator method `gen` is; None where that cannot be seen any more."""
    frame = getattr(gen, "gi_frame", None)
    return frame.f_locals.get("self") if frame else None


def _rolls_back(gen: Any, owner: Any) -> bool:
    return gen.gi_frame.f_locals.get("exc_val") is not None or owner.force_rollback


def facts_after(connection: object, record: Record, step: str, error: BaseException) -> Facts:
    """Return the facts of a step whose generator has ended, from the traceback of its error."""
    return facts_of(connection, record, _Ended(frame_of(error, step)), step)


class _Ended:
    """A generator that has raised, as far as its frame is still in the traceback."""

    def __init__(self, frame: Any) -> None:
        self.gi_frame = frame


def frame_of(error: BaseException, step: str) -> Any:
    """Return the frame of the generator `step` out of an error's traceback, None where it is not in it."""
    return next((tb.tb_frame for tb in _chain(error.__traceback__) if tb.tb_frame.f_code.co_name == step), None)


def _chain(traceback: TracebackType | None) -> Generator[TracebackType, None, None]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def belongs_to_old(connection: Any, error: BaseException) -> bool:
    """Return True if the error comes from a COPY that began on a physical connection which was replaced."""
    frames = [tb.tb_frame for tb in _chain(error.__traceback__) if tb.tb_frame.f_code.co_name in _COPIES]
    return any(frame.f_locals.get("pgconn") is not connection.pgconn for frame in frames)
