"""One room per database; `Database` is what a session asks of one. Texts in, data and texts out: no driver."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Database"]


class Database(Protocol):
    """What a session asks of its database's room; see ``databases/``.

    Attributes:
        TRANSACTIONAL: a rollback undoes what the transaction has set.
        HAS_DEFAULTS: a setting can be reset without naming its value.
        NOT_CARRIED: settings that mean another thing in another session.
        UNNAMED: what settings are called of which nobody reports the name.
    """

    TRANSACTIONAL: bool
    HAS_DEFAULTS: bool
    NOT_CARRIED: frozenset[str]
    UNNAMED: str

    def shown(self, name: str, text: str | None) -> Any:
        """Return the value of a setting on the server as the app is shown it."""

    def covers(self, cleared: str, name: str) -> bool:
        """Return True if clearing `cleared` takes the state `name` away."""

    def is_listed(self, name: str) -> bool:
        """Return True if the server lists the state `name` when the wrapper asks for it."""

    def is_security_state(self, name: str) -> bool:
        """Return True if the state `name` may decide whose data a statement sees."""

    def survives_reset_all(self, name: str) -> bool:
        """Return True if RESET ALL leaves the setting `name` alone."""
