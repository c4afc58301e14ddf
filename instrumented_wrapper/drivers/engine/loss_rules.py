"""What a connection loss means for the request that was under way: the table of section 4 of the contract.

Pure: facts in, a `Loss` or None out. With None the driver's own error passes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from instrumented_wrapper.drivers.engine.request import Request
from instrumented_wrapper.failover import Loss


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about a request, the transaction, and what was sent without an answer.

    Attributes:
        request: the kind of the call.
        in_transaction: a transaction was open after the last response.
        aborted: that transaction had failed.
        begins: what was sent begins a transaction, by its text or because the driver begins one for any statement.
        outcome_unknown_if_lost: what was sent ends a transaction, and its outcome is unknown if the response is lost.
        prepared: what was sent ends a prepared transaction, which belongs to no session.
        rolls_back: the request, or what was sent, rolls back the whole transaction and does nothing else.
        goes_on: what was sent rolls back, and then does more outside that transaction.
        several: more than one statement was sent in one text, or rows are read: a part may have run.
        atomic: the server runs the statements of one text as one transaction, unless the text ends it.
        alone: a single statement was sent.
        repeatable: the wrapper can send the request again.
        pipelined: a pipeline is open, in which earlier statements may wait.
        outermost: the request enters or leaves a block that is the whole transaction.
        unwinding: the request leaves a block that rolls back.
    """

    request: Request
    in_transaction: bool = False
    aborted: bool = False
    begins: bool = False
    outcome_unknown_if_lost: bool = False
    prepared: bool = False
    rolls_back: bool = False
    goes_on: bool = False
    several: bool = False
    atomic: bool = False
    alone: bool = True
    repeatable: bool = True
    pipelined: bool = False
    outermost: bool = False
    unwinding: bool = False

    @property
    def rolling_back(self) -> bool:
        """Return True if the app gives the transaction up, which succeeds whatever happened to the connection.

        Within a pipeline it does not: the statements that wait in it would be dropped without an error.
        """
        by_request = self.request is Request.ROLLBACK or (self.unwinding and self.outermost)
        return not self.pipelined and (by_request or self.rolls_back)

    @property
    def unknown(self) -> bool:
        """Return True if a COMMIT that was sent may have been carried out.

        A lone COMMIT of an aborted transaction is certainly a rollback. One without a transaction ends nothing.
        """
        if self.prepared:
            return True
        whole = self.in_transaction or self.pipelined or (self.begins and not self.alone)
        return self.outcome_unknown_if_lost and whole and not (self.aborted and self.alone and not self.pipelined)

    @property
    def may_have_run_in_part(self) -> bool:
        """Return True if the server may have kept the first of several statements when it refused a later one."""
        return self.several and (self.outcome_unknown_if_lost or not self.atomic)


def found_before_sending(facts: Facts) -> Loss | None:
    """Return the loss if the connection had ended before the request sent anything.

    What was sent and not answered is then of an earlier request, which was interrupted or waits in a pipeline.
    """
    in_transaction = facts.in_transaction or facts.begins
    if facts.request is Request.LISTEN:
        return None
    if facts.unknown:
        return Loss(transaction="unknown", may_have_run=True)
    if facts.goes_on:
        return Loss(may_have_run=True)
    if facts.rolling_back:
        return _given_up(in_transaction)
    if in_transaction:
        return _rolled_back(facts)
    keeps_state = facts.request is Request.TWO_PHASE
    return Loss(silent=not (facts.pipelined or keeps_state), may_have_run=facts.pipelined)


def found_while_under_way(facts: Facts, cause: BaseException | None) -> Loss | None:
    """Return the loss if the connection ended after something was sent, or while an answer was awaited."""
    in_transaction = facts.in_transaction or facts.begins
    if facts.request is Request.LISTEN:
        return None
    if facts.rolling_back and not facts.outcome_unknown_if_lost:
        return _given_up(in_transaction, cause)
    if facts.unknown:
        return Loss(transaction="unknown", may_have_run=True, cause=cause)
    if facts.request is Request.COMMIT and not facts.in_transaction:
        return Loss(silent=True, cause=cause)  # there was nothing to commit
    if in_transaction and not facts.goes_on:
        return _rolled_back(facts, cause)
    return Loss(may_have_run=True, cause=cause)


def found_demoted(facts: Facts, cause: BaseException, in_doubt: bool = False) -> Loss:
    """Return the loss if the server refused a write because it is a standby now: that statement has not run.

    `in_doubt`: the server failed while it carried the statement out, and the rest of its cluster may have it.
    """
    if in_doubt and (loss := found_while_under_way(facts, cause)) is not None:
        return replace(loss, trigger="demoted")
    if facts.may_have_run_in_part and facts.outcome_unknown_if_lost and (facts.in_transaction or facts.begins):
        return Loss("demoted", "unknown", may_have_run=True, cause=cause)  # a COMMIT may have come before it
    if facts.in_transaction or (facts.begins and facts.several):
        return _rolled_back(facts, cause, "demoted")
    again = facts.repeatable and not (facts.pipelined or facts.several)
    return Loss("demoted", silent=again, may_have_run=facts.may_have_run_in_part, cause=cause)


def _given_up(in_transaction: bool, cause: BaseException | None = None) -> Loss:
    return Loss(transaction="rolled_back" if in_transaction else "none", silent=True, later=True, cause=cause)


def _rolled_back(facts: Facts, cause: BaseException | None = None, trigger: str = "connection_lost") -> Loss:
    """Return the loss of a transaction. If a block was the whole transaction, nothing remains to be rolled back."""
    refuse = not facts.outermost
    return Loss(trigger, "rolled_back", refuse=refuse, later=facts.unwinding and refuse, cause=cause)
