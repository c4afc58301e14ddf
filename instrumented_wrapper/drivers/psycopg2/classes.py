"""The subclasses of psycopg2's connection and cursor: `Watched` where failover is off, `SwappableConnection` where it
is on.

`Watched` is the C class with the wrapper's calls. A `SwappableConnection` can be moved: after the first switch it
delegates everything that the C class has to another connection, which the app never sees. Both are between the app's
own class and the C class in the MRO, so that overriding methods of the app still call what they expect.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import sys
from collections.abc import Callable
from typing import Any, Final

from psycopg2 import _psycopg, extensions

from instrumented_wrapper.errors import FailoverSuccessError

C: Final[Any] = extensions.connection
_K: Final[Any] = extensions.cursor
_connection: Final = _K.connection.__get__
_string_types, _binary_types = C.string_types.__get__, C.binary_types.__get__
_cursor_factory, _closed = C.cursor_factory.__get__, C.closed.__get__
LOST: Final = 2  # what ``closed`` is where psycopg2 itself has noticed
DELEGATE: Final = "_instrumented_wrapper_live"  # in a shell's ``__dict__``: what has its physical connection
LEFT: Final = "_instrumented_wrapper_left"  # in the ``__dict__`` of what a switch has left behind
MOVED: Final = "_instrumented_wrapper_moved"  # in that of both physical connections of a switch
ENTERED: Final = "_instrumented_wrapper_entered"  # in a connection's: its ``with`` block is under way
OWNER: Final = "_instrumented_wrapper_owner"  # in a cursor's: the app's connection, where the C struct has another
Method = Callable[..., Any]


def physical(connection: object) -> Any:
    """Return the object whose C struct has the physical connection."""
    return connection.__dict__.get(DELEGATE) or connection


class DetachedConnection:
    """What a switch leaves behind where the physical connection is still in the app's own struct.

    That one stays open: C functions like ``quote_ident`` go on reading the encoding in it, and cursors their rows.
    """

    def __init__(self, shell: Any) -> None:
        self.__dict__[DELEGATE] = shell


class WatchedCursor(_K):  # type: ignore[misc]
    """A cursor of a connection that is looked after."""

    @property
    def connection(self) -> Any:
        """The app's connection."""
        return self.__dict__.get(OWNER) or _K.connection.__get__(self)


class NamedCursor(WatchedCursor):
    """A cursor on the server: each of its fetches is a statement."""


def _following(name: str) -> Method:
    """Return a C method of cursors that first moves the cursor to the present connection."""
    method = getattr(_K, name)

    def follow(self: Any, *args: object, **kwargs: object) -> Any:
        struct_of(self)
        return method(self, *args, **kwargs)

    follow.__name__, follow.__doc__ = name, method.__doc__
    return follow


class ShellCursor(WatchedCursor):
    """A cursor that follows its connection after a switch; it keeps its rows until its next statement."""

    execute, executemany, callproc, mogrify = map(_following, ("execute", "executemany", "callproc", "mogrify"))
    copy_from, copy_to, copy_expert = map(_following, ("copy_from", "copy_to", "copy_expert"))


class NamedShellCursor(ShellCursor, NamedCursor):
    """The same, on the server."""

    fetchone, fetchmany, fetchall, scroll = map(_following, ("fetchone", "fetchmany", "fetchall", "scroll"))
    __next__ = _following("__next__")


class Watched(C):  # type: ignore[misc]
    """A connection that is looked after."""

    _instrumented_wrapper_cursors: tuple[type[Any], type[Any]] = (WatchedCursor, NamedCursor)

    def cursor(self, *args: object, **kwargs: object) -> Any:
        """Make a cursor, by the app's factory where it gives one."""
        if not (args or kwargs or _cursor_factory(self)):
            ours = self._instrumented_wrapper_cursors[0]
            return self._instrumented_wrapper_made({"cursor_factory": combined(_K, ours)})
        named = dict(zip(("name", "cursor_factory", "withhold", "scrollable"), args, strict=False))
        given = {**named, **kwargs}
        if len(given) < len(args) + len(kwargs):
            return C.cursor(self, *args, **kwargs)  # psycopg2 says what is wrong with that
        factory = given.get("cursor_factory") or _cursor_factory(self) or _K
        ours = self._instrumented_wrapper_cursors[bool(given.get("name"))]
        is_class = isinstance(factory, type) and issubclass(factory, _K)
        given["cursor_factory"] = combined(factory, ours) if is_class else factory
        cursor = self._instrumented_wrapper_made(given)
        if not is_class:
            become(cursor, ours)
        return cursor

    def _instrumented_wrapper_made(self, given: dict[str, Any]) -> Any:
        return C.cursor(self, **given)

    def __enter__(self) -> Any:
        C.__enter__(physical(self))
        self.__dict__[ENTERED] = True
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.__dict__.pop(ENTERED, None)
        _leave_block(physical(self))
        try:
            self.commit() if kind is None else self.rollback()
        except FailoverSuccessError:  # whoever has left the block does not go on with its transaction
            self.rollback()
            raise


