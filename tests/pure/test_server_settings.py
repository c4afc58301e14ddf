"""`server_settings`: what a text sets, to the savepoint, with texts that the reader reads and no server."""

from __future__ import annotations

import pytest

from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.plans import Assignment, Change, ServerAnswer
from instrumented_wrapper.savepoints import ANY
from instrumented_wrapper.server_settings import ServerSettings
from instrumented_wrapper.statement import DOUBT, Step

FETCHED = {"a": "0", "b": "0", "app.x": None}


@pytest.fixture
def known() -> ServerSettings:
    known = ServerSettings(postgresql.survives_reset_all)
    for name, value in FETCHED.items():
        known.fetched(name, value)
    return known


def run(known: ServerSettings, *texts: str, configured: bool = False, aborted: bool = False) -> None:
    """Do what statements within a transaction do."""
    for text in texts:
        effects = postgresql.scan(text)
        assert effects is not None
        known.apply(effects.steps, None, configured, aborted)


def values(known: ServerSettings) -> dict[str, str | None]:
    return {name: value for name, (value, pristine) in known.shown.items() if value != pristine}


@pytest.mark.parametrize(
    ("texts", "left"),
    [
        (["SET a = 1", "COMMIT"], {"a": "1"}),
        (["SET a = 1", "ROLLBACK"], {}),
        (["SET a = 1", "SET a = 2", "COMMIT"], {"a": "2"}),
        (["SET LOCAL a = 1", "COMMIT"], {}),
        (["SET LOCAL a = 1", "SET a = 2", "COMMIT"], {"a": "2"}),
        (["SET a = 2", "SET LOCAL a = 1", "COMMIT"], {"a": "2"}),
        (["SET a = 1", "SAVEPOINT s", "SET a = 2", "ROLLBACK TO s", "COMMIT"], {"a": "1"}),
        (["SET a = 1", "SAVEPOINT s", "SET a = 2", "RELEASE s", "COMMIT"], {"a": "2"}),
        (["SAVEPOINT s", "SET a = 1", "RELEASE s", "ROLLBACK"], {}),
        (["SAVEPOINT s", "SET a = 1", "SAVEPOINT t", "SET b = 1", "ROLLBACK TO s", "COMMIT"], {}),
        (["SAVEPOINT s", "SET a = 1", "SAVEPOINT s", "SET b = 1", "ROLLBACK TO s", "COMMIT"], {"a": "1"}),
        (["SAVEPOINT s", "SET a = 1", "SAVEPOINT s", "RELEASE s", "ROLLBACK TO s", "COMMIT"], {}),
        (["SAVEPOINT s", "SET a = 1", "ROLLBACK TO s", "SET b = 1", "ROLLBACK TO s", "COMMIT"], {}),
        (['SAVEPOINT "S"', "SET a = 1", 'ROLLBACK TO SAVEPOINT "S"', "COMMIT"], {}),
        (["SET a = 1", "COMMIT AND CHAIN", "SET b = 1", "ROLLBACK"], {"a": "1"}),
        (["SET a = 1", "PREPARE TRANSACTION 'x'"], {"a": "1"}),
        (["SET a = 1", "RESET a", "COMMIT"], {}),
        (["SET a = 1", "SET ROLE bob", "RESET ALL", "COMMIT"], {"role": "bob"}),
        (["SET a = 1", "SET ROLE bob", "DISCARD ALL"], {}),
        (["SET app.x = ''", "COMMIT"], {"app.x": ""}),
    ],
)
def test_what_a_transaction_leaves(known, texts, left):
    known.fetched("role", "none")
    known.fetched("session_authorization", "me")
    run(known, *texts)
    known.end(commit=True)
    assert values(known) == left
    assert known.is_changed == bool(left)


def test_a_commit_of_an_aborted_transaction_rolls_back(known):
    run(known, "SET a = 1")
    run(known, "COMMIT", aborted=True)
    assert values(known) == {}


