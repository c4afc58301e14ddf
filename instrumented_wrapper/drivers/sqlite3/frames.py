"""Warnings about the app's arguments name the app's line: calls are made as from there.

A warning of the C code is told of the innermost Python frame, and Python shows each once per such place: between the
app and the C code there is one of ours. Where a warning may come, the call is made from a frame with the app's
globals, file and line instead, which is all that ``warnings`` looks at. Nothing global is touched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType, FunctionType
from typing import Any, Final

__all__ = ["as_from_the_app"]

_OURS: Final = __name__.partition(".")[0]
_CALL: Final = (lambda function, args, kwargs: function(*args, **kwargs)).__code__


def as_from_the_app(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call `function` from a frame that stands for the app's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_ours(frame):
        frame = frame.f_back
    if frame is None:  # a program of ours
        return function(*args, **kwargs)
    code, line = frame.f_code, frame.f_lineno or frame.f_code.co_firstlineno
    standing = _CALL.replace(co_filename=code.co_filename, co_name=code.co_name, co_firstlineno=line)
    return FunctionType(standing, frame.f_globals)(function, args, kwargs)


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == _OURS