def _leave_block(struct: object) -> None:
    """Let a C struct know that its block is over. It would call what ends the transaction: that is done elsewhere."""
    struct.__dict__["rollback"] = _nothing
    try:
        C.__exit__(struct, Exception, None, None)
    finally:
        del struct.__dict__["rollback"]


def _nothing() -> None:
    """Do nothing, in place of a method."""


class SwappableConnection(Watched):
    """A connection that can be moved to another physical connection."""

    _instrumented_wrapper_cursors = (ShellCursor, NamedShellCursor)

    def _instrumented_wrapper_made(self, given: dict[str, Any]) -> Any:
        live = self.__dict__.get(DELEGATE) or self
        cursor = _made_of_lost(live, **given) if _closed(live) == LOST else C.cursor(live, **given)
        if live is not self and hasattr(cursor, "__dict__"):
            cursor.__dict__[OWNER] = self
        return cursor

    def close(self) -> None:
        """Close what has the physical connection, and what had it first."""
        live = physical(self)
        C.close(live)
        if live is not self:
            C.close(self)


def _made_of_lost(
    live: Any, cursor_factory: Any, name: Any = None, withhold: object = False, scrollable: object = None
) -> Any:
    """Create a cursor of a lost connection, which psycopg2 refuses: the next statement is to find the loss."""
    cursor = cursor_factory(live, name)
    cursor.withhold, cursor.scrollable = withhold, scrollable
    return cursor


_WITHOUT_ARGUMENTS: Final = ("commit", "rollback")  # so frequent that packing none costs
_OWN: Final = ("close", "cursor", "cursor_factory", "string_types", "binary_types", "dsn", "async", "async_")


def _delegate(name: str, member: Any) -> Any:
    """Return a method that calls the struct with the physical connection."""
    if name in _WITHOUT_ARGUMENTS:
        return _delegate_alone(name, member)
    if type(member).__name__ == "method_descriptor":

        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return member(self.__dict__.get(DELEGATE) or self, *args, **kwargs)

        method.__name__, method.__doc__ = name, member.__doc__
        return method
    return property(
        lambda self: member.__get__(self.__dict__.get(DELEGATE) or self),
        lambda self, value: member.__set__(self.__dict__.get(DELEGATE) or self, value),
        doc=member.__doc__,
    )


def _delegate_alone(name: str, member: Any) -> Any:
    """Return a method without arguments that calls the struct with the physical connection."""

    def method(self: Any) -> Any:
        return member(self.__dict__.get(DELEGATE) or self)

    method.__name__, method.__doc__ = name, member.__doc__
    return method


for _name, _member in vars(C).items():
    if not (_name.startswith("__") or _name in _OWN or _name[0].isupper()):
        setattr(SwappableConnection, _name, _delegate(_name, _member))


def struct_of(cursor: Any) -> Any:
    """Return the object whose C struct a cursor works on, after it went to where its connection was moved."""
    struct = _connection(cursor)
    if MOVED not in struct.__dict__:
        return struct
    if LEFT in struct.__dict__:
        _rebind(cursor, struct := physical(cursor.connection))
    if (owner := cursor.__dict__.get(OWNER)) is not None:
        struct.string_types.update(_string_types(owner))  # C functions register types in the app's struct
        struct.binary_types.update(_binary_types(owner))
    return struct


