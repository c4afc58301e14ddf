"""The classes of instrumented connections and cursors, between the app's classes and the C classes, which are
immutable.

While patched they replace ``sqlite3.Connection`` and ``sqlite3.Cursor``, so that subclasses and direct calls of those
are instrumented too. They have no methods of their own: `install` patches them.
"""

from __future__ import annotations

import logging
import sqlite3
from abc import ABCMeta
from typing import Any, Final

from instrumented_wrapper.operations import bounded_put

logger = logging.getLogger("instrumented_wrapper")
C_CONNECTION: Final[Any] = sqlite3.Connection
C_CURSOR: Final[Any] = sqlite3.Cursor
_MOST: Final = 256  # classes of the app that are kept; others are combined anew


class _Standing(ABCMeta):  # so that the app's classes may be abstract
    """Metaclass: while one of our classes replaces the C class, instances of the C class are instances of ours."""

    def __instancecheck__(cls, instance: object) -> bool:
        return type.__instancecheck__(_STANDS_FOR.get(cls, cls), instance)

    def __subclasscheck__(cls, subclass: Any) -> bool:
        return type.__subclasscheck__(_STANDS_FOR.get(cls, cls), subclass)


class Making(_Standing):
    """The class of connection classes: here connections are made, however the app does it."""


class Watched(C_CONNECTION, metaclass=Making):  # type: ignore[misc]
    """A connection that is looked after."""


class WatchedCursor(C_CURSOR, metaclass=_Standing):  # type: ignore[misc]
    """A cursor of a connection that is looked after."""

    __slots__ = ()


_STANDS_FOR: Final[dict[Any, Any]] = {Watched: C_CONNECTION, WatchedCursor: C_CURSOR}
_kinds: dict[type[Any], type[Any]] = {}

for _ours, _theirs in _STANDS_FOR.items():
    _ours.__name__, _ours.__qualname__ = _theirs.__name__, _theirs.__qualname__
    _ours.__module__, _ours.__doc__ = _theirs.__module__, _theirs.__doc__


def combined(theirs: type[Any], ours: type[Any]) -> type[Any]:
    """Return a class that is `theirs`, with `ours` between it and the C class."""
    if ours in theirs.__mro__:
        return theirs
    if theirs is _STANDS_FOR[ours]:
        return ours
    known = _kinds.get(theirs)
    return bounded_put(_kinds, theirs, _made(theirs, ours), _MOST) if known is None else known


def _made(theirs: type[Any], ours: type[Any]) -> type[Any]:
    namespace = {"__module__": theirs.__module__, "__qualname__": theirs.__qualname__, "__slots__": ()}
    try:
        made: type[Any] = _meta(type(theirs), type(ours))(theirs.__name__, (theirs, ours), namespace)
    except Exception as error:  # noqa: BLE001 - the app's class may not want to be derived from: it goes on unobserved
        logger.warning("%s cannot be looked after: %s", theirs.__name__, type(error).__name__)
        return theirs
    return made


def _meta(theirs: type[Any], ours: type[Any]) -> type[Any]:
    """Return a class of classes that is both."""
    if issubclass(ours, theirs):
        return ours
    return theirs if issubclass(theirs, ours) else type(theirs.__name__, (theirs, ours), {})
