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

from instrumented_wrapper.drivers.asyncmy.session_reports import answer_to, receive
from instrumented_wrapper.drivers.registry import KEY

Method = Callable[..., Any]
_OURS: Final = "_instrumented_wrapper_subclass"


class Cursors:
    """Makes the subclasses.

    Attributes:
        methods: what makes the closure of each method, by name.
        unbuffered: the same for those that only unbuffered cursors have.
        plain: the subclass of asyncmy's own class whose connection has no statement cache, no echo and no callback.
    """

    def __init__(self, methods: Mapping[str, Callable[[Method], Method]], unbuffered: Mapping[str, Any]) -> None:
        self.methods, self.unbuffered = methods, unbuffered
        self._made: WeakKeyDictionary[type[Any], type[Any]] = WeakKeyDictionary()
        execute = methods["execute"]
        self.plain = self._make(
            Cursor,
            {**methods, "execute": lambda original: execute(executing(original)), "close": ending, "__aexit__": ending},
        )

    def subclass_of(self, kind: Any) -> Any:
        """Return the subclass of a class of cursors; anything else as it is."""
        if (made := self._made.get(kind)) is None:
            if not isinstance(kind, type) or not issubclass(kind, Cursor) or hasattr(kind, _OURS):
                return kind
            makers = {**self.methods, **(self.unbuffered if issubclass(kind, SSCursor) else {})}
            made = self._made[kind] = self._make(kind, makers)
        return made

    def _make(self, kind: type[Any], makers: Mapping[str, Callable[[Method], Method]]) -> type[Any]:
        members: dict[str, Any] = {name: make(getattr(kind, name)) for name, make in makers.items()}
        if kind is SSCursor:
            members |= {"fetchall": _fetchall, "fetchmany": _fetchmany}
        same = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
        make: Any = type(kind)
        return make(kind.__name__, (kind,), {**same, **members, _OURS: True})  # type: ignore[no-any-return]

    def making(self, original: Method) -> Method:
        """``Connection.cursor``."""
        made, subclass_of, plain = self._made, self.subclass_of, self.plain

        @functools.wraps(original)
        def cursor(self: Any, cursor: Any = None) -> Any:
            if KEY not in self.__dict__:
                return original(self, cursor)
            kind = cursor or self._cursor_cls
            if kind is Cursor and self._query_callback is None and not (self._stmt_cache_size or self._echo):
                return original(self, plain)
            try:
                return original(self, made.get(kind) or subclass_of(kind))
            except TypeError:  # what makes cursors need be no class, and have no weak reference
                if isinstance(kind, type):
                    raise
                return original(self, cursor)

        return cursor


def executing(original: Method) -> Method:
    """Wrap ``Cursor.execute`` of `Cursors.plain`: asyncmy's steps for its own class.

    Of any other class it awaits ``nextset`` before each statement, and ``_do_get_result`` after it.
    """

    @functools.wraps(original)
    async def execute(self: Any, query: Any, args: Any = None) -> Any:
        connection, result = self.connection, self._result
        if connection is None or (result is not None and result.has_next):
            return await original(self, query, args)
        if args is not None:
            query = self.mogrify(query, args)
        self._clear_result()
        await connection.query(query)
        result = answer_to(connection)
        if result.warning_count:
            await self._do_get_result()
        else:
            self._result, self.rowcount, self.description = result, result.affected_rows, result.description
            self.lastrowid, self._rows = result.insert_id, result.rows
        self._executed = query
        return self.rowcount

    return execute


def ending(original: Method) -> Method:
    """Wrap ``close`` or ``__aexit__`` of `Cursors.plain`: mostly there is nothing to be read."""

    @functools.wraps(original)
    async def end(self: Any, *error: Any) -> None:
        result = self._result
        if result is not None and result.has_next:
            return await original(self, *error)  # type: ignore[no-any-return]
        self.connection = None
        return None

    return end


def reading_rest(original: Method) -> Method:
    """What reads an unbuffered result on, perhaps to its end."""

    @functools.wraps(original)
    async def read(self: Any) -> Any:
        connection, result = self.connection, self._result
        was_active = result is not None and result.unbuffered_active
        found = await original(self)
        if was_active and not result.unbuffered_active and connection._result is result:
            receive(connection, result)
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
