"""What the statements do that end a transaction: COMMIT, ROLLBACK, and those of two-phase transactions (XA)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from instrumented_wrapper.databases.mysql.settings import SAID
from instrumented_wrapper.databases.mysql.state import NEXT
from instrumented_wrapper.databases.mysql.tokens import Token
from instrumented_wrapper.statement import BEGIN, COMMIT, OUTLIVES, ROLLBACK, ROLLBACK_TO, Effects, Step


def commit(statement: Sequence[Token], words: list[str]) -> Effects:
    """Return what a COMMIT does."""
    return Effects(
        steps=(Step(COMMIT, _told_to(words)), *_chained(words)), outcome_unknown_if_lost=True, clears=(NEXT,)
    )


def rollback(statement: Sequence[Token], words: list[str]) -> Effects:
    """Return what a ROLLBACK does, of the transaction or to a savepoint."""
    if "to" in words:
        return Effects(steps=(Step(ROLLBACK_TO, statement[-1].text.lower()),))
    return Effects(steps=(Step(ROLLBACK, _told_to(words)), *_chained(words)), rolls_back=True, clears=(NEXT,))


def _told_to(words: list[str]) -> str:
    """Return the name of an end that ``completion_type`` does not decide about: its text does."""
    releases = "release" in words and ("no", "release") not in pairwise(words)
    return SAID if releases or "chain" in words else ""


def _chained(words: list[str]) -> tuple[Step, ...]:
    chained = any(pair == ("and", "chain") for pair in pairwise(words))
    return (Step(BEGIN),) if chained else ()


def xa(statement: Sequence[Token], words: list[str]) -> Effects:
    """Return what a statement of a two-phase transaction does."""
    verb = words[1] if len(words) > 1 else ""
    if verb in ("start", "begin"):
        return Effects(steps=(Step(BEGIN),), begins=True)
    if verb == "prepare":
        return Effects(steps=(Step(COMMIT, OUTLIVES),), outcome_unknown_if_lost=True)
    if words[-2:] == ["one", "phase"]:
        return Effects(steps=(Step(COMMIT),), outcome_unknown_if_lost=True)
    if verb == "commit":  # of what is prepared: it has no session any more
        return Effects(outcome_unknown_if_lost=True)
    return Effects(steps=(Step(ROLLBACK),), rolls_back=True) if verb == "rollback" else Effects()
