"""`drivers/psycopg/losses`: section 4 of the contract, row by row, as facts in and a `Loss` out."""

from __future__ import annotations

import itertools

import pytest

from instrumented_wrapper.drivers.psycopg.losses import (
    SILENT_STEPS,
    Facts,
    found_before_sending,
    found_demoted,
    found_while_under_way,
)
from instrumented_wrapper.failover import Loss

CAUSE = ValueError("from the driver")
LOST = "connection_lost"

# the row, the facts, what it means
BEFORE = [
    ("no transaction open, nothing sent yet", Facts("_execute_gen"), Loss(silent=True)),
    ("executemany", Facts("_executemany_gen_no_pipeline"), Loss(silent=True)),
    ("COPY", Facts("_start_copy_gen"), Loss(silent=True)),
    ("stream", Facts("_stream_send_gen"), Loss(silent=True)),
    ("a transaction() block begins", Facts("_enter_gen", outermost=True), Loss(silent=True)),
    ("within a pipeline block", Facts("_execute_gen", pipelined=True), Loss(may_have_run=True)),
    ("found dead while idle in a transaction", Facts("_execute_gen", in_transaction=True), "refused"),
    ("the same, already failed", Facts("_execute_gen", in_transaction=True, aborted=True), "refused"),
    ("a COMMIT found dead before it was sent", Facts("_commit_gen", in_transaction=True), "refused"),
    ("a COMMIT with nothing to commit", Facts("_commit_gen"), None),
    ("the outermost block ends well", Facts("_exit_gen", in_transaction=True, outermost=True), "rolled back"),
    ("an inner block ends well", Facts("_exit_gen", in_transaction=True), "refused"),
    ("an inner block begins", Facts("_enter_gen", in_transaction=True), "refused"),
    ("rollback()", Facts("_rollback_gen", in_transaction=True), "silent"),
    ("rollback() beside a stale pipeline", Facts("rollback_alone", in_transaction=True), "silent"),
    ("ROLLBACK as text", Facts("_execute_gen", in_transaction=True, rolls_back=True), "silent"),
    ("the outermost block rolls back", Facts("_exit_gen", True, outermost=True, unwinding=True), "silent"),
    ("an inner block rolls back", Facts("_exit_gen", True, unwinding=True), "refused later"),
    ("a prepared transaction is committed", Facts("_tpc_finish_gen"), Loss(silent=True)),
]

UNDER_WAY = [
    ("a statement in autocommit", Facts("_execute_gen"), Loss(may_have_run=True, cause=CAUSE)),
    ("a fetch from the server", Facts("_fetch_gen"), Loss(may_have_run=True, cause=CAUSE)),
    ("COPY", Facts("copy_from"), Loss(may_have_run=True, cause=CAUSE)),
    ("a pipeline", Facts("_sync_gen", pipelined=True), Loss(may_have_run=True, cause=CAUSE)),
    ("inside a transaction", Facts("_execute_gen", in_transaction=True), "refused"),
    ("inside one that had failed", Facts("_execute_gen", in_transaction=True, aborted=True), "refused"),
    ("its first statement in non-autocommit mode", Facts("_execute_gen", begins=True), "refused"),
    ("BEGIN of the outermost block", Facts("_enter_gen", begins=True, outermost=True), "rolled back"),
    ("SAVEPOINT of an inner block", Facts("_enter_gen", in_transaction=True), "refused"),
    ("rollback()", Facts("_rollback_gen", in_transaction=True), "silent"),
    ("ROLLBACK as text", Facts("_execute_gen", in_transaction=True, rolls_back=True), "silent"),
    ("the outermost block rolls back", Facts("_exit_gen", True, outermost=True, unwinding=True), "silent"),
    ("an inner block rolls back", Facts("_exit_gen", True, unwinding=True), "refused later"),
    ("commit()", Facts("_commit_gen", in_transaction=True, in_doubt=True), "unknown"),
    ("COMMIT as text", Facts("_execute_gen", in_transaction=True, in_doubt=True), "unknown"),
    ("a block's exit", Facts("_exit_gen", in_transaction=True, in_doubt=True, outermost=True), "unknown"),
    ("BEGIN; COMMIT as one text", Facts("_execute_gen", begins=True, in_doubt=True), "unknown"),
    ("COMMIT and ROLLBACK in one text", Facts("_execute_gen", True, rolls_back=True, in_doubt=True), "unknown"),
    ("PREPARE TRANSACTION", Facts("_tpc_prepare_gen", in_transaction=True, in_doubt=True), "unknown"),
    ("COMMIT PREPARED", Facts("_tpc_finish_gen", in_doubt=True), "unknown"),
    ("a COMMIT of what had failed", Facts("_commit_gen", in_transaction=True, aborted=True, in_doubt=True), "refused"),
]

DEMOTED = [
    ("a write in autocommit", Facts("_execute_gen"), Loss("demoted", silent=True, cause=CAUSE)),
    ("a write in a pipeline", Facts("_execute_gen", pipelined=True), Loss("demoted", cause=CAUSE)),
    ("COPY", Facts("_start_copy_gen"), Loss("demoted", cause=CAUSE)),
    ("in a transaction", Facts("_execute_gen", in_transaction=True), "refused"),
    ("the first statement of one", Facts("_execute_gen", begins=True), Loss("demoted", silent=True, cause=CAUSE)),
    ("several statements", Facts("_execute_gen", several=True), Loss("demoted", cause=CAUSE)),
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


@pytest.mark.parametrize("step", sorted(SILENT_STEPS))
def test_getters_setters_and_listeners_never_start_a_switch(step):
    assert found_before_sending(Facts(step)) is None
    assert found_while_under_way(Facts(step), CAUSE) is None


STEPS = ["_execute_gen", "_commit_gen", "_rollback_gen", "_enter_gen", "_exit_gen", "_fetch_gen", "rollback_alone"]
NAMES = ["in_transaction", "aborted", "begins", "in_doubt", "rolls_back", "pipelined", "outermost", "unwinding"]


def possible(facts):
    """Leave out what cannot be: a transaction that failed is one that is open."""
    return facts.in_transaction or not facts.aborted


ALL = [
    facts
    for step in STEPS
    for values in itertools.product([False, True], repeat=len(NAMES))
    if possible(facts := Facts(step, **dict(zip(NAMES, values, strict=True))))
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
        assert loss is None or not loss.silent or facts.rolling_back


def test_a_lost_transaction_that_goes_on_is_refused():
    """Unless the app is rolling back, or the block that was the transaction ends with an error."""
    for facts in ALL:
        if facts.in_transaction and not (facts.rolling_back or facts.outermost or facts.unknown):
            loss = found_before_sending(facts)
            assert loss is not None and loss.refuse, facts
