"""Calls of the app that send several statements: whether some had run when one of them failed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

_MARK: Final = "_instrumented_wrapper_in_part"
Method = Callable[..., Any]


def in_parts(original: Method) -> Method:
    """Have an ``executemany`` mark its error, if an ``execute`` within it has gone well.

    That one is seen in the cursor's ``__dict__``, and takes itself out of there: those after it cost nothing more.
    """

    @functools.wraps(original)
    def executemany(self: Any, *args: Any, **kwargs: Any) -> Any:
        execute, known, done = self.execute, self.__dict__, False
        before = {name: known[name] for name in ("execute",) if name in known}

        def leave() -> None:
            known.pop("execute", None)
            known.update(before)

        def first(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            result = execute(*args, **kwargs)
            done = True
            leave()
            return result

        known["execute"] = first
        try:
            return original(self, *args, **kwargs)
        except Exception as error:
            if done:
                mark(error)
            raise
        finally:
            leave()

    return executemany


def in_parts_async(original: Method) -> Method:
    """Do as `in_parts` does, where an ``execute`` is awaited."""

    @functools.wraps(original)
    async def executemany(self: Any, *args: Any, **kwargs: Any) -> Any:
        execute, done, before = self.execute, False, self.__dict__.get("execute")

        async def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            result = await execute(*args, **kwargs)
            done = True
            return result

        self.__dict__["execute"] = counted
        try:
            return await original(self, *args, **kwargs)
        except Exception as error:
            if done:
                mark(error)
            raise
        finally:
            del self.__dict__["execute"]
            self.__dict__.update({} if before is None else {"execute": before})

    return executemany


def of_the_rest(original: Method) -> Method:
    """Have what reads the answer to a later one of several statements mark its error: the first has run."""

    @functools.wraps(original)
    def read(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except Exception as error:
            mark(error)
            raise

    return read


def of_the_rest_async(original: Method) -> Method:
    """Do as `of_the_rest` does, where it is awaited."""

    @functools.wraps(original)
    async def read(*args: Any, **kwargs: Any) -> Any:
        try:
            return await original(*args, **kwargs)
        except Exception as error:
            mark(error)
            raise

    return read


def mark(error: BaseException) -> None:
    """Keep that a statement has run before the one that failed."""
    setattr(error, _MARK, True)


def has_run_in_part(error: BaseException) -> bool:
    """Tell whether a call that sends several statements failed when some of them had run."""
    return getattr(error, _MARK, False)
