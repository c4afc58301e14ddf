"""What is patched of asyncmy, as a list: how it connects, what it sends, what the server reports."""

from __future__ import annotations

import functools
from operator import attrgetter
from pathlib import Path
from types import CodeType
from typing import Any, Final

import asyncmy
from asyncmy import connection as module
from asyncmy import cursors, pool, protocol
from asyncmy.connection import Connection, MySQLResult, PreparedStatement

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.async_mysql_seams import Seams, methods_of_cursors, taking_keywords
from instrumented_wrapper.drivers.asyncmy import prepared
from instrumented_wrapper.drivers.asyncmy.adapter import AsyncMy
from instrumented_wrapper.drivers.asyncmy.cursors import Cursors, reading_rest
from instrumented_wrapper.drivers.asyncmy.session_reports import (
    reading_ok,
    reading_statement,
    receiving_result,
    taking_result,
)
from instrumented_wrapper.drivers.engine.async_closing import closing_after_reset, closing_at_once
from instrumented_wrapper.drivers.engine.async_driver import AsyncDriver
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches

PARTS: Final = {
    module: ["_connect", "_ConnectionContextManager"],
    Connection: """_acquire_cached_statement _close_on_cancel _execute_command _read_ok_packet _read_query_result
    _request_authentication _stream_broken connect cursor next_result ping prepare query show_warnings _affected_rows
    _connected _cursor_cls _deprecate_eof _echo _encoding _next_seq_id _proto _query_callback _result _stmt_cache
    _stmt_cache_size _transport read_packet server_status""".split(),
    module._MySQLProtocol: "buffer eof exc pos".split(),
    MySQLResult: """_read_rowdata_packet_unbuffered _take_pending_rows affected_rows description has_next insert_id
    message read read_binary rows server_status unbuffered_active warning_count""".split(),
    PreparedStatement: """_complete_result _connection _execute_header _meta _statement_id execute
    execute_bulk""".split(),
    protocol.MysqlPacket: ["is_ok_packet"],
    protocol.OKPacketWrapper: ["message", "server_status"],
    cursors.Cursor: """__aexit__ _clear_result _do_get_result _executed _result _rows callproc close connection
    description execute executemany lastrowid mogrify nextset rowcount""".split(),
    cursors.SSCursor: "fetchone nextset read_next".split(),
}
_OURS: Final = str(Path(__file__).parents[1])  # the drivers: asyncmy is compiled, and calls `close` without a frame
ADAPTER: Final = AsyncMy()
DRIVER: Final = AsyncDriver(ADAPTER)


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch asyncmy's classes."""
    seams = Seams.of(patches, ADAPTER, DRIVER, options, flows)
    for owner in (asyncmy, module, pool):
        patches.replace(owner, "connect", taking_keywords(module.connect, _connected))
    seams.connections("connect", receiving_result)
    seams.over("_request_authentication", seams.authenticating)
    seams.over("close", closing_at_once(DRIVER, flows, _is_ours))
    seams.over("ensure_closed", closing_after_reset(ADAPTER, DRIVER, flows, ADAPTER.end, _is_ours))
    _results(seams)
    _statements(seams)


def _connected(**given: Any) -> Any:
    return module._ConnectionContextManager(module._connect(**given))


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(_OURS)


def _results(seams: Seams) -> None:
    seams.over("_read_ok_packet", reading_ok)
    seams.over("next_result", receiving_result)
    seams.patches.close_over(PreparedStatement, "_complete_result", reading_statement)


def _statements(seams: Seams) -> None:
    methods = {**methods_of_cursors(seams, "connection"), "_do_get_result": taking_result}
    read = functools.partial(seams.calls.read, connection_of=attrgetter("connection"))
    unbuffered = {
        "read_next": lambda original: read(reading_rest(original)),
        "nextset": lambda original: methods["nextset"](reading_rest(original)),
    }
    seams.over("cursor", Cursors(methods, unbuffered).making)
    seams.over("prepare", lambda original: prepared.preparing(seams.calls, original))
    seams.over("_acquire_cached_statement", functools.partial(prepared.caching, seams.calls))
    for name, begin in (("execute", seams.spans.statement), ("execute_bulk", seams.spans.batch)):
        make = functools.partial(prepared.executing, seams.calls, begin)
        seams.patches.close_over(PreparedStatement, name, make)
