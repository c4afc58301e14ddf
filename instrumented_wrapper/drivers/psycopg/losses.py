"""What a lost physical connection means for what was under way: the table of section 4 of the contract.

Pure: facts in, a `Loss` or None out. None: it is not ours, the driver's own error passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from instrumented_wrapper.failover import Loss

__all__ = ["Facts", "found_before_sending", "found_demoted", "found_while_under_way"]

# Waits that send nothing (where no transaction is open), or that only listen: they never start a switch.
SILENT_STEPS: Final = frozenset(
    "notifies ask_quietly _set_autocommit_gen _set_isolation_level_gen _set_read_only_gen _set_deferrable_gen".split()
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known at the choke point.

    Attributes:
        step: the name of psycopg's generator: ``_execute_gen``, ``_commit_gen``, ...
        in_transaction: one was open when the server was last heard.
        aborted: that one had already failed.
        begins: the lost step opened a transaction.
        in_doubt: it sent a COMMIT, a PREPARE TRANSACTION, or the like.
        rolls_back: it sent a ROLLBACK of the whole transaction and nothing else.
        goes_on: it sent a ROLLBACK and perhaps something after it, which ran outside the transaction.
        several: it sent more than one statement in one text.
        alone: what it sent is a single statement, as far as is known.
        pipelined: a pipeline block is open.
        outermost: the step ends or begins a ``transaction()`` block that is the transaction.
        unwinding: the step leaves a ``transaction()`` block that rolls back.
    """

    step: str
    in_transaction: bool = False
    aborted: bool = False
    begins: bool = False
    in_doubt: bool = False
    rolls_back: bool = False
    goes_on: bool = False
    several: bool = False
    alone: bool = True
    pipelined: bool = False
    outermost: bool = False
    unwinding: bool = False

    @property
    def rolling_back(self) -> bool:
        """The app gives the transaction up: that succeeds, whatever happened to the connection.

        Not in a pipeline: statements that wait in it would be given up with it, and nobody would hear of them.
        """
        by_method = self.step in ("_rollback_gen", "rollback_alone")
        return not self.pipelined and (by_method or self.rolls_back or (self.unwinding and self.outermost))

    @property
    def unknown(self) -> bool:
        """A COMMIT may have been carried out. A lone COMMIT of an aborted transaction is a rollback, for certain."""
        return self.in_doubt and not (self.aborted and self.alone and not self.pipelined)


def found_before_sending(facts: Facts) -> Loss | None:
    """The end of the connection was seen before anything was sent by this step.

    `begins` and `in_doubt` are then of an earlier one, which was interrupted or waits in a pipeline.
    """
    in_transaction = facts.in_transaction or facts.begins
    if facts.step in SILENT_STEPS:
        return None
    if facts.unknown:
        return Loss(transaction="unknown", may_have_run=True)
    if facts.step == "_commit_gen" and not in_transaction:
        return None
    if facts.goes_on:
        return Loss(may_have_run=True)
    if facts.rolling_back:
        return Loss(transaction="rolled_back" if in_transaction else "none", silent=True, later=True)
    if not in_transaction:
        return Loss(silent=not facts.pipelined, may_have_run=facts.pipelined)
    return _rolled_back(facts)


def found_while_under_way(facts: Facts, cause: BaseException | None) -> Loss | None:
    """The connection ended after something was sent, or while an answer was awaited."""
    if facts.step in SILENT_STEPS:
        return None
    if facts.rolling_back and not facts.in_doubt:
        return Loss(transaction="rolled_back", silent=True, later=True, cause=cause)
    if facts.unknown:
        return Loss(transaction="unknown", may_have_run=True, cause=cause)
    if (facts.in_transaction or facts.begins) and not facts.goes_on:
        return _rolled_back(facts, cause)
    return Loss(may_have_run=True, cause=cause)


def found_demoted(facts: Facts, cause: BaseException) -> Loss:
    """The server refused a write because it is a standby now: nothing of the statement has run."""
    if facts.in_transaction:
        return _rolled_back(facts, cause, "demoted")
    again = facts.step == "_execute_gen" and not (facts.pipelined or facts.several)
    return Loss(trigger="demoted", silent=again, cause=cause)


def _rolled_back(facts: Facts, cause: BaseException | None = None, trigger: str = "connection_lost") -> Loss:
    """A transaction is gone. A block whose entry failed or whose exit ends it leaves nobody to roll back."""
    refuse = not facts.outermost
    return Loss(trigger, "rolled_back", refuse=refuse, later=facts.unwinding and refuse, cause=cause)
