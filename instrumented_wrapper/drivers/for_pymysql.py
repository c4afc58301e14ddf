"""What PyMySQL and its forks for asyncio (aiomysql, asyncmy) share: the part of `DriverAdapter` that is the same.

They keep a connection's state in attributes of the same names.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, Protocol

from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.for_mysql import ForMySQL
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.drivers.session_track import TRACKED

Method = Callable[..., Any]
COM_QUERY: Final = 3
COM_RESET_CONNECTION: Final = 0x1F
ENCODED: Final = ("character_set_client", "character_set_connection")  # the settings by which a driver encodes
_STATUS_IN_TRANSACTION, _STATUS_AUTOCOMMIT = 1, 2
_IDLE, _INTRANS = TransactionStatus.IDLE, TransactionStatus.INTRANS  # to look into an enum costs as much as a call


def shows_reconnect(original: Callable[..., Any]) -> Callable[..., Any]:
    """Give the code of ``Connection.ping`` its parameter.

    SQLAlchemy reads in the code whether `reconnect` is there and what its default is, and passes False only then:
    otherwise a check of its pool would connect anew, past the pool.
    """

    @functools.wraps(original)
    def ping(self: Any, reconnect: Any = None) -> Any:
        return original(self, reconnect)

    ping.__defaults__ = (inspect.signature(original).parameters["reconnect"].default,)  # type: ignore[attr-defined]
    return ping


class ForPyMySQL(ForMySQL, Protocol):
    """The shared part of the adapters."""

    def version(self, connection: Any) -> str:
        """Return what the greeting said."""
        return str(connection.server_version)

    def transaction_status(self, connection: Any, record: Record) -> TransactionStatus:
        """Tell by the flags of the server's last answer."""
        return _INTRANS if connection.server_status & _STATUS_IN_TRANSACTION else _IDLE

    def seems_open(self, connection: Any, record: Record) -> bool:
        """Tell by the flags of the last answer, which Python keeps."""
        return self.transaction_status(connection, record) is _INTRANS

    def begins(self, connection: Any) -> bool:
        """Tell by the same flags."""
        return not connection.server_status & _STATUS_AUTOCOMMIT

    def is_streaming(self, connection: Any) -> bool:
        """Tell whether an unbuffered result is not read to its end."""
        result = connection._result
        return result is not None and bool(result.unbuffered_active or result.has_next)

    def reports_later(self, connection: Any) -> bool:
        """Tell by the last result, which may be one of several."""
        result = connection._result
        return result is not None and (result.message is None or bool(result.has_next))

    def tracks(self, connection: object) -> bool:
        """Tell whether the server was asked to report what changes."""
        return TRACKED in connection.__dict__

    def exact(self, cursor: Any, query: Any, parameters: Any) -> str | None:
        """Return the statement as the driver will send it."""
        try:
            return self.text_of(cursor, cursor.mogrify(query, parameters))
        except Exception:  # noqa: BLE001 - the driver does the same again, and says what is wrong
            return None


def querying(direct: Method, original: Method) -> Method:
    """``Connection.query``: mostly a cursor calls it within its own call, and it is the driver's own there.

    It has the driver's parameters: to pack them costs as much as all the rest.

    Args:
        direct: what it does where the app calls it.
        original: the driver's.
    """

    @functools.wraps(original)
    def query(self: Any, sql: Any, unbuffered: bool = False) -> Any:
        record: Record | None = self.__dict__.get(KEY)
        within = record is None or record.active_caller is True
        return (original if within else direct)(self, sql, unbuffered)

    return query


def give_up_results(connection: Any, other: Any) -> None:
    """Give up a result that is still to be read, before the physical connections are exchanged."""
    result = connection._result
    if result is not None and result.unbuffered_active:
        result.unbuffered_active = False
    connection._result = other._result = None


def exchange_tracked(connection: object, other: object) -> None:
    """Exchange the marks of physical connections whose servers report what changes."""
    ours, theirs = connection.__dict__, other.__dict__
    for own, tracked in ((ours, theirs.pop(TRACKED, None)), (theirs, ours.pop(TRACKED, None))):
        own |= {TRACKED: True} if tracked else {}
