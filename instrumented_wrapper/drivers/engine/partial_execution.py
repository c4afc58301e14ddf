"""Calls of the app that end before all of them is done: some statements have run, or an answer is not read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from inspect import iscoroutinefunction, unwrap
from types import CodeType, FrameType
from typing import Any, Final

from instrumented_wrapper.patching import around

_MARK: Final = "_instrumented_wrapper_in_part"


@around
@contextmanager
def in_parts(cursor: Any, *args: object, **kwargs: object) -> Iterator[None]:
    """Wrap ``executemany``: mark its error if an ``execute`` within it has succeeded.

    The mark is a function in the cursor's ``__dict__`` that removes itself, so later calls cost nothing more.
    """
    execute, known, done = cursor.execute, cursor.__dict__, False
    before = {"execute": known["execute"]} if "execute" in known else {}

    def leave() -> None:
        known.pop("execute", None)
        known.update(before)

    def first(*args: object, **kwargs: object) -> Any:
        nonlocal done
        result = execute(*args, **kwargs)
        done = True
        leave()
        return result

    async def first_async(*args: object, **kwargs: object) -> Any:
        nonlocal done
        result = await execute(*args, **kwargs)
        done = True
        leave()
        return result

    known["execute"] = first_async if iscoroutinefunction(execute) else first
    try:
        yield
    except Exception as error:
        if done:
            mark(error)
        raise
    finally:
        leave()


@around
@contextmanager
def of_the_rest(*args: object, **kwargs: object) -> Iterator[None]:
    """Have what reads the answer to a later one of several statements mark its error: the first has run."""
    try:
        yield
    except Exception as error:
        mark(error)
        raise


def mark(error: BaseException) -> None:
    """Record that a statement has run before the one that failed."""
    setattr(error, _MARK, True)


def has_run_in_part(error: BaseException) -> bool:
    """Return True if some statements of a failed call had run."""
    return getattr(error, _MARK, False)


def frames_of(error: BaseException) -> Iterator[FrameType]:
    """Yield the frames that an error has passed, the outermost first."""
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def codes_of(functions: Collection[Callable[..., Any]]) -> frozenset[CodeType]:
    """Return what the frames of functions have, also of those that others wrap."""
    return frozenset(unwrap(function).__code__ for function in functions)
