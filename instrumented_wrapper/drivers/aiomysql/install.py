"""What is patched of aiomysql, as a list: how it connects, what it sends, what the server reports."""

from __future__ import annotations

import functools
from operator import attrgetter
from typing import Any, Final

import aiomysql
from aiomysql import connection as module
from aiomysql import cursors, pool
from aiomysql.connection import Connection, MysqlPacket, MySQLResult, OKPacketWrapper

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.aiomysql.adapter import AioMySQL
from instrumented_wrapper.drivers.aiomysql.session_reports import reading_ok, reading_result
from instrumented_wrapper.drivers.async_mysql_seams import Method, Seams, methods_of_cursors, taking_keywords
from instrumented_wrapper.drivers.engine.async_closing import closing_after_reset, closing_at_once
from instrumented_wrapper.drivers.engine.async_driver import AsyncDriver
from instrumented_wrapper.drivers.engine.async_record import AsyncRecord
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.drivers.session_track import reading_end
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches

PARTS: Final = {
    module: ["_connect", "_ConnectionContextManager"],
    Connection: """_execute_command _read_ok_packet _read_packet _read_bytes _read_query_result _request_authentication
    _connect _close_on_cancel _ensure_alive query ._affected_rows ._charset ._close_reason ._db ._encoding ._host
    ._next_seq_id ._password ._port ._reader ._result ._secure ._ssl_context ._unix_socket ._user ._writer .client_flag
    .server_capabilities .server_status .server_version""".split(),
    MySQLResult: """read _check_packet_is_eof _read_ok_packet .connection .has_next .message .server_status
    .unbuffered_active""".split(),
    module._StreamReader: ["eof_received"],
    MysqlPacket: ["is_eof_packet", "._data"],
    OKPacketWrapper: [".message", ".server_status"],
    cursors.Cursor: "execute executemany callproc nextset mogrify ._connection ._result".split(),
    cursors.SSCursor: "_read_next close".split(),
}
_CLOSES: Final = (Connection._read_packet, Connection._read_bytes, Connection._close_on_cancel)  # call `close`
_close: Final = Connection.close
ADAPTER: Final = AioMySQL()
DRIVER: Final = AsyncDriver(ADAPTER)


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch aiomysql's classes."""
    seams = Seams.of(patches, ADAPTER, DRIVER, options, flows)
    for owner in (aiomysql, module, pool):
        patches.replace(owner, "connect", taking_keywords(module.connect, _connected))
    seams.connections("_connect")
    seams.over("_request_authentication", seams.authenticating)
    seams.over("_ensure_alive", _making_cursor)
    _ends(seams)
    _results(patches)
    _cursors(seams)


def _connected(**given: Any) -> Any:
    return module._ConnectionContextManager(module._connect(**given))


def _ends(seams: Seams) -> None:
    codes = frozenset(function.__code__ for function in _CLOSES)
    seams.over("close", closing_at_once(DRIVER, seams.flows, codes.__contains__))
    seams.over("ensure_closed", closing_after_reset(ADAPTER, DRIVER, seams.flows, ADAPTER.end))


def _results(patches: Patches) -> None:
    patches.close_over(Connection, "_read_ok_packet", reading_ok)
    patches.close_over(MySQLResult, "_read_ok_packet", reading_result)
    patches.close_over(MySQLResult, "_check_packet_is_eof", reading_end)


def _cursors(seams: Seams) -> None:
    for name, make in methods_of_cursors(seams, "_connection").items():
        seams.patches.close_over(cursors.Cursor, name, make)
    read = functools.partial(seams.calls.read, connection_of=attrgetter("_connection"))
    seams.patches.close_over(cursors.SSCursor, "_read_next", read)


def _making_cursor(original: Method) -> Method:
    """``Connection._ensure_alive``, which ``cursor()`` calls: the next statement replaces a lost connection."""

    @functools.wraps(original)
    def _ensure_alive(self: Any) -> None:
        if self._writer is None and self._close_reason is None:  # it is lost
            record: AsyncRecord | None = self.__dict__.get(KEY)
            if record is not None and record.switchable and not record.active_caller:
                return
        original(self)

    return _ensure_alive
