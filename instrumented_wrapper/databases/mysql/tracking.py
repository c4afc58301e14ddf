"""What a server reports with its OK packets (CLIENT_SESSION_TRACK): which settings have changed, and to what.

Pure: bytes in, settings out. Format: the manuals' pages "OK Packet" and "Session State Information"; MariaDB puts
several pairs of name and value in one entry.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Final, NamedTuple

from instrumented_wrapper.databases.mysql.settings import OWN, canonical

ENABLE: Final = "SET SESSION session_track_system_variables='*', session_track_state_change=1"
# The same for a session that is new: what is set to what it is, is reported.
_ENCODING: Final = (
    *("character_set_client", "character_set_results", "character_set_connection"),
    "collation_connection",  # the last, for the one before sets it, too
)
BEGIN: Final = f"{ENABLE}, " + ", ".join(f"{name}=@@{name}" for name in _ENCODING)
# Changes nothing, and is answered with all that is still to be reported; ENABLE would have it forgotten.
LISTEN: Final = "DO 0"
LISTEN_MARIADB: Final = "SET SESSION session_track_state_change=@@session_track_state_change"  # to DO it adds nothing
WHICH: Final = "session_track_system_variables"
ALL: Final = "*"
_VARIABLES, _SCHEMA, _STATE_CHANGE = 0, 1, 2
_STATEMENT_ID: Final = b"\x0cstatement_id"
_KNOWN, _MOST_KNOWN = 64, 128  # reports that are remembered, and bytes of the longest one
_LONG: Final = {0xFC: 2, 0xFD: 3, 0xFE: 8}  # first byte of a length -> how many bytes follow that tell it


def parts(message: bytes, changed: bool) -> tuple[bytes, bytes]:
    """Split the end of an OK packet into its text and what is reported, which is there if `changed`."""
    if not message:
        return message, b""
    if message[4:17] == _STATEMENT_ID and _is_only_number(message[2:]):
        return b"", b""
    info, rest = _string(message)
    told = message[: len(message) - len(rest)] if info else b""  # its length before it, as without what is reported
    state = _string(rest)[0] if changed and rest else b""
    return told, b"" if _is_only_number(state) else state


def _is_only_number(state: bytes) -> bool:
    """Return True if it is the number of the statement: MySQL 9 reports it with each answer, on the frequent path."""
    return state[2:15] == _STATEMENT_ID and state[1] == len(state) - 2


class Changes(NamedTuple):
    """What was reported.

    Attributes:
        settings: those that have changed, with their values.
        unnamed: there is more, of which no name is reported.
        others: something else has changed than what the wrapper has had reported, were it only by the server itself.
    """

    settings: tuple[tuple[str, str | None], ...]
    unnamed: bool
    others: bool


def changes(state: bytes) -> Changes:
    """Read what a server has reported: apps set the same few settings again and again."""
    return _changes(state) if len(state) > _MOST_KNOWN or _STATEMENT_ID in state else _known_changes(state)


def _changes(state: bytes) -> Changes:
    reported: list[tuple[str, str | None]] = []
    unnamed = False
    while state:
        kind, (data, state) = state[0], _string(state[1:])
        if kind == _VARIABLES:
            reported += _variables(data)
        elif kind == _SCHEMA:
            reported.append(("database", _string(data)[0].decode(errors="replace") or None))
        elif kind == _STATE_CHANGE:
            unnamed = True
    theirs = tuple(pair for pair in reported if pair[0] not in OWN)
    named = any(not name.startswith("session_track") for name, _ in theirs)  # of these it is said, too
    others = any(not name.startswith("session_track") for name, _ in reported)
    return Changes(theirs, unnamed and not named, others)


_known_changes: Final = functools.lru_cache(_KNOWN)(_changes)


def _variables(data: bytes) -> Iterator[tuple[str, str | None]]:
    while data:
        name, data = _string(data)
        value, data = _string(data)
        yield canonical(name.decode(errors="replace"), value.decode(errors="replace"))


def _string(data: bytes) -> tuple[bytes, bytes]:
    """Take a string with its length before it off the front; return it, and what follows."""
    if not data:
        return b"", b""
    size, start = data[0], 1
    if (width := _LONG.get(size)) is not None:
        size, start = int.from_bytes(data[1 : 1 + width], "little"), 1 + width
    return data[start : start + size], data[start + size :]
