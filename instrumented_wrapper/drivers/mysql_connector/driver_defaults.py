"""The settings that mysql-connector itself keeps and applies to each session that it begins.

It does so after ``reconnect()``, ``reset_session()`` and ``cmd_change_user()``: these attributes of a connection
outlive its session. A reset on the server must be repeated here.
"""

from __future__ import annotations

import codecs
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from mysql.connector import __version_info__
from mysql.connector.connection import MySQLConnection

from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.plans import Assignment

_CHARACTER_SETS: Final = ("character_set_client", "character_set_results", "character_set_connection")
_OFF: Final = "_instrumented_wrapper_context_off"  # in a connection's ``__dict__``: we have turned it off, not the app


def give(connection: Any, assignments: Sequence[Assignment]) -> None:
    """Record settings that were applied on the server."""
    given = dict(assignments)
    if given.get("autocommit") in ("0", "1"):
        connection._autocommit = given["autocommit"] == "1"
    if "time_zone" in given and connection._time_zone:
        connection._time_zone = given["time_zone"]
    if "sql_mode" in given:
        connection._sql_mode = given["sql_mode"]
    if charset := given.get("character_set_client"):
        _choose(connection, charset, given.get("collation_connection") or "")


def _choose(connection: Any, charset: str, collation: str) -> None:
    """Record the character set of the driver."""
    known = connection._character_set
    connection._charset_id, name, _ = known.get_charset_info(charset, collation if charset in collation else None)
    if connection.converter:
        connection.converter.set_charset(name, character_set=known)
    if __version_info__ < (9,) and hasattr(connection, "set_character_set_name"):
        connection.set_character_set_name(name)  # of the C extension, in those versions


def kept_settings(connection: Any) -> Iterator[tuple[str, str]]:
    """Yield the settings but the character sets, which sync and async connections keep alike."""
    yield "autocommit", str(int(connection._autocommit))
    if connection._time_zone:
        yield "time_zone", connection._time_zone
    if connection._sql_mode:
        yield "sql_mode", connection._sql_mode


def _kept(connection: Any) -> Iterator[tuple[str, str]]:
    yield from kept_settings(connection)
    charset, collation = connection._character_set.get_info(connection._charset_id)
    yield from ((name, charset) for name in _CHARACTER_SETS)
    yield "collation_connection", collation


def begin_anew(connection: object, record: Record, kept: Iterable[tuple[str, str]] | None = None) -> None:
    """Record that the driver has begun a new session with the settings that it keeps: all others are gone.

    `kept`: these settings, where the connection is not a sync one.
    """
    pristine = {name: before for name, (_, before) in record.on_server.shown.items()}
    record.session_restarted(connection)
    for name, value in _kept(connection) if kept is None else kept:
        if (before := pristine.get(name)) is not None:
            record.on_server.apply_report(name, before, value)
    record.refresh_changed()


def keep_context(connection: Any, knows: bool) -> None:
    """Prevent the driver from sending the current span, which may be ours, where this would break statements.

    The driver sends the span with each statement as a query attribute. A server that `knows` none takes it for a
    parameter, and a pure connection raises LookupError if Python has no codec of the character set's name.
    """
    if not (knows and _writes_attributes(connection)):
        connection.__dict__.setdefault(_OFF, connection.otel_context_propagation)
        connection.otel_context_propagation = False
    elif connection.__dict__.pop(_OFF, False):
        connection.otel_context_propagation = True


def _writes_attributes(connection: object) -> bool:
    if not isinstance(connection, MySQLConnection):
        return True
    try:
        return connection.charset == "utf8mb4" or bool(codecs.lookup(connection.charset))
    except LookupError:
        return False


def choosing(keep: Callable[[Any], None], original: Callable[..., None]) -> Callable[..., None]:
    """``set_charset_collation``: the driver writes what it sends there in the new character set already."""

    @functools.wraps(original)
    def set_charset_collation(self: Any, *args: Any, **kwargs: Any) -> None:
        wanted, self.otel_context_propagation = self.otel_context_propagation, False
        try:
            original(self, *args, **kwargs)
        finally:
            self.otel_context_propagation = wanted
            keep(self)

    return set_charset_collation
