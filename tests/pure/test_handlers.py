"""`handlers`: where the app's own functions are kept."""

from __future__ import annotations

import pytest

import instrumented_wrapper
from instrumented_wrapper import handlers, states
from instrumented_wrapper.handlers import SessionStateTransferHandlers as Handlers

WAYS = [
    (
        Handlers.set_reset_session_state_on_close_func,
        Handlers.clear_reset_session_state_on_close_func,
        handlers.reset_handler,
        handlers.transfer_handler,
    ),
    (
        Handlers.set_transfer_session_state_on_switch_func,
        Handlers.reset_transfer_session_state_on_switch_func,
        handlers.transfer_handler,
        handlers.reset_handler,
    ),
]
pytestmark = pytest.mark.parametrize(("put", "clear", "kept", "other"), WAYS, ids=["reset", "transfer"])


def one(state, connection):
    return True


async def two(state, connection):
    return True


class Three:
    def __call__(self, state, connection):
        return None

    def method(self, state, connection):
        return False


@pytest.mark.parametrize("func", [one, two, Three(), Three().method, lambda *_: True, print])
def test_the_very_function_is_kept(put, clear, kept, other, func):
    assert kept() is None
    put(func)
    assert kept() is func
    assert other() is None


def test_setting_one_replaces_the_last(put, clear, kept, other):
    put(one)
    put(two)
    assert kept() is two


def test_clearing_really_clears_and_may_be_repeated(put, clear, kept, other):
    put(one)
    clear()
    clear()
    assert kept() is None


def test_clearing_one_leaves_the_other(put, clear, kept, other):
    for set_it, *_ in WAYS:
        set_it(one)
    clear()
    assert (kept(), other()) == (None, one)


@pytest.mark.parametrize("nothing", [None, "f", 1, [one]])
def test_what_cannot_be_called_is_refused_and_changes_nothing(put, clear, kept, other, nothing):
    put(one)
    with pytest.raises(TypeError, match=type(nothing).__name__):
        put(nothing)
    assert kept() is one


def test_they_are_static_and_of_the_process(put, clear, kept, other):
    getattr(Handlers(), put.__name__)(one)
    assert kept() is one
    getattr(states.SessionStateTransferHandlers, clear.__name__)()
    assert kept() is None


def test_one_class_by_both_import_paths(put, clear, kept, other):
    assert states.SessionStateTransferHandlers is instrumented_wrapper.SessionStateTransferHandlers is Handlers
