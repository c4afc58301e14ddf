"""Names of session state that is not a setting, and which statements clear it. Pure.

The names appear in ``.not_restored`` and in telemetry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

LISTEN: Final = "LISTEN"
PREPARED: Final = "prepared statements"
TEMPORARY: Final = "temporary tables"
HELD: Final = "held cursors"
ADVISORY: Final = "advisory locks"
LOADED: Final = "LOAD"
CUSTOM: Final = "custom settings"  # of which no text spells the name: the server lists all others, but not these

_SECURITY: Final = frozenset({CUSTOM, "role", "search_path", "session_authorization"})
_CLEARING: Final = {
    CUSTOM: "RESET ALL",
    HELD: "CLOSE ALL",
    LISTEN: "UNLISTEN *",
    ADVISORY: "SELECT pg_catalog.pg_advisory_unlock_all()",
    PREPARED: "DEALLOCATE ALL",
    TEMPORARY: "DISCARD TEMP",
}

# What metrics call it as a reason why a session would not survive a loss; of what is not here nobody knows the extent.
OBSTACLES: Final[Mapping[str, str]] = {
    TEMPORARY: "temporary_table",
    ADVISORY: "advisory_lock",
    PREPARED: "prepared_statement",
    HELD: "held_cursor",
    LISTEN: "listen",
}


def covers(cleared: str, name: str) -> bool:
    """Return True if clearing `cleared` also clears `name`; ``*`` is DISCARD ALL, ``settings`` is RESET ALL."""
    if cleared == "settings":
        return name == CUSTOM
    return name in _CLEARING if cleared == "*" else cleared == name


def outlives_rollback(name: str) -> bool:
    """Return True if a rollback does not bring back what was ended of the state `name`."""
    return name in (HELD, PREPARED, ADVISORY)


def is_listed(name: str) -> bool:
    """Return True if the server can list the state `name`."""
    return name not in (LOADED, CUSTOM)


def is_security_state(name: str) -> bool:
    """Return True if the setting `name` may decide whose data a statement sees."""
    return "." in name or name in _SECURITY


def clearing(name: str) -> str:
    """Return the statement that takes the state `name` away."""
    return _CLEARING[name]


def listening(channels: Iterable[str]) -> str:
    """Return the text that listens to channels."""
    return "; ".join('LISTEN "' + channel.replace('"', '""') + '"' for channel in channels)