def test_a_rollback_to_a_savepoint_ends_the_abortion(known):
    run(known, "SET a = 1", "SAVEPOINT s", "SET b = 1")
    run(known, "ROLLBACK TO s; COMMIT", aborted=True)
    assert values(known) == {"a": "1"}


def test_what_configuration_set_is_the_baseline(known):
    run(known, "SET a = 5", "COMMIT", configured=True)
    assert values(known) == {}
    assert known.baseline_assignments() == (Assignment("a", "5"),)
    run(known, "SET a = 6", "COMMIT")
    assert known.reset_plan() == (Change("a", "6", "5"),)
    assert known.reset_assignments() == (Assignment("a", "5"),)
    run(known, "RESET a", "COMMIT")
    assert known.reset_plan() == (Change("a", None, "5"),), "the server's own default is a change"
    known.were_reset(known.names)
    assert not known.is_changed


def test_back_to_the_servers_default_where_nobody_configured_another(known):
    run(known, "SET a = 1", "SET app.x = 2", "COMMIT")
    assert known.reset_assignments() == (Assignment("a", None), Assignment("app.x", None))
    assert known.transfer_assignments() == (Assignment("a", "1"), Assignment("app.x", "2"))


def test_pristine_values_are_read_once_and_not_where_it_may_be_too_late():
    known = ServerSettings(postgresql.survives_reset_all)
    steps = postgresql.scan("SET a = 1; SET LOCAL b = 1; RESET c; SET d TO DEFAULT; SET e = 1").steps
    assert known.unfetched(steps) == ("a", "e")
    known.fetched("a", "0")
    assert known.unfetched(steps) == ("e",)
    known.apply([Step(DOUBT, ANY, "DO")], None, False, False)
    assert known.unfetched(steps) == ()


def test_what_was_changed_before_it_could_be_read_is_asked_for():
    known = ServerSettings(postgresql.survives_reset_all)
    run(known, "SET app.y = 1", "COMMIT")
    assert known.has_doubts
    assert known.without_pristine() == known.names_in_doubt() == ("app.y",)
    known.apply_answer(ServerAnswer({"app.y": "1"}, {"app.y": ""}), configured=False)
    assert not known.has_doubts
    assert known.shown == {"app.y": ("1", None)}, "no text is what a setting of the app's has that was never set"


def test_doubts_go_with_the_transaction(known):
    run(known, "SAVEPOINT s", "DO $$ BEGIN SET app.z = 1; END $$", "ROLLBACK TO s", "COMMIT")
    assert known.doubts == {ANY: "DO"}, "a lock that it has taken is still there"
    known.doubts.clear()
    run(known, "DO $$ BEGIN SET app.z = 1; END $$", "COMMIT")
    assert known.doubts == {"app.z": "DO", ANY: "DO"}
    known.apply_answer(ServerAnswer({"a": "0", "b": "7", "app.z": "1"}, {"app.z": ""}), configured=False)
    assert values(known) == {"b": "7", "app.z": "1"}


def test_of_a_broken_batch_nothing_is_certain(known):
    run(known, "SET a = 1")
    known.uncertain(postgresql.scan("SET b = 1; SET a = 3; COMMIT").steps, "SET")
    assert set(known.doubts) == {"a", "b"}
    known.end(commit=False)
    assert set(known.doubts) == {"a", "b"}, "no rollback takes back what may have been committed"


def test_mark_pristine(known):
    run(known, "SET a = 1", "SET b = 1", "COMMIT", "RESET b", "COMMIT")
    known.mark_pristine()
    assert values(known) == {}
    assert known.baseline_assignments() == (Assignment("a", "1"),)


def test_a_new_beginning(known):
    run(known, "SET b = 2", "COMMIT", configured=True)
    run(known, "SET a = 1", "SET b = 1", "COMMIT")
    known.forget_values()
    assert known.shown == {}
    assert known.baseline_assignments() == (Assignment("b", "2"),)
    assert known.unfetched(postgresql.scan("SET a = 1; SET b = 1").steps) == ("a", "b")
