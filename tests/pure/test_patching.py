"""`patching`: what is put back is the very object that was there, of whatever kind, in whatever order."""

from __future__ import annotations

import functools
import inspect
import types

import pytest

from instrumented_wrapper.patching import Patches

NAMES = ["function", "coroutine", "generator", "class_method", "static_method", "attribute", "wrapped"]


def make_owner():
    def decorated(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args)

        return wrapper

    class Parent:
        def function(self, a=1):
            return ("function", type(self).__name__, a)

        async def coroutine(self):
            return "coroutine"

        def generator(self):
            yield "generator"

        @classmethod
        def class_method(cls, a=1):
            return ("class_method", cls.__name__, a)

        @staticmethod
        def static_method(a=1):
            return ("static_method", a)

        @property
        def attribute(self):
            return "attribute"

        @decorated
        def wrapped(self):
            return "wrapped"

    return Parent


def passing(original):
    """A closure that calls the original."""

    def closure(*args, **kwargs):
        return ("patched", original(*args, **kwargs))

    return closure


def wrapping(wrapped, instance, args, kwargs):
    return ("patched", wrapped(*args, **kwargs))


@pytest.fixture
def owner():
    return make_owner()


@pytest.fixture
def patches():
    return Patches()


VERBS = {
    "close_over": lambda patches, owner, name: patches.close_over(owner, name, passing),
    "wrap": lambda patches, owner, name: patches.wrap(owner, name, wrapping),
    "replace": lambda patches, owner, name: patches.replace(owner, name, "other"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", NAMES)
def test_the_very_descriptor_is_back(owner, patches, verb, name):
    before = dict(vars(owner))
    VERBS[verb](patches, owner, name)
    assert vars(owner)[name] is not before[name]
    patches.undo()
    assert vars(owner)[name] is before[name]
    assert {key: value for key, value in vars(owner).items() if key in before} == before


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", NAMES)
def test_what_was_inherited_is_inherited_again(owner, patches, verb, name):
    child = type("Child", (owner,), {})
    parent_before = dict(vars(owner))
    VERBS[verb](patches, child, name)
    assert name in vars(child)
    assert dict(vars(owner)) == parent_before
    patches.undo()
    assert name not in vars(child)


@pytest.mark.parametrize("verb", ["close_over", "wrap"])
def test_what_is_patched_still_works(owner, patches, verb):
    for name in ("function", "class_method"):
        VERBS[verb](patches, owner, name)
    child = type("Child", (owner,), {})
    assert child().function(2) == ("patched", ("function", "Child", 2))
    assert child().class_method(2) == child.class_method(2) == ("patched", ("class_method", "Child", 2))
    patches.undo()
    assert child().function(2) == ("function", "Child", 2)
    assert child.class_method(2) == ("class_method", "Child", 2)


def test_a_static_method_stays_one(owner, patches):
    patches.wrap(owner, "static_method", wrapping)
    assert owner.static_method(2) == owner().static_method(2) == ("patched", ("static_method", 2))


@pytest.mark.parametrize("verb", ["close_over", "wrap"])
def test_a_class_method_that_was_inherited_knows_its_class(owner, patches, verb):
    child = type("Child", (owner,), {})
    grandchild = type("Grandchild", (child,), {})
    VERBS[verb](patches, child, "class_method")
    assert child.class_method() == ("patched", ("class_method", "Child", 1))
    assert grandchild.class_method() == ("patched", ("class_method", "Grandchild", 1))
    assert owner.class_method() == ("class_method", owner.__name__, 1)


def test_a_wrapped_method_tells_what_it_wraps(owner, patches):
    patches.wrap(owner, "function", wrapping)
    assert inspect.signature(owner.function) == inspect.signature(make_owner().function)
    assert owner.function.__name__ == "function"


def test_a_method_that_is_closed_over_shows_the_same_arguments(owner, patches):
    for name in ("function", "class_method"):
        patches.close_over(owner, name, lambda original: functools.wraps(original)(passing(original)))
        shown = inspect.getfullargspec(getattr(owner, name))  # which does not look through wrappers
        assert shown == inspect.getfullargspec(getattr(make_owner(), name))


def test_patches_over_patches_come_off_in_the_right_order(owner, patches):
    before = vars(owner)["function"]
    patches.close_over(owner, "function", passing)
    patches.wrap(owner, "function", wrapping)
    patches.replace(owner, "function", None)
    patches.undo()
    assert vars(owner)["function"] is before


def test_undo_twice_changes_nothing(owner, patches):
    patches.close_over(owner, "function", passing)
    patches.undo()
    owner.function = replacement = lambda self: "the app's own"
    patches.undo()
    assert vars(owner)["function"] is replacement


def test_a_module_is_an_owner_too(patches):
    module = types.ModuleType("module")
    module.connect = before = lambda: 1
    patches.close_over(module, "connect", passing)
    assert module.connect() == ("patched", 1)
    patches.undo()
    assert module.connect is before


@pytest.mark.parametrize("verb", ["close_over", "wrap"])
def test_what_is_not_there_is_an_error_and_undo_leaves_no_trace(owner, patches, verb):
    before = dict(vars(owner))
    patches.close_over(owner, "function", passing)
    with pytest.raises(AttributeError):
        VERBS[verb](patches, owner, "no_such_method")
    patches.undo()
    assert dict(vars(owner)) == before


def test_a_replacement_that_fails_to_be_made_leaves_no_trace(owner, patches):
    def failing(original):
        raise LookupError

    before = dict(vars(owner))
    with pytest.raises(LookupError):
        patches.close_over(owner, "function", failing)
    patches.undo()
    assert dict(vars(owner)) == before
