"""Names of session state that is not a setting, and which statements clear it. Pure.

The names appear in ``.not_restored`` and in telemetry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TEMPORARY: Final = "temporary tables"
LOCKS: Final = "locks"  # of GET_LOCK
LOCKED: Final = "locked tables"
PREPARED: Final = "prepared statements"
HANDLERS: Final = "handlers"
NEXT: Final = "SET TRANSACTION"  # characteristics of the next transaction only
RESOURCE_GROUP: Final = "resource group"  # which one it is, a session is not told
UNNAMED: Final = "session state"  # the server reports that there is some, without a name
USER_VARIABLES: Final = "user variables"  # code on the server may have set some, and nobody tells which
_CLEARED: Final = frozenset({TEMPORARY, LOCKS, LOCKED, PREPARED, HANDLERS, NEXT, UNNAMED, USER_VARIABLES})
# What a reset of settings clears, too: among what has no name may be user variables, a tenant's for one.
_LIKE_SETTINGS: Final = (RESOURCE_GROUP, UNNAMED)

# What metrics call it as a reason why a session would not survive a loss; of what is not here nobody knows the extent.
OBSTACLES: Final[Mapping[str, str]] = {
    TEMPORARY: "temporary_table",
    LOCKS: "advisory_lock",
    LOCKED: "advisory_lock",
    PREPARED: "prepared_statement",
    HANDLERS: "held_cursor",
    NEXT: "transaction",
}


def covers(cleared: str, name: str) -> bool:
    """Return True if clearing `cleared` also clears `name`; ``*`` clears everything."""
    if cleared == "settings":
        return name in _LIKE_SETTINGS
    return name in _CLEARED or name == RESOURCE_GROUP if cleared == "*" else cleared == name


def outlives_rollback(name: str) -> bool:
    """Return True if a rollback does not bring back what was ended of the state `name`."""
    return name in (TEMPORARY, LOCKS, LOCKED, PREPARED)


def is_listed(name: str) -> bool:
    """Return False: the server has no list of session state."""
    return False


def is_security_state(name: str) -> bool:
    """Return True if `name` may decide whose data a statement sees: a user variable, the role, the database."""
    return name.startswith("@") or name in ("database", "role", UNNAMED)
