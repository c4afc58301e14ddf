"""Patch what reads aiomysql's answers, to read the session state that the server reports within them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from aiomysql.connection import OKPacketWrapper
from pymysql.err import OperationalError

from instrumented_wrapper.drivers.engine.async_calls import coroutine_function
from instrumented_wrapper.drivers.session_track import TRACKED, without_reports

Method = Callable[..., Any]
_OUT_OF_SYNC = 2014


def reading_ok(original: Method) -> Method:
    """Wrap ``Connection._read_ok_packet``: the response without a result, of which aiomysql keeps only the status."""

    @functools.wraps(original)
    def _read_ok_packet(self: Any) -> Any:
        return _read(self) if TRACKED in self.__dict__ else original(self)

    return coroutine_function(_read_ok_packet)


async def _read(connection: Any) -> bool:
    packet = await connection._read_packet()
    if not packet.is_ok_packet():
        raise OperationalError(_OUT_OF_SYNC, "Command Out of Sync")
    ok = OKPacketWrapper(packet)
    connection.server_status = ok.server_status
    without_reports(connection, ok.message, ok.server_status)
    return True


def reading_result(original: Method) -> Method:
    """``MySQLResult._read_ok_packet``: the answer to a statement that has no rows."""

    @functools.wraps(original)
    def _read_ok_packet(self: Any, first_packet: Any) -> None:
        original(self, first_packet)
        connection = self.connection
        if connection is not None and TRACKED in connection.__dict__:
            self.message = without_reports(connection, self.message, self.server_status)

    return _read_ok_packet
