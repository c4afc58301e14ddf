"""Patch what reads asyncmy's answers, to read the session state that the server reports within them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Final

from instrumented_wrapper.drivers.engine.async_calls import coroutine_function
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.drivers.session_track import STATE_CHANGED, TRACKED, rows_ended, without_reports

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
    """``Connection._read_query_result``: the answer to a statement.

    On the frequent path it is that very coroutine of asyncmy, and whoever asked for the answer receives it.
    """
    receiving = receiving_result(original)

    @functools.wraps(original)
    def _read_query_result(self: Any, unbuffered: bool = False) -> Any:
        record = self.__dict__.get(KEY)
        return (original if record is not None and record.active_caller is True else receiving)(self, unbuffered)

    return coroutine_function(_read_query_result)


def receiving_result(original: Method) -> Method:
    """A method of connections that reads an answer with ``_read_query_result``. To receive it twice does no harm."""

    @functools.wraps(original)
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = await original(self, *args, **kwargs)
        receive(self, self._result)
        return found

    return method


def taking_result(original: Method) -> Method:
    """``Cursor._do_get_result``, which comes right after the answer: a coroutine less than around the reading."""

    @functools.wraps(original)
    def _do_get_result(self: Any) -> Any:
        connection = self.connection
        known = connection.__dict__
        if (record := known.get(KEY)) is None or record.active_caller is not True:
            return original(self)
        result = connection._result
        if result.message is not None or result.has_next or connection._deprecate_eof or result.unbuffered_active:
            receive(connection, result)
        else:  # rows, and nothing after them: as `rows_ended`, but each attribute of a compiled class is looked up once
            connection.server_status = status = _last.status
            if TRACKED in known and (status & STATE_CHANGED or record.settings_client.called):
                rows_ended(connection, status, False)
        return original(self)

    return coroutine_function(_do_get_result)


def reading_statement(original: Method) -> Method:
    """``PreparedStatement._complete_result``: the answer to a prepared statement."""

    @functools.wraps(original)
    async def _complete_result(self: Any, conn: Any, result: Any) -> None:
        await original(self, conn, result)
        receive(conn, result)

    return _complete_result
