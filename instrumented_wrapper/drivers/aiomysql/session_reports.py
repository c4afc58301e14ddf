"""Patch what reads aiomysql's answers, to read the session state that the server reports within them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from aiomysql.connection import OKPacketWrapper
from pymysql.err import OperationalError

from instrumented_wrapper.drivers.session_track import TRACKED, ended, without_reports

Method = Callable[..., Any]
_OUT_OF_SYNC = 2014


def reading_ok(original: Method) -> Method:
    """``Connection._read_ok_packet``: the answer to what has no result, of which aiomysql keeps the status only."""

    @functools.wraps(original)
    async def _read_ok_packet(self: Any) -> Any:
        if TRACKED not in self.__dict__:
            return await original(self)
        packet = await self._read_packet()
        if not packet.is_ok_packet():
            raise OperationalError(_OUT_OF_SYNC, "Command Out of Sync")
        ok = OKPacketWrapper(packet)
        self.server_status = ok.server_status
        without_reports(self, ok.message, ok.server_status)
        return True

    return _read_ok_packet


def reading_result(original: Method) -> Method:
    """``Connection._read_query_result``: the answer to a statement, where it is one without rows."""

    @functools.wraps(original)
    async def _read_query_result(self: Any, unbuffered: bool = False) -> Any:
        await original(self, unbuffered)
        result = self._result
        if result.message is None:
            ended(self, result)
        elif TRACKED in self.__dict__:
            result.message = without_reports(self, result.message, result.server_status)

    return _read_query_result


def reading_rest(original: Method) -> Method:
    """What reads an unbuffered result on, perhaps to its end."""

    @functools.wraps(original)
    async def read(self: Any) -> Any:
        connection = self.connection
        row = await original(self)
        if connection is not None and self.connection is None:
            ended(connection, self)
        return row

    return read
