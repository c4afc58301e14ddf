"""Patch what reads PyMySQL's answers, to read the session state that the server reports within them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from instrumented_wrapper.drivers.session_track import TRACKED, without_reports

Method = Callable[..., Any]


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
        if result.message is not None and TRACKED in self.__dict__:
            result.message = without_reports(self, result.message, result.server_status)
        return affected

    return _read_query_result
