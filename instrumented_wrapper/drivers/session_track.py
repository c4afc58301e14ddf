"""Read the session state that servers report within their answers (CLIENT_SESSION_TRACK), over PyMySQL's packets.

PyMySQL has these classes, and aiomysql uses them. Knows how both keep an answer, and neither of the drivers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, cast

from instrumented_wrapper.databases.mysql import tracking
from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.registry import KEY

Method = Callable[..., Any]
_STATE_CHANGED: Final = 0x4000  # SERVER_SESSION_STATE_CHANGED
TRACKED: Final = KEY + "_tracked"  # in a connection's `__dict__`, where the server reports what changes; False: it will
_LAST: Final = KEY + "_last"  # in the connection's `__dict__`: the answer that follows the rows reports all there is


def without_reports(connection: Any, message: bytes, status: int) -> bytes:
    """Take out of an OK packet what the server reports; return what is left, as without."""
    info, state = tracking.parts(message, bool(status & _STATE_CHANGED))
    if state:
        _receive(connection, state)
    is_last, record = connection.__dict__.pop(_LAST, None), connection.__dict__.get(KEY)
    if is_last and record is not None:  # not forgotten meanwhile by `uninstrument()`
        record.settings_client.received_all()
    return info


def _receive(connection: Any, state: bytes) -> None:
    """Tell the session what the server has reported."""
    record: Record | None = connection.__dict__.get(KEY)
    if record is None or record.foreign:
        return
    changes, client = tracking.changes(state), cast(Any, record.settings_client)
    if changes.settings or changes.unnamed:
        client.receive(changes)
    else:
        client.received_all()


class _More(int):
    """Whether another result follows, as PyMySQL keeps it, with all that the end of this one said of the session."""

    status: int


_known: dict[int, _More] = {}


def ending(original: Method) -> Method:
    """``EOFPacketWrapper.__init__``: the end of the rows, of which PyMySQL keeps less than it says.

    Both drivers have it patched; it is once.
    """
    if getattr(original, "_is_ending", False):
        return original

    @functools.wraps(original)
    def __init__(self: Any, from_packet: Any) -> None:
        original(self, from_packet)
        status = self.server_status & 0xFFFF
        more = _known.get(status)
        if more is None:  # once per status: there are few
            more = _known[status] = _More(self.has_next)
            more.status = status
        self.has_next = more

    __init__._is_ending = True  # type: ignore[attr-defined]
    return __init__


def ended(connection: Any, result: Any) -> None:
    """Keep what the end of a result says of the transaction, and notice that there is more to be reported."""
    status = getattr(result.has_next, "status", None)
    if status is None:
        return
    connection.server_status, known = status, connection.__dict__
    record = known.get(KEY)
    if record is None or TRACKED not in known:
        return
    if record.settings_client.called:
        record.settings_client.had_rows()
        if result.has_next:
            known[_LAST] = True
    elif status & _STATE_CHANGED:
        record.settings_client.rows_changed()
