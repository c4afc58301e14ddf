"""What mysql-connector itself keeps of a session, and gives each session that it begins anew.

It does so after ``reconnect()``, ``reset_session()`` and ``cmd_change_user()``: these are the attributes of a
connection whose values outlive its session. What is put back on the server has to be put back here, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from mysql.connector import __version_info__

from instrumented_wrapper.drivers.blocking.records import Record
from instrumented_wrapper.server_settings import Assignment

__all__ = ["begin_anew", "give"]

_CHARACTER_SETS: Final = ("character_set_client", "character_set_results", "character_set_connection")


def give(connection: Any, assignments: Sequence[Assignment]) -> None:
    """The server is given these settings: keep them."""
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
    """Keep the character set by which the driver reads and writes texts."""
    known = connection._character_set
    connection._charset_id, name, _ = known.get_charset_info(charset, collation if charset in collation else None)
    if connection.converter:
        connection.converter.set_charset(name, character_set=known)
    if __version_info__ < (9,) and hasattr(connection, "set_character_set_name"):
        connection.set_character_set_name(name)  # of the C extension, in those versions


def _kept(connection: Any) -> Iterator[tuple[str, str]]:
    yield "autocommit", str(int(connection._autocommit))
    if connection._time_zone:
        yield "time_zone", connection._time_zone
    if connection._sql_mode:
        yield "sql_mode", connection._sql_mode
    charset, collation = connection._character_set.get_info(connection._charset_id)
    yield from ((name, charset) for name in _CHARACTER_SETS)
    yield "collation_connection", collation


def begin_anew(connection: Any, record: Record) -> None:
    """The driver has begun the session anew, and has given it what it keeps: of the rest nothing is left."""
    pristine = {name: before for name, (_, before) in record.on_server.shown.items()}
    record.began_anew(connection)
    for name, value in _kept(connection):
        if (before := pristine.get(name)) is not None:
            record.on_server.noticed(name, before, value)
    record.refresh_changed()
