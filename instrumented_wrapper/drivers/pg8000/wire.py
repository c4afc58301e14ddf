"""The socket of a pg8000 connection: unsolicited messages, and what an error says about it."""

from __future__ import annotations

import ssl
from typing import Any, Final

from pg8000 import core
from pg8000.core import CoreConnection
from pg8000.exceptions import Error, InterfaceError

from instrumented_wrapper.drivers.engine.partial_execution import frames_of
from instrumented_wrapper.drivers.registry import poll_of

_ON_THE_WIRE: Final = frozenset(
    function.__code__ for name in ("_read", "_write", "_flush") if (function := getattr(core, name, None)) is not None
)
_RECEIVING: Final = CoreConnection.handle_messages.__code__
_EXCHANGES: Final = frozenset(
    getattr(CoreConnection, name).__code__
    for name in "execute_simple execute_unnamed execute_named prepare_statement close_prepared_statement".split()
)

GOODBYE: Final = b"E"  # the message by which a server announces that it ends a session


def is_of_the_socket(error: BaseException) -> bool:
    """Return True if pg8000 could not read or write; an `OSError` may also be of a stream of the app's, for COPY."""
    if isinstance(error, InterfaceError):
        return "network error" in str(error)
    if not isinstance(error, OSError):
        return False
    return any(frame.f_code in _ON_THE_WIRE for frame in frames_of(error))


def has_message(connection: Any) -> bool:
    """Return True if the server has sent data that has not been read yet. Does not wait.

    Raises:
        InterfaceError: the server has gone.
        OSError: the server has gone.
    """
    usock, stream = connection._usock, connection._sock
    before = usock.gettimeout()
    usock.settimeout(0)
    try:
        if stream.peek(1):
            return True
    except ssl.SSLWantReadError:  # something of TLS's own
        return False
    finally:
        usock.settimeout(before)
    if poll_of(usock.fileno())(0):
        raise InterfaceError("network error")  # to be read is the end
    return False


def read_message(connection: Any) -> bytes:
    """Read one message and have pg8000 take it; return its kind."""
    stream = connection._sock
    code, length = core.ci_unpack(core._read(stream, 5))
    connection.message_types[code](core._read(stream, length - 4), core.Context(None))
    return code  # type: ignore[no-any-return]


def leaves_unread(error: BaseException) -> bool:
    """Return True if a call ended within an exchange with the server, so that the next one may read its answer.

    An interruption does that, or a value that cannot be converted: pg8000 does not read on.
    """
    within = False
    for frame in frames_of(error):
        within = within or frame.f_code in _EXCHANGES
        if frame.f_code is _RECEIVING:
            return bool(frame.f_locals.get("code") != core.READY_FOR_QUERY)
    return within and not isinstance(error, Error)
