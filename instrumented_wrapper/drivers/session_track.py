"""Read the session state that servers report within their answers (CLIENT_SESSION_TRACK): PyMySQL, aiomysql, asyncmy.

`reading_end` is about PyMySQL's packets, which aiomysql uses. Knows how the drivers keep an answer, and none of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, cast

from instrumented_wrapper.databases.mysql import tracking
from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.registry import KEY

Method = Callable[..., Any]
STATE_CHANGED: Final = 0x4000  # SERVER_SESSION_STATE_CHANGED
TRACKED: Final = KEY + "_tracked"  # in a connection's `__dict__`, where the server reports what changes; False: it will
_LAST: Final = KEY + "_last"  # in the connection's `__dict__`: the answer that follows the rows reports all there is


def without_reports(connection: object, message: bytes, status: int) -> bytes:
    """Take out of an OK packet what the server reports; return what is left, as without."""
    if message:
        message, state = tracking.parts(message, bool(status & STATE_CHANGED))
        if state:
            _receive(connection, state)
    if _LAST in connection.__dict__:
        del connection.__dict__[_LAST]
        if (record := connection.__dict__.get(KEY)) is not None:  # not forgotten meanwhile by `uninstrument()`
            record.settings_client.received_all()
    return message


def _receive(connection: object, state: bytes) -> None:
    """Tell the session what the server has reported."""
    record: Record | None = connection.__dict__.get(KEY)
    if record is None or record.foreign:
        return
    changes, client = tracking.changes(state), cast(Any, record.settings_client)
    if changes.settings or changes.unnamed:
        client.receive(changes)
    else:
        client.received_all()


def reading_end(original: Method) -> Method:
    """``MySQLResult._check_packet_is_eof``, called with each row: the packet that ends them has a status."""
    asks_first = original.__code__.co_names[:1] == ("is_eof_packet",)  # a row costs no call more than without us

    @functools.wraps(original)
    def _check_packet_is_eof(self: Any, packet: Any) -> Any:
        if asks_first and not packet.is_eof_packet():
            return False
        is_end = original(self, packet)
        if is_end and (connection := self.connection) is not None:
            data = packet._data
            status = data[3] | data[4] << 8  # after its mark and the number of warnings
            connection.server_status, known = status, connection.__dict__
            record = known.get(KEY)
            if record is not None and (status & STATE_CHANGED or record.settings_client.called) and TRACKED in known:
                rows_ended(connection, status, self.has_next)
        return is_end

    return _check_packet_is_eof


def rows_ended(connection: Any, status: int, more: Any) -> None:
    """Keep the status at the end of rows; `more`: another result follows."""
    connection.server_status, known = status, connection.__dict__
    if TRACKED in known and (record := known.get(KEY)) is not None:
        client = record.settings_client
        if status & STATE_CHANGED or client.called:
            _more_to_report(client, known, more)


def _more_to_report(client: Any, known: dict[str, Any], more: bool) -> None:
    """Notice that there is more to be reported than the end of rows has room for."""
    if not client.called:
        client.rows_changed()
        return
    client.had_rows()
    if more:
        known[_LAST] = True
