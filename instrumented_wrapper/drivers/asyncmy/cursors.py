"""Subclasses of asyncmy's cursors: the classes are compiled, so their methods cannot be patched in place.

Each class of cursors that is requested has one subclass, created once. That includes the app's own classes.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from asyncmy.cursors import Cursor, SSCursor

from instrumented_wrapper.drivers.asyncmy.session_reports import end_of_rows
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.drivers.session_track import rows_ended

Method = Callable[..., Any]
_OURS: Final = "_instrumented_wrapper_subclass"


class Cursors:
    """Makes the subclasses.

    Attributes:
        methods: what makes the closure of each method, by name.
        unbuffered: the same for those that only unbuffered cursors have.
    """

    def __init__(self, methods: Mapping[str, Callable[[Method], Method]], unbuffered: Mapping[str, Any]) -> None:
        self.methods, self.unbuffered = methods, unbuffered
        self._made: WeakKeyDictionary[type[Any], type[Any]] = WeakKeyDictionary()

    def subclass_of(self, kind: Any) -> Any:
        """Return the subclass of a class of cursors; anything else as it is."""
        if (made := self._made.get(kind)) is None:
            if not isinstance(kind, type) or not issubclass(kind, Cursor) or hasattr(kind, _OURS):
                return kind
            made = self._made[kind] = self._make(kind)
        return made

    def _make(self, kind: type[Any]) -> type[Any]:
        makers = {**self.methods, **(self.unbuffered if issubclass(kind, SSCursor) else {})}
        members = {name: make(getattr(kind, name)) for name, make in makers.items()}
        if kind is SSCursor:
            members |= {"fetchall": _fetchall, "fetchmany": _fetchmany}
        same = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
        make: Any = type(kind)
        return make(kind.__name__, (kind,), {**same, **members, _OURS: True})  # type: ignore[no-any-return]

    def making(self, original: Method) -> Method:
        """``Connection.cursor``."""
        made, subclass_of = self._made, self.subclass_of

        @functools.wraps(original)
        def cursor(self: Any, cursor: Any = None) -> Any:
            if KEY not in self.__dict__:
                return original(self, cursor)
            kind = cursor or self._cursor_cls
            try:
                return original(self, made.get(kind) or subclass_of(kind))
            except TypeError:  # what makes cursors need be no class, and have no weak reference
                if isinstance(kind, type):
                    raise
                return original(self, cursor)

        return cursor


def reading_rest(original: Method) -> Method:
    """What reads an unbuffered result on, perhaps to its end."""

    @functools.wraps(original)
    async def read(self: Any) -> Any:
        connection, result = self.connection, self._result
        was_active = result is not None and result.unbuffered_active
        found = await original(self)
        if was_active and not result.unbuffered_active and connection._result is result:
            rows_ended(connection, end_of_rows(connection, result), result.has_next)
        return found

    return read


async def _fetchall(self: Any) -> list[Any]:
    """Fetch all rows. asyncmy takes those that it has parsed already only for its own class."""
    rows: list[Any] = []
    while (row := await self.fetchone()) is not None:
        rows += [row, *(parsed := self._result._take_pending_rows())]
        self.rownumber += len(parsed)
    return rows


async def _fetchmany(self: Any, size: int | None = None) -> list[Any]:
    """Fetch some rows, in the same way."""
    rows: list[Any] = []
    size = operator.index(self.arraysize if size is None else size)
    while len(rows) < size and (row := await self.fetchone()) is not None:
        rows += [row, *(parsed := self._result._take_pending_rows(size - len(rows) - 1))]
        self.rownumber += len(parsed)
    return rows
