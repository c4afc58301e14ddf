"""Patch a driver's classes in place with wrapt, and undo it.

Knows no driver. Undoing restores the original object (function, classmethod, property) and deletes an attribute that
was inherited.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FunctionType
from typing import Any, Final

import wrapt

_ABSENT: Final = object()
Wrapper = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]


Method = Callable[..., Any]


def around(context: Callable[..., AbstractContextManager[Any]]) -> Callable[[Method], Method]:
    """Return what has a method, or a coroutine function, do all that it does inside a context manager.

    Args:
        context: is called with the object and the arguments of the method.
    """

    def make(original: Method) -> Method:
        @functools.wraps(original)
        def method(self: Any, /, *args: object, **kwargs: object) -> Any:
            with context(self, *args, **kwargs):
                return original(self, *args, **kwargs)

        @functools.wraps(original)
        async def method_async(self: Any, /, *args: object, **kwargs: object) -> Any:
            with context(self, *args, **kwargs):
                return await original(self, *args, **kwargs)

        return method_async if inspect.iscoroutinefunction(original) else method

    return make


class Patches:
    """What was patched, so that it can be undone."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any, Any]] = []
        self.undone = False

    def close_over(self, owner: object, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Replace a method by the closure that `make` returns for it: cheap on the frequent path."""
        found = inspect.getattr_static(owner, name)
        is_classmethod = isinstance(found, classmethod)
        closure = make(found.__func__ if is_classmethod else getattr(owner, name))
        self.replace(owner, name, classmethod(closure) if is_classmethod else closure)

    def wrap(self, owner: object, name: str, wrapper: Wrapper) -> None:
        """Wrap a method with ``wrapper(wrapped, instance, args, kwargs)``."""
        found = vars(owner).get(name, _ABSENT)
        wrapt.wrap_function_wrapper(owner, name, wrapper)
        self._undo.append((owner, name, found, vars(owner)[name]))

    def replace(self, owner: object, name: str, value: object) -> None:
        """Put another object in the place of an attribute."""
        found = vars(owner).get(name, _ABSENT)
        _keep_signature(value)
        wrapt.apply_patch(owner, name, value)
        self._undo.append((owner, name, found, value))

    def undo(self) -> None:
        """Restore the originals, last patch first. Wrappers that others have put on top since then stay."""
        self.undone = True
        while self._undo:
            owner, name, found, ours = self._undo.pop()
            if vars(owner).get(name) is not ours:
                continue
            if found is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, found)


def _keep_signature(value: object) -> None:
    """Let a closure show the arguments of what it wraps also to who does not look through wrappers."""
    closure = value.__func__ if isinstance(value, classmethod) else value
    if isinstance(closure, FunctionType) and hasattr(closure, "__wrapped__"):
        with contextlib.suppress(Exception):  # a method in C that shows none, an annotation that cannot be evaluated
            closure.__signature__ = inspect.signature(closure)  # type: ignore[attr-defined]
