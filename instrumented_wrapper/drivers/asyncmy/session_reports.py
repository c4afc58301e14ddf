"""Patch what reads asyncmy's answers, to read the session state that the server reports within them."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any, Final

from asyncmy.connection import MySQLResult
from asyncmy.constants.CR import CR_COMMANDS_OUT_OF_SYNC
from asyncmy.errors import OperationalError
from asyncmy.protocol import OKPacketWrapper

from instrumented_wrapper.drivers.engine.async_calls import coroutine_function
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.drivers.session_track import STATE_CHANGED, TRACKED, rows_ended, without_reports

Method = Callable[..., Any]
_NEWS: Final = STATE_CHANGED | 8  # SERVER_MORE_RESULTS_EXISTS
_FLAGS: Final = struct.Struct("<BBBBHH")


def receive(connection: Any, result: Any) -> None:
    """Record the flags at the end of a result, and what the server reports there. Call it right after the reading.

    asyncmy takes flags of 0 for missing: autocommit is off then. Received twice, a result does no harm.
    """
    if result.unbuffered_active:
        return
    known, status, message = connection.__dict__, end_status(connection, result), result.message
    if message is None and not connection._deprecate_eof:
        rows_ended(connection, status, result.has_next)
        return
    connection.server_status = status
    if TRACKED not in known:
        return
    if message is not None:
        result.message = without_reports(connection, message, status)
    elif (record := known.get(KEY)) is not None:
        record.settings_client.called = False  # what a function has set is among the reports
        without_reports(connection, _end_of_rows(connection, result) if status & STATE_CHANGED else b"", status)


def end_status(connection: Any, result: Any) -> int:
    """Return the flags at the end of a result that has just been read to its end.

    asyncmy drops the flags of an EOF packet, which ends the rows of old servers and of some proxies. They are its last
    two bytes, and the last ones that were read.
    """
    if result.message is not None or connection._deprecate_eof:
        return int(result.server_status)
    protocol = connection._proto
    buffer, end = protocol.buffer, protocol.pos
    return int(buffer[end - 2] | buffer[end - 1] << 8)


def _end_of_rows(connection: Any, result: Any) -> bytes:
    """Return what follows the flags in the OK packet after rows, of which asyncmy keeps nothing.

    The packet is the last one that was read from the buffer: three bytes with its length, its number, its mark, two
    numbers that are 0, flags and warnings. The buffer may begin after the number.
    """
    protocol = connection._proto
    buffer, end = protocol.buffer, protocol.pos
    start = _FLAGS.pack(connection._next_seq_id - 1 & 0xFF, 0xFE, 0, 0, result.server_status, result.warning_count)
    at = end
    while (at := buffer.rfind(start, 0, at + len(start) - 1)) >= 3:
        if int.from_bytes(buffer[at - 3 : at], "little") == end - at - 1:
            return bytes(buffer[at + len(start) : end])
    return bytes(buffer[len(start) - 1 : end]) if buffer.startswith(start[1:]) else b""


def reading_ok(original: Method) -> Method:
    """Wrap ``Connection._read_ok_packet``: the answer to what has no result. The steps are asyncmy's."""

    @functools.wraps(original)
    async def _read_ok_packet(self: Any) -> Any:
        packet = await self.read_packet()
        if not packet.is_ok_packet():
            raise OperationalError(CR_COMMANDS_OUT_OF_SYNC, "Command Out of Sync")
        ok = OKPacketWrapper(packet)
        self.server_status = status = ok.server_status
        if TRACKED in self.__dict__:
            ok.message = without_reports(self, ok.message, status)
        return ok

    return _read_ok_packet


def receiving_result(original: Method) -> Method:
    """Wrap a method of connections that reads an answer, and receive it."""

    @functools.wraps(original)
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = await original(self, *args, **kwargs)
        receive(self, self._result)
        return found

    return method


def answer_to(connection: Any) -> Any:
    """Return the answer to the statement of a cursor, and receive it where ``Connection.query`` does not.

    Mostly it is rows whose flags, which asyncmy keeps, announce nothing.
    """
    result = connection._result
    record = connection.__dict__.get(KEY)
    if record is not None and record.active_caller is True:
        status = result.server_status
        if status & _NEWS or result.message is not None or record.settings_client.called:
            receive(connection, result)
        elif not status:  # outside autocommit and transactions, or not known
            _receive_none(connection, result)
    return result


def _receive_none(connection: Any, result: Any) -> None:
    if connection._deprecate_eof and not result.unbuffered_active:
        connection.server_status = 0
    else:
        receive(connection, result)


def taking_result(original: Method) -> Method:
    """Wrap ``Cursor._do_get_result``, which takes the answer: a coroutine less than around what reads it."""

    @functools.wraps(original)
    def _do_get_result(self: Any) -> Any:
        answer_to(self.connection)
        return original(self)

    return coroutine_function(_do_get_result)


def reading_statement(original: Method) -> Method:
    """Wrap ``PreparedStatement._complete_result``: the answer to a prepared statement. It drops further results."""

    @functools.wraps(original)
    async def _complete_result(self: Any, conn: Any, result: Any) -> None:
        receive(conn, result)
        more = result.has_next
        while more:
            further = MySQLResult(conn)
            await further.read_binary()
            receive(conn, further)
            more = further.has_next
        result.has_next, status = False, conn.server_status
        await original(self, conn, result)
        conn.server_status = status

    return _complete_result
