"""`errors`: ours and the driver's at once, whole after pickle and copy, and never like a lost connection to a pool."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import re

import psycopg
import pytest

import instrumented_wrapper
from instrumented_wrapper import (
    ConfigurationError,
    FailoverError,
    FailoverFailedError,
    FailoverSuccessError,
    TransactionResolutionUnknownError,
    errors,
    switching,
)
from instrumented_wrapper.errors import again, driver_error

KINDS = [FailoverSuccessError, FailoverFailedError, TransactionResolutionUnknownError]
LOSS_WORDS = re.compile("connection|closed|lost|gone|terminat|server has|eof|broken|reset by", re.IGNORECASE)
FACTS = {
    "transaction": "rolled_back",
    "may_have_run": False,
    "server": ("10.0.0.2", 5432),
    "blocked_seconds": 1.25,
    "not_restored": ("role", "LISTEN"),
}
CAUSES = [
    None,
    psycopg.OperationalError("the connection is closed"),
    psycopg.errors.AdminShutdown("terminating connection"),
    psycopg.errors.CannotConnectNow(),
    psycopg.errors.ReadOnlySqlTransaction(),
    psycopg.errors.ConnectionTimeout(),
    OSError(5, "x"),
    TimeoutError(),
]


def make(kind=FailoverSuccessError, cause=None, **facts) -> FailoverError:
    return driver_error(kind, psycopg.OperationalError, cause, "the session was moved", {**FACTS, **facts})


def everything(error: BaseException) -> dict:
    names = (*FACTS, "sqlstate")
    return {"type": type(error), "text": str(error), **{name: getattr(error, name, "none") for name in names}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: type(cause).__name__)
def test_it_is_ours_and_the_drivers(kind, cause):
    error = make(kind, cause)
    assert isinstance(error, kind) and isinstance(error, FailoverError)
    assert isinstance(error, psycopg.OperationalError)
    assert not any(isinstance(error, other) for other in KINDS if other is not kind)
    if isinstance(cause, psycopg.OperationalError):
        assert isinstance(error, type(cause))
    assert error.sqlstate == getattr(cause, "sqlstate", None)
    assert error.__cause__ is cause
    assert {name: getattr(error, name) for name in FACTS} == FACTS
    assert type(error).__name__ == kind.__name__


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, again, *(lambda e, p=p: pickle.loads(pickle.dumps(e, p)) for p in range(6))],
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: type(cause).__name__)
def test_copies_are_whole(duplicate, kind, cause):
    error = make(kind, cause)
    other = duplicate(error)
    assert other is not error
    assert everything(other) == everything(error)
    assert other.args == error.args


def test_copies_of_copies():
    error = again(pickle.loads(pickle.dumps(copy.deepcopy(make(cause=psycopg.errors.AdminShutdown())))))
    assert everything(error) == everything(make(cause=psycopg.errors.AdminShutdown()))


def test_again_has_a_traceback_of_its_own():
    try:
        raise make(cause=psycopg.errors.AdminShutdown())
    except FailoverError as caught:
        first = caught
    second = again(first)
    assert first.__traceback__ is not None
    assert second.__traceback__ is None
    assert second.__cause__ is first.__cause__


def test_an_error_of_ours_as_the_cause_gives_no_third_family():
    error = make(FailoverFailedError, make(FailoverSuccessError))
    assert not isinstance(error, FailoverSuccessError)
    assert everything(pickle.loads(pickle.dumps(error))) == everything(error)


def test_one_class_for_each_pair():
    assert type(make(cause=psycopg.errors.AdminShutdown())) is type(make(cause=psycopg.errors.AdminShutdown()))
    assert type(make()) is not type(make(FailoverFailedError))


def test_attributes_that_the_app_adds_are_its_own():
    error = make()
    error.seen = True
    assert not hasattr(make(), "seen")


def test_the_errors_are_siblings_under_failover_error():
    assert all(kind.__bases__ == (FailoverError,) for kind in KINDS)
    assert FailoverError.__bases__ == (Exception,)


def test_a_bare_failover_error_has_all_attributes():
    bare = FailoverError("x")
    assert (bare.transaction, bare.may_have_run, bare.server) == ("none", True, None)
    assert (bare.blocked_seconds, bare.not_restored) == (0.0, ())


# --- texts ------------------------------------------------------------------------------------------------------


def sentences() -> list[str]:
    """Every piece of text in the modules that make errors for the app, docstrings left out."""
    trees = [ast.parse(inspect.getsource(module)) for module in (switching, errors)]
    holders = [node for tree in trees for node in ast.walk(tree) if not isinstance(node, ast.Expr)]
    children = [child for node in holders for child in ast.iter_child_nodes(node)]
    texts = [node.value for node in children if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in texts if " " in text]


def test_texts_never_look_like_a_loss_to_a_pool():
    """But for that of `FailoverFailedError`: the connection is gone, and a pool has to make a new one."""
    assert len(sentences()) > 8
    [of_failed] = [text for text in sentences() if LOSS_WORDS.search(text)]
    assert of_failed == "; the connection is closed: make a new one"


def test_texts_are_not_what_sqlalchemy_takes_for_a_disconnect():
    """Its dialects match these words in the text of an error."""
    words = "could not receive data|could not send data|SSL SYSCALL|SSL error|MySQL|is not open|lock wait|timed out"
    assert [text for text in sentences() if re.search(words, text, re.IGNORECASE)] == []


# --- configuration ----------------------------------------------------------------------------------------------


def test_a_configuration_error_is_a_value_error():
    error = ConfigurationError("failover", "maybe", "on, off or auto")
    assert isinstance(error, ValueError)
    assert all(word in str(error) for word in ("failover", "'maybe'", "on, off or auto"))
    for other in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert (type(other), str(other)) == (ConfigurationError, str(error))
        assert (other.name, other.value, other.accepted) == (error.name, error.value, error.accepted)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_base_is_the_drivers(kind):
    """peewee makes its own error of one by its name, or by that of the first base."""
    error = driver_error(kind, psycopg.OperationalError, None, "moved", {})
    assert type(error).__bases__ == (psycopg.OperationalError, kind)
    assert type(again(error)) is type(error)


def test_every_public_error_is_exported():
    public = {error.__name__ for error in (*KINDS, FailoverError, ConfigurationError)}
    assert public <= set(instrumented_wrapper.__all__)
