"""Patch what reads PyMySQL's answers, to read the session state that the server reports within them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.drivers.session_track import TRACKED, ended, without_reports

Method = Callable[..., Any]
_OVER: Final = KEY + "_over"  # in a result's `__dict__`: what its end said is kept


def reading_ok(original: Method) -> Method:
    """``Connection._read_ok_packet``: the answer to what has no result."""

    @functools.wraps(original)
    def _read_ok_packet(self: Any) -> Any:
        ok = original(self)
        if TRACKED in self.__dict__:
            ok.message = without_reports(self, ok.message, ok.server_status)
        return ok

    return _read_ok_packet


def reading_result(original: Method) -> Method:
    """``Connection._read_query_result``: the answer to a statement, where it is one without rows."""

    @functools.wraps(original)
    def _read_query_result(self: Any, unbuffered: bool = False) -> Any:
        affected = original(self, unbuffered)
        result = self._result
        if result.message is None:
            ended(self, result)
        elif TRACKED in self.__dict__:
            result.message = without_reports(self, result.message, result.server_status)
        return affected

    return _read_query_result


def reading_rest(original: Method) -> Method:
    """What reads the rest of an unbuffered result."""

    @functools.wraps(original)
    def read(self: Any) -> Any:
        connection = self.connection
        rest = original(self)
        if connection is not None and self.connection is None:
            _over(connection, self)
        return rest

    return read


def read_to_its_end(cursor: Any) -> None:
    """A cursor has no row any more of an unbuffered result: keep what its end said, once."""
    result, connection = cursor._result, cursor.connection
    if connection is not None and result is not None and result.connection is None:
        _over(connection, result)


def _over(connection: Any, result: Any) -> None:
    if _OVER not in result.__dict__:
        result.__dict__[_OVER] = True
        ended(connection, result)
