"""`session`: values and plans, and what statements may have left; against a plain model of a connection."""

from __future__ import annotations

from enum import Enum

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from instrumented_wrapper import SessionState, SettingState
from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.databases.postgresql import scan
from instrumented_wrapper.options import Options
from instrumented_wrapper.plans import Change
from instrumented_wrapper.session import Session


class Level(Enum):
    SERIALIZABLE = 4


@pytest.fixture
def session() -> Session:
    return Session(Options(), postgresql)


def change(session: Session, there: dict, name: str, value: object) -> None:
    """Do what the lifecycle does when the app sets something."""
    if not session.knows(name):
        session.fetched(name, there[name])
    there[name] = value
    session.changed_to(name, value)


def apply(there: dict, plan: tuple[Change, ...]) -> None:
    for step in plan:
        assert there[step.setting] == step.before
        there[step.setting] = step.after


# --- values and plans -------------------------------------------------------------------------------------------


def test_nothing_is_known_at_first(session):
    assert dict(session.snapshot()) == {}
    assert not session.changed
    assert session.reset_plan({}.__getitem__) == session.transfer_plan() == session.changed_settings() == ()
    assert session.pristine("a", "present") == "present"


def test_fetched_but_unchanged(session):
    session.fetched("a", 1)
    assert session.snapshot()["a"] == SettingState("a", 1, 1)
    assert session.snapshot()["a"].is_pristine
    assert not session.changed


def test_only_the_first_fetch_counts(session):
    session.fetched("a", 1)
    session.changed_to("a", 2)
    session.fetched("a", 3)
    assert session.snapshot()["a"] == SettingState("a", 2, 1)


@pytest.mark.parametrize(("pristine", "value"), [(None, False), (False, None), (None, True), (0, 1), ("a", "")])
def test_none_is_a_value(session, pristine, value):
    there = {"a": pristine}
    change(session, there, "a", value)
    assert session.changed_settings() == ("a",)
    assert session.transfer_plan() == (Change("a", pristine, value),)
    assert session.reset_plan(there.__getitem__) == (Change("a", value, pristine),)


def test_back_by_hand_is_pristine_again(session):
    there = {"a": 1, "b": 1}
    change(session, there, "a", 2)
    change(session, there, "b", 2)
    change(session, there, "a", 1)
    assert session.changed
    assert session.changed_settings() == ("b",)
    change(session, there, "b", 1)
    assert not session.changed
    assert session.reset_plan(there.__getitem__) == ()


def test_a_reset_compares_with_what_is_there(session):
    """What the app changed behind our back, back or further away."""
    there = {"a": 1, "b": 1}
    change(session, there, "a", 2)
    change(session, there, "b", 2)
    assert session.reset_plan({"a": 1, "b": 3}.__getitem__) == (Change("b", 3, 1),)


def test_a_snapshot_stays_as_it_was(session):
    there = {"a": 1}
    change(session, there, "a", 2)
    before = session.snapshot()
    change(session, there, "a", 3)
    session.forget()
    assert before["a"].value == 2


def test_mark_pristine_takes_what_is_there(session):
    there = {"a": 1, "b": 1}
    change(session, there, "a", 2)
    change(session, there, "b", 2)
    there["b"] = 5
    session.mark_pristine(there.__getitem__)
    assert dict(session.snapshot()) == {"a": SettingState("a", 2, 2), "b": SettingState("b", 5, 5)}
    assert not session.changed
    assert session.pristine("b", 9) == 5


def test_mark_pristine_does_not_hide_what_cannot_be_carried(session):
    """The baseline, too, is to be there after a switch; a channel would not be."""
    run(session, "LISTEN x")
    session.mark_pristine({}.__getitem__)
    assert session.forget_residual("none") == ("LISTEN",)


