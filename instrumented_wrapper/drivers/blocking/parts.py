"""Calls of the app that send several statements: whether some had run when one of them failed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

__all__ = ["has_run_in_part", "in_parts"]

_MARK: Final = "_instrumented_wrapper_in_part"


def in_parts(original: Callable[..., Any], last: Callable[[Any], Any]) -> Callable[..., Any]:
    """Have an ``executemany`` mark its error, if a statement before has run: then `last` of the cursor is another."""

    @functools.wraps(original)
    def executemany(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = last(self)
        try:
            return original(self, *args, **kwargs)
        except Exception as error:
            if last(self) is not before:
                setattr(error, _MARK, True)
            raise

    return executemany


def has_run_in_part(error: BaseException) -> bool:
    """Tell whether a call that sends several statements failed when some of them had run."""
    return getattr(error, _MARK, False)
