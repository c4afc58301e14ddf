"""`drivers/engine/loss_rules`: section 4 of the contract, row by row, as facts in and a `Loss` out."""

from __future__ import annotations

import itertools

import pytest

from instrumented_wrapper.drivers.engine.loss_rules import (
    Facts,
    found_before_sending,
    found_demoted,
    found_while_under_way,
)
from instrumented_wrapper.drivers.engine.request import Request
from instrumented_wrapper.failover import Loss

CAUSE = ValueError("from the driver")
LOST = "connection_lost"

STATEMENT, READ, COMMIT = Request.STATEMENT, Request.READ, Request.COMMIT
ROLLBACK, TWO_PHASE, LISTEN = Request.ROLLBACK, Request.TWO_PHASE, Request.LISTEN

# the row, the facts, what it means
BEFORE = [
    ("no transaction open, nothing sent yet", Facts(STATEMENT), Loss(silent=True)),
    ("a fetch from the server", Facts(READ), Loss(silent=True)),
    ("a transaction() block begins", Facts(STATEMENT, outermost=True), Loss(silent=True)),
    ("within a pipeline block", Facts(STATEMENT, pipelined=True), Loss(may_have_run=True)),
    ("found dead while idle in a transaction", Facts(STATEMENT, True), "refused"),
    ("the same, already failed", Facts(STATEMENT, True, aborted=True), "refused"),
    ("a COMMIT found dead before it was sent", Facts(COMMIT, True), "refused"),
    ("a COMMIT with nothing to commit", Facts(COMMIT), Loss(silent=True)),
    ("the outermost block ends well", Facts(STATEMENT, True, outermost=True), "rolled back"),
    ("an inner block ends well", Facts(STATEMENT, True), "refused"),
    ("rollback()", Facts(ROLLBACK, True), "silent"),
    ("rollback() of nothing", Facts(ROLLBACK), Loss(silent=True, later=True)),
    ("ROLLBACK as text", Facts(STATEMENT, True, rolls_back=True), "silent"),
    ("the outermost block rolls back", Facts(STATEMENT, True, outermost=True, unwinding=True), "silent"),
    ("an inner block rolls back", Facts(STATEMENT, True, unwinding=True), "refused later"),
    ("COMMIT PREPARED as text", Facts(STATEMENT), Loss(silent=True)),
    ("a two-phase transaction is prepared", Facts(TWO_PHASE, True), "refused"),
    ("a prepared one is committed by the driver that prepared it", Facts(TWO_PHASE), Loss()),
]

UNDER_WAY = [
    ("a statement in autocommit", Facts(STATEMENT), Loss(may_have_run=True, cause=CAUSE)),
    ("a fetch from the server", Facts(READ, several=True), Loss(may_have_run=True, cause=CAUSE)),
    ("a pipeline", Facts(STATEMENT, pipelined=True), Loss(may_have_run=True, cause=CAUSE)),
    ("inside a transaction", Facts(STATEMENT, True), "refused"),
    ("inside one that had failed", Facts(STATEMENT, True, aborted=True), "refused"),
    ("its first statement in non-autocommit mode", Facts(STATEMENT, begins=True), "refused"),
    ("BEGIN of the outermost block", Facts(STATEMENT, begins=True, outermost=True), "rolled back"),
    ("rollback()", Facts(ROLLBACK, True), "silent"),
    ("rollback() of nothing", Facts(ROLLBACK), Loss(silent=True, later=True, cause=CAUSE)),
    ("ROLLBACK as text", Facts(STATEMENT, True, rolls_back=True), "silent"),
    ("ROLLBACK and more in one text", Facts(STATEMENT, True, goes_on=True), Loss(may_have_run=True, cause=CAUSE)),
    ("the outermost block rolls back", Facts(STATEMENT, True, outermost=True, unwinding=True), "silent"),
    ("an inner block rolls back", Facts(STATEMENT, True, unwinding=True), "refused later"),
    ("commit()", Facts(COMMIT, True, outcome_unknown_if_lost=True), "unknown"),
    ("commit() of nothing", Facts(COMMIT, outcome_unknown_if_lost=True), Loss(silent=True, cause=CAUSE)),
    ("COMMIT as text", Facts(STATEMENT, True, outcome_unknown_if_lost=True), "unknown"),
    ("COMMIT of nothing as text", Facts(STATEMENT, outcome_unknown_if_lost=True), Loss(may_have_run=True, cause=CAUSE)),
    ("a block's exit", Facts(STATEMENT, True, outcome_unknown_if_lost=True, outermost=True), "unknown"),
    (
        "BEGIN; COMMIT as one text",
        Facts(STATEMENT, begins=True, outcome_unknown_if_lost=True, several=True, alone=False),
        "unknown",
    ),
    (
        "BEGIN, then a COMMIT, not answered",
        Facts(STATEMENT, begins=True, outcome_unknown_if_lost=True, alone=False),
        "unknown",
    ),
    (
        "COMMIT and ROLLBACK in one text",
        Facts(STATEMENT, True, rolls_back=True, outcome_unknown_if_lost=True),
        "unknown",
    ),
    ("PREPARE TRANSACTION as text", Facts(STATEMENT, True, outcome_unknown_if_lost=True), "unknown"),
    ("COMMIT PREPARED as text", Facts(STATEMENT, outcome_unknown_if_lost=True, prepared=True), "unknown"),
    ("a two-phase transaction is committed", Facts(TWO_PHASE, outcome_unknown_if_lost=True, prepared=True), "unknown"),
    ("a COMMIT of what had failed", Facts(COMMIT, True, aborted=True, outcome_unknown_if_lost=True), "refused"),
]