def test_a_twin_goes_its_own_way(session):
    there = {"a": 1}
    change(session, there, "a", 2)
    twin = session.twin()
    change(session, there, "a", 3)
    assert twin.snapshot()["a"].value == 2
    assert twin.changed
    session.forget()
    assert twin.changed_settings() == ("a",)


def test_how_it_reads():
    assert str(SettingState("read_only", True, False)) == "read_only: False -> True"
    assert str(SettingState("read_only", None, None)) == "read_only: None"
    assert str(SettingState("isolation_level", Level.SERIALIZABLE, None)) == "isolation_level: None -> SERIALIZABLE"
    state = SessionState({"a": SettingState("a", 1, 0), "b": SettingState("b", 1, 1)})
    assert str(state) == "a: 0 -> 1, b: 1"
    assert "nothing" in repr(SessionState({}))


class Connection(RuleBasedStateMachine):
    """A connection with four settings, and what a user of it expects, kept in two plain dictionaries."""

    names = st.sampled_from(["a", "b", "c", "d"])
    values = st.sampled_from([None, True, False, 0, 1, "x", Level.SERIALIZABLE])

    @initialize(values=st.tuples(values, values, values, values))
    def connect(self, values):
        self.session = Session(Options(), postgresql)
        self.there = dict(zip("abcd", values, strict=True))
        self.baseline = dict(self.there)
        self.known: set[str] = set()

    @rule(name=names, value=values)
    def change(self, name, value):
        change(self.session, self.there, name, value)
        self.known.add(name)

    @rule(name=names)
    def ask(self, name):
        if not self.session.knows(name):
            self.session.fetched(name, self.there[name])
        self.known.add(name)

    @rule()
    def reset(self):
        apply(self.there, self.session.reset_plan(self.there.__getitem__))
        for name in self.session.snapshot():
            self.session.changed_to(name, self.there[name])
        assert self.there == self.baseline
        assert not self.session.changed

    @rule()
    def switch(self):
        new = {name: self.session.pristine(name, value) for name, value in self.there.items()}
        assert new == self.baseline
        apply(new, self.session.transfer_plan())
        assert new == self.there

    @rule()
    def mark_pristine(self):
        self.session.mark_pristine(self.there.__getitem__)
        self.baseline = dict(self.there)

    @rule()
    def switch_without_transfer(self):
        self.there = {name: self.session.pristine(name, value) for name, value in self.there.items()}
        self.session.forget()
        self.known.clear()
        assert self.there == self.baseline

    @invariant()
    def what_is_told_is_so(self):
        told = self.session.snapshot()
        assert set(told) == self.known
        assert all(told[name] == SettingState(name, self.there[name], self.baseline[name]) for name in told)
        assert self.session.changed == (self.there != self.baseline)


TestModel = Connection.TestCase
TestModel.settings = settings(max_examples=60, deadline=None)


# --- what statements may have left ------------------------------------------------------------------------------


def send(session: Session, text: str) -> None:
    if (effects := scan(text)) is not None:
        session.in_flight.append(effects)


def run(session: Session, *texts: str) -> None:
    """Statements that were answered, outside a transaction."""
    for text in texts:
        send(session, text)
        session.settle(for_good=True)


