"""How many parameter sets a batch has, counted without a second pass over them.

Pure. An iterator makes sets one by one: the first one is then taken early, because a batch without sets sends nothing.
The length of an unknown type is not read, because its ``__len__`` may run a query.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MappingView, Sequence
from collections.abc import Set as AnySet
from inspect import iscoroutinefunction
from typing import Any, Final

UNKNOWN: Final = -1
Method = Callable[..., Any]


class Sets:
    """The parameter sets of an iterator whose first one has been taken already.

    Attributes:
        none: there are no sets at all.
    """

    def __init__(self, sets: Iterator[Any]) -> None:
        self.none = False
        self._sets, self._first = sets, list[Any]()
        self._error: Exception | None = None
        try:
            self._first.append(next(sets))
        except StopIteration:
            self.none = True
        except Exception as error:  # noqa: BLE001 - the driver gets it where it asks for the first set
            self._error = error

    @property
    def first(self) -> Any:
        """Return the set that was read early; None if there is none, or the driver has read it already."""
        return self._first[0] if self._first else None

    def __iter__(self) -> Iterator[Any]:
        error, self._error = self._error, None
        if error is not None:
            raise error
        while self._first:
            yield self._first.pop()
        yield from self._sets


def size_of(sets: object) -> int:
    """Return the number of parameter sets: 0 for none, `UNKNOWN` if only an iteration would tell."""
    if isinstance(sets, Sets):
        return 0 if sets.none else UNKNOWN
    if sets is None:
        return 0
    return len(sets) if isinstance(sets, (Sequence, AnySet, MappingView, deque)) else UNKNOWN


def first_of(sets: Any) -> Any:
    """Return the first parameter set, or None if only an iteration would tell."""
    if isinstance(sets, Sets):
        return sets.first
    return next(iter(sets), None) if size_of(sets) > 0 else None


def first_taken(nobody: Callable[[], bool], original: Method) -> Method:
    """Return an ``executemany`` that reads the first set of an iterator early, unless `nobody` listens."""

    @functools.wraps(original)
    def executemany(self: Any, /, *args: object, **kwargs: object) -> Any:
        return original(self, *args, **kwargs) if nobody() else original(self, *_taken(args), **_named(kwargs))

    @functools.wraps(original)
    async def executemany_async(self: Any, /, *args: object, **kwargs: object) -> Any:
        return await (original(self, *args, **kwargs) if nobody() else original(self, *_taken(args), **_named(kwargs)))

    return executemany_async if iscoroutinefunction(original) else executemany


def _taken(arguments: Iterable[Any]) -> list[Any]:
    return [Sets(argument) if isinstance(argument, Iterator) else argument for argument in arguments]


def _named(keywords: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(keywords, _taken(keywords.values()), strict=True))
