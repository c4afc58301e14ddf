"""Patch what reads asyncmy's answers, to read the session state that the server reports within them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Final

from instrumented_wrapper.drivers.session_track import TRACKED, rows_ended, without_reports

Method = Callable[..., Any]


class _Last(threading.local):
    """The flags of the EOF packet that was read last in this thread.

    Nothing else runs in the thread between the end of a result and whoever reads them here: asyncmy does not wait.
    """

    status = 0


_last: Final = _Last()


def ending(original: Any) -> Method:
    """``EOFPacketWrapper``, a compiled class that `asyncmy.connection` looks up by its name: the end of rows."""

    def wrapper(packet: Any) -> Any:
        end = original(packet)
        _last.status = end.server_status & 0xFFFF
        return end

    return wrapper


def end_of_rows(connection: Any, result: Any) -> int:
    """Return the flags at the end of a result with rows that has just been read to its end."""
    return int(result.server_status if connection._deprecate_eof else _last.status)


def receive(connection: Any, result: Any) -> None:
    """Record the flags at the end of a result. asyncmy takes flags of 0 for missing: autocommit is off then."""
    if result.unbuffered_active:
        return
    if result.message is None:
        rows_ended(connection, end_of_rows(connection, result), result.has_next)
        return
    connection.server_status = result.server_status
    if TRACKED in connection.__dict__:
        result.message = without_reports(connection, result.message, result.server_status)


def reading_ok(original: Method) -> Method:
    """``Connection._read_ok_packet``: the answer to what has no result."""

    @functools.wraps(original)
    async def _read_ok_packet(self: Any) -> Any:
        ok = await original(self)
        if TRACKED in self.__dict__:
            ok.message = without_reports(self, ok.message, ok.server_status)
        return ok

    return _read_ok_packet


def reading_result(original: Method) -> Method:
    """``Connection._read_query_result``: the answer to a statement."""

    @functools.wraps(original)
    async def _read_query_result(self: Any, unbuffered: bool = False) -> None:
        await original(self, unbuffered)
        receive(self, self._result)

    return _read_query_result


def reading_statement(original: Method) -> Method:
    """``PreparedStatement._complete_result``: the answer to a prepared statement."""

    @functools.wraps(original)
    async def _complete_result(self: Any, conn: Any, result: Any) -> None:
        await original(self, conn, result)
        receive(conn, result)

    return _complete_result