@pytest.mark.parametrize(
    ("texts", "left"),
    [
        (["LISTEN x"], ["LISTEN"]),
        (["LISTEN x", "PREPARE p AS SELECT 1", "LISTEN y"], ["LISTEN", "prepared statements"]),
        (["LISTEN x", "UNLISTEN x"], []),
        (["LISTEN x", 'LISTEN "X"', "UNLISTEN X"], ["LISTEN"]),
        (["LISTEN x", "UNLISTEN *"], []),
        (["LISTEN x", "LOAD 'y'", "DISCARD ALL"], ["LOAD"]),
        (["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock(1)"], []),
        (["SELECT pg_advisory_lock(1)"] * 2 + ["SELECT pg_advisory_unlock(1)"], ["advisory locks"]),
        (["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock(2)"], ["advisory locks"]),
        (["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock_shared(1)"], ["advisory locks"]),
        (["SELECT pg_advisory_lock(1), pg_advisory_lock(2)", "SELECT pg_advisory_unlock(1)"], ["advisory locks"]),
        (["SELECT pg_advisory_lock($1)", "SELECT pg_advisory_unlock($1)"], ["advisory locks"]),
        (["SELECT pg_advisory_lock(id) FROM t", "SELECT pg_advisory_unlock(id)"], ["advisory locks"]),
        (["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock_all()"], []),
        (["LISTEN x; UNLISTEN *; LISTEN y"], ["LISTEN"]),
        (["SET a = 1", "SET ROLE bob"], []),
    ],
)
def test_what_is_left(session, texts, left):
    run(session, *texts)
    assert session.forget_residual("none") == tuple(left)
    assert session.forget_residual("none") == (), "it is told once"


def test_under_way(session):
    send(session, "BEGIN")
    send(session, "COMMIT")
    assert session.under_way("begins") and session.under_way("outcome_unknown_if_lost")
    assert not session.under_way("rolls_back")
    session.settle(for_good=True)
    assert not session.under_way("begins")


def test_a_statement_under_way_counts_as_left(session):
    send(session, "LISTEN x")
    assert session.forget_residual("none") == ("LISTEN",)


def test_what_is_cleared_in_a_transaction_may_come_back(session):
    run(session, "LISTEN x")
    send(session, "UNLISTEN *")
    session.settle(for_good=False)
    assert session.forget_residual("none") == ("LISTEN",)


def test_a_refused_statement_left_nothing(session):
    send(session, "LISTEN x")
    session.refused()
    assert session.forget_residual("none") == ()


def test_of_several_that_were_refused_some_may_have_run(session):
    send(session, "LISTEN x; SET a = 1; COMMIT; SELECT 1/0")
    session.refused(idle=True)
    assert session.forget_residual("none") == ("LISTEN", "a")


@pytest.mark.parametrize(("transaction", "left"), [("none", ("DO",)), ("rolled_back", ()), ("unknown", ("a",))])
def test_what_is_in_doubt_if_the_connection_is_lost(session, transaction, left):
    if transaction != "none":
        send(session, "SET a = 1")
        session.settle(for_good=False)
    send(session, "COMMIT" if transaction == "unknown" else "DO $$ $$")
    assert session.forget_residual(transaction) == left


@pytest.mark.parametrize("text", ["UNLISTEN *", "DISCARD ALL", "DISCARD ALL; SELECT 1/0"])
def test_what_was_refused_cleared_nothing(session, text):
    run(session, "LISTEN x")
    send(session, text)
    session.refused()
    assert session.forget_residual("none")[0] == "LISTEN"


@pytest.mark.parametrize(
    ("texts", "asked"),
    [
        (["BEGIN READ ONLY"], "transaction"),
        (["BEGIN READ ONLY", "COMMIT"], ""),
        (["BEGIN READ ONLY", "ROLLBACK"], ""),
        (["BEGIN", "SET TRANSACTION READ ONLY"], "transaction"),
        (["SET default_transaction_read_only = on"], "session"),
        (["SET default_transaction_read_only = on", "BEGIN", "COMMIT"], "session"),
        (["SET default_transaction_read_only = on", "SET default_transaction_read_only = off"], ""),
        (["SET default_transaction_read_only = on", "RESET default_transaction_read_only"], ""),
        (["SET default_transaction_read_only = on", "RESET ALL"], ""),
        (["SET default_transaction_read_only = on", "DISCARD ALL"], ""),
        (["SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"], "session"),
        (
            [
                "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
                "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
            ],
            "",
        ),
    ],
)
def test_whether_the_app_asked_for_read_only(session, texts, asked):
    run(session, *texts)
    assert session.asked_read_only == asked