def _rebind(cursor: Any, live: Any) -> None:
    """Give a cursor another connection; what the app has set on it stays."""
    owner, before = cursor.connection, _K.connection.__get__(cursor)
    kept = {name: getattr(_K, name).__get__(cursor) for name in ("arraysize", "itersize", "row_factory")}
    kept["tzinfo_factory"] = _K.tzinfo_factory.__get__(cursor)
    types = {name: getattr(_K, name).__get__(cursor) for name in ("string_types", "binary_types")}
    kept.update({name: known for name, known in types.items() if known is not None})
    scrollable, withhold = _K.scrollable.__get__(cursor), _K.withhold.__get__(cursor)
    _K.__init__(cursor, live, _K.name.__get__(cursor))
    for name, value in kept.items():
        setattr(cursor, name, value)
    if _K.name.__get__(cursor) is not None:
        cursor.scrollable, cursor.withhold = scrollable, withhold
    cursor.__dict__[OWNER] = owner
    _give_up(before, _KEPT)


def kept_by(construct: Callable[[Any, Any], object]) -> int:
    """Measure how many references a cursor's constructor keeps to the connection that it replaces (CPython).

    The connection is not connected. The references are released.
    """
    if sys.implementation.name != "cpython":
        return 0
    connection = C.__new__(C)
    cursor = _K(connection)
    before = sys.getrefcount(connection)
    construct(cursor, connection)
    kept = max(0, sys.getrefcount(connection) - before)
    _give_up(connection, kept)
    return kept


def _give_up(connection: object, number: int) -> None:
    for _ in range(number):
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(connection))


_KEPT: Final = kept_by(_K.__init__)  # by psycopg2 2.9: one


_THEIRS: Final = "_instrumented_wrapper_theirs"  # in a combined class: the app's


class _Like(type):
    """Classes that are equal to the app's, and so to each other: ``type(cursor) == psycopg2.extensions.cursor``."""

    def __eq__(cls, other: object) -> bool:
        return cls is other or (isinstance(other, type) and _theirs(cls) is _theirs(other))

    def __hash__(cls) -> int:
        theirs = _theirs(cls)
        return id(cls) if theirs is cls else hash(theirs)


def _theirs(kind: type[Any]) -> type[Any]:
    """Return the app's class of which a combined one is made."""
    found: type[Any] = vars(kind).get(_THEIRS, kind)
    return found


def _combined(theirs: type[Any], ours: type[Any]) -> type[Any]:
    """Return a class that is `theirs`, with `ours` between it and the C class."""
    if issubclass(theirs, ours):
        return theirs
    bases = (ours,) if theirs in (C, _K) else (theirs, ours)
    namespace = {name: getattr(theirs, name) for name in ("__module__", "__qualname__", "__doc__")}
    return _kind_of(theirs)(theirs.__name__, bases, {**namespace, _THEIRS: theirs})


combined: Any = functools.lru_cache(256)(_combined)  # an app may make its classes as it goes


def _kind_of(theirs: type[Any]) -> type[_Like]:
    """Return `_Like`, or a subclass of it and the app's own metaclass."""
    kind = type(theirs)
    return _Like if issubclass(_Like, kind) else type(kind.__name__, (_Like, kind), {})


def is_left_alone(factory: object) -> bool:
    """Return True for classes that are not instrumented: replication connections have no statements."""
    return isinstance(factory, type) and issubclass(factory, _psycopg.ReplicationConnection)


def become(made: object, ours: type[Any]) -> bool:
    """Give an object, which a function of the app's has made, a class of ours; False where it has no room for us."""
    try:
        made.__class__ = combined(type(made), ours)
    except TypeError:
        return False
    return True


def make_movable(connection: object) -> None:
    """Make a connection a shell that was made as a plain one, and its cursors such that follow it.

    Both kinds of classes have the C class's layout, so that an object can be given the other one.
    """
    if isinstance(connection, SwappableConnection):
        return
    connection.__class__ = combined(getattr(type(connection), _THEIRS), SwappableConnection)
    for thing in gc.get_referrers(connection):
        kind = type(thing)
        if issubclass(kind, WatchedCursor) and not issubclass(kind, ShellCursor):
            follower = NamedShellCursor if issubclass(kind, NamedCursor) else ShellCursor
            thing.__class__ = combined(getattr(kind, _THEIRS), follower)
