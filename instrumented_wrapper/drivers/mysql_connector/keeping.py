"""What mysql-connector itself keeps of a session, and gives each session that it begins anew.

It does so after ``reconnect()``, ``reset_session()`` and ``cmd_change_user()``: these are the attributes of a
connection whose values outlive its session. What is put back on the server has to be put back here, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

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
        collation = given.get("collation_connection")
        fits = collation if (collation or "").startswith(charset) else None
        connection._charset_id = connection._character_set.get_charset_info(charset, fits)[0]


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
