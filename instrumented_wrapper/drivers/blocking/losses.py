"""What a lost physical connection means for the call that was under way: the table of section 4 of the contract.

Pure: facts in, a `Loss` or None out. None: it is not ours, the driver's own error passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from instrumented_wrapper.failover import Loss

__all__ = ["Call", "Facts", "found_before_sending", "found_demoted", "found_while_under_way"]


class Call(Enum):
    """What the app calls: something that sends a statement, or one of those that end a transaction.

    ``READING`` reads what the last statement has left to be read; ``LAST`` ends a two-phase transaction.
    """

    STATEMENT = "statement"
    READING = "reading"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known at the call.

    Attributes:
        call: what it is.
        open: a transaction was open when the server was last heard.
        failed: that one had failed already.
        begins: the call opens one, by its text or because the driver does so for any statement.
        prepared: its text ends one that is prepared, which has no session any more.
        in_doubt: its text ends one in a way whose outcome is unknown if the answer is lost.
        rolls_back: its text rolls back the whole transaction, and does nothing else.
        goes_on: it rolls back, and does more.
        several: it is more than one statement, or the rest of one: some of it may have run.
    """

    call: Call
    open: bool = False
    failed: bool = False
    begins: bool = False
    prepared: bool = False
    in_doubt: bool = False
    rolls_back: bool = False
    goes_on: bool = False
    several: bool = False

    @property
    def rolling_back(self) -> bool:
        """The app gives the transaction up: that succeeds, whatever happened to the connection."""
        return self.call is Call.ROLLBACK or self.rolls_back

    @property
    def unknown(self) -> bool:
        """A COMMIT may have been carried out; of a transaction that has failed it is a rollback, for certain."""
        ends = self.in_doubt or self.call is Call.COMMIT
        whole = self.open or (self.begins and self.several)
        return self.call is Call.LAST or self.prepared or (ends and whole and not (self.failed and not self.several))


def found_before_sending(facts: Facts) -> Loss | None:
    """The end of the connection was seen before anything was sent."""
    if facts.rolling_back:
        return Loss(transaction="rolled_back" if facts.open else "none", silent=True, later=True)
    if facts.call is Call.LAST:
        return _rolled_back(None) if facts.open else Loss(silent=False)
    return _rolled_back(None) if facts.open else Loss(silent=True)


def found_while_under_way(facts: Facts, cause: BaseException | None) -> Loss | None:
    """The connection ended after something was sent."""
    if facts.rolling_back:
        return Loss(transaction="rolled_back" if facts.open else "none", silent=True, later=True, cause=cause)
    if facts.unknown:
        return Loss(transaction="unknown", may_have_run=True, cause=cause)
    if facts.call is Call.COMMIT and not facts.open:
        return Loss(silent=True, cause=cause)  # there was nothing to commit
    if (facts.open or facts.begins) and not facts.goes_on:
        return _rolled_back(cause)
    return Loss(may_have_run=True, cause=cause)


def found_demoted(facts: Facts, cause: BaseException) -> Loss:
    """The server refused a write because it is a standby now: nothing of that statement has run."""
    if facts.several and facts.in_doubt and (facts.open or facts.begins):
        return Loss("demoted", "unknown", may_have_run=True, cause=cause)  # a COMMIT may have come before it
    if facts.open or (facts.begins and facts.several):
        return _rolled_back(cause, "demoted")
    return Loss(trigger="demoted", silent=not facts.several, may_have_run=facts.several, cause=cause)


def _rolled_back(cause: BaseException | None, trigger: str = "connection_lost") -> Loss:
    return Loss(trigger, "rolled_back", refuse=True, cause=cause)
