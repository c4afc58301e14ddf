"""Read the session state that the server reports within PyMySQL's answers, and the status at their end."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from instrumented_wrapper.databases.mysql import tracking
from instrumented_wrapper.drivers.pymysql.native import STATE_CHANGED, TRACKED, hear
from instrumented_wrapper.drivers.registry import KEY

__all__ = ["ending", "hearing", "hearing_result", "reading_on"]

Method = Callable[..., Any]
_LAST = KEY + "_last"  # in the connection's `__dict__`: the answer that follows the rows reports all there is


def hearing(original: Method) -> Method:
    """``Connection._read_ok_packet``: the answer to what has no result."""

    @functools.wraps(original)
    def _read_ok_packet(self: Any) -> Any:
        ok = original(self)
        if TRACKED in self.__dict__:
            ok.message = _heard(self, ok.message, ok.server_status)
        return ok

    return _read_ok_packet


def hearing_result(original: Method) -> Method:
    """``Connection._read_query_result``: the answer to a statement, where it is one without rows."""

    @functools.wraps(original)
    def _read_query_result(self: Any, unbuffered: bool = False) -> Any:
        affected = original(self, unbuffered)
        result = self._result
        if result.message is None:
            _ended(self, result)
        elif TRACKED in self.__dict__:
            result.message = _heard(self, result.message, result.server_status)
        return affected

    return _read_query_result


def _heard(connection: Any, message: bytes, status: int) -> bytes:
    """Take out of an OK packet what the server reports; return what is left, as without."""
    info, state = tracking.parts(message, bool(status & STATE_CHANGED))
    if state:
        hear(connection, state)
    is_last, record = connection.__dict__.pop(_LAST, None), connection.__dict__.get(KEY)
    if is_last and record is not None:  # not forgotten meanwhile by `uninstrument()`
        record.settings_client.heard_all()
    return info


class _More(int):
    """Whether another result follows, as PyMySQL keeps it, with all that the end of this one said of the session."""

    status: int


_known: dict[int, _More] = {}


def ending(original: Method) -> Method:
    """``EOFPacketWrapper.__init__``: the end of the rows, of which PyMySQL keeps less than it says."""

    @functools.wraps(original)
    def __init__(self: Any, from_packet: Any) -> None:
        original(self, from_packet)
        status = self.server_status & 0xFFFF
        more = _known.get(status)
        if more is None:  # once per status: there are few
            more = _known[status] = _More(self.has_next)
            more.status = status
        self.has_next = more

    return __init__


def reading_on(original: Method) -> Method:
    """What reads an unbuffered result on, perhaps to its end."""

    @functools.wraps(original)
    def read(self: Any) -> Any:
        connection = self.connection
        row = original(self)
        if connection is not None and self.connection is None:
            _ended(connection, self)
        return row

    return read


def _ended(connection: Any, result: Any) -> None:
    """Keep what the end of a result says of the transaction, and notice that there is more to be reported."""
    status = getattr(result.has_next, "status", None)
    if status is None:
        return
    connection.server_status = status
    record = connection.__dict__.get(KEY)
    if record is None or TRACKED not in connection.__dict__:
        return
    if record.settings_client.called:
        record.settings_client.had_rows()
        if result.has_next:
            connection.__dict__[_LAST] = True
    elif status & STATE_CHANGED:
        record.settings_client.rows_changed()