DEMOTED = [
    ("a write in autocommit", Facts(STATEMENT), Loss("demoted", silent=True, cause=CAUSE)),
    ("a write in a pipeline", Facts(STATEMENT, pipelined=True), Loss("demoted", cause=CAUSE)),
    ("COPY", Facts(STATEMENT, repeatable=False), Loss("demoted", cause=CAUSE)),
    ("in a transaction", Facts(STATEMENT, True), "refused"),
    ("the first statement of one", Facts(STATEMENT, begins=True), Loss("demoted", silent=True, cause=CAUSE)),
    ("several statements that begin one", Facts(STATEMENT, begins=True, several=True), "refused"),
    ("several statements", Facts(STATEMENT, several=True), Loss("demoted", may_have_run=True, cause=CAUSE)),
    ("several, as one transaction", Facts(STATEMENT, several=True, atomic=True), Loss("demoted", cause=CAUSE)),
    (
        "several, a COMMIT among them",
        Facts(STATEMENT, True, outcome_unknown_if_lost=True, several=True, atomic=True),
        "unknown",
    ),
]


def meaning(expected, trigger, cause):
    """Spell out the words of the tables above."""
    words = {
        "refused": Loss(trigger, "rolled_back", refuse=True, cause=cause),
        "refused later": Loss(trigger, "rolled_back", refuse=True, later=True, cause=cause),
        "rolled back": Loss(trigger, "rolled_back", cause=cause),
        "silent": Loss(trigger, "rolled_back", silent=True, later=True, cause=cause),
        "unknown": Loss(trigger, "unknown", may_have_run=True, cause=cause),
    }
    return words[expected] if isinstance(expected, str) else expected


def rows(table):
    return [pytest.param(*row[1:], id=row[0]) for row in table]


@pytest.mark.parametrize(("facts", "expected"), rows(BEFORE))
def test_found_before_sending(facts, expected):
    assert found_before_sending(facts) == meaning(expected, LOST, None)


@pytest.mark.parametrize(("facts", "expected"), rows(UNDER_WAY))
def test_found_while_under_way(facts, expected):
    assert found_while_under_way(facts, CAUSE) == meaning(expected, LOST, CAUSE)


@pytest.mark.parametrize(("facts", "expected"), rows(DEMOTED))
def test_found_demoted(facts, expected):
    assert found_demoted(facts, CAUSE) == meaning(expected, "demoted", CAUSE)


IN_DOUBT = [
    ("a COMMIT", Facts(COMMIT, True, outcome_unknown_if_lost=True), "unknown"),
    ("a statement in autocommit", Facts(STATEMENT), Loss("demoted", may_have_run=True, cause=CAUSE)),
    ("a statement in a transaction", Facts(STATEMENT, True), "refused"),
]


@pytest.mark.parametrize(("facts", "expected"), rows(IN_DOUBT))
def test_found_demoted_within_a_commit(facts, expected):
    assert found_demoted(facts, CAUSE, in_doubt=True) == meaning(expected, "demoted", CAUSE)


def test_a_request_that_only_listens_never_starts_a_switch():
    for in_transaction in (False, True):
        assert found_before_sending(Facts(LISTEN, in_transaction)) is None
        assert found_while_under_way(Facts(LISTEN, in_transaction), CAUSE) is None


NAMES = [
    *("in_transaction", "aborted", "begins", "outcome_unknown_if_lost", "rolls_back", "several", "atomic"),
    *("pipelined", "outermost", "unwinding"),
]


def possible(facts):
    """Leave out what cannot be: a transaction that failed is one that is open."""
    return facts.in_transaction or not facts.aborted


ALL = [
    facts
    for request in Request
    for values in itertools.product([False, True], repeat=len(NAMES))
    if possible(facts := Facts(request, **dict(zip(NAMES, values, strict=True))))
]


def test_laws_that_hold_for_all_facts():
    for facts in ALL:
        for loss in (found_before_sending(facts), found_while_under_way(facts, CAUSE), found_demoted(facts, CAUSE)):
            if loss is None:
                continue
            assert loss.transaction in ("none", "rolled_back", "unknown")
            assert not (loss.transaction == "rolled_back" and loss.may_have_run), facts
            assert not (loss.silent and loss.refuse), facts
            assert not (loss.silent and loss.may_have_run), facts
            assert not (loss.silent and loss.transaction == "unknown"), facts


def test_nothing_sent_is_in_doubt_only_for_what_came_before():
    """A COMMIT of an earlier step, interrupted or waiting in a pipeline, may have been sent."""
    for facts in ALL:
        loss = found_before_sending(facts)
        assert loss is None or (loss.transaction == "unknown") == facts.unknown
        assert loss is None or loss.may_have_run <= (facts.pipelined or facts.unknown)


def test_what_was_sent_outside_a_rollback_is_never_silent():
    for facts in ALL:
        loss = found_while_under_way(facts, CAUSE)
        nothing = facts.rolling_back or (facts.request is COMMIT and not facts.in_transaction)
        assert loss is None or not loss.silent or nothing


def test_a_lost_transaction_that_goes_on_is_refused():
    """Unless the app is rolling back, or the block that was the transaction ends with an error."""
    for facts in ALL:
        if facts.in_transaction and not (
            facts.rolling_back or facts.outermost or facts.unknown or facts.request is LISTEN
        ):
            loss = found_before_sending(facts)
            assert loss is not None and loss.refuse, facts
