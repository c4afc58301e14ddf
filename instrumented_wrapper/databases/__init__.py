"""One package per database, and `Database`, the interface through which the rest of the package uses it.

These packages map text to data and text. They know no driver.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Behaviour in which databases differ.

    Attributes:
        rollback_undoes_set: a rollback undoes the SET statements of the transaction.
        aborts_transactions: a failed statement aborts the transaction; the server then refuses every statement until it
            ends.
        set_begins_transaction: outside autocommit mode a SET begins a transaction, like any other statement.
        asking_disturbs_diagnostics: a query of the wrapper overwrites the diagnostics of the last statement, such as
            warnings.
        commits_implicitly: some statements commit the open transaction.
        runs_text_atomically: the statements of one text form one transaction, unless the text itself ends it.
        has_defaults: a setting can be reset without naming its value.
        keeps_outcomes: another session can ask what became of a transaction, by an id that is known before its end.
    """

    rollback_undoes_set: bool
    aborts_transactions: bool
    set_begins_transaction: bool
    asking_disturbs_diagnostics: bool
    commits_implicitly: bool
    runs_text_atomically: bool
    has_defaults: bool
    keeps_outcomes: bool = False


class Database(Protocol):
    """Interface of a database package; see ``databases/``.

    Attributes:
        CAPABILITIES: how the database behaves.
        SYSTEM: its name in OpenTelemetry; of several the one that a server's version may replace.
        OBSTACLES: state besides settings, by name, and what metrics call it as a reason not to survive a loss.
        NOT_CARRIED: settings whose value has another meaning in another session.
        UNNAMED: the name that stands for settings whose names the server does not report.
    """

    CAPABILITIES: Capabilities
    SYSTEM: str
    OBSTACLES: Mapping[str, str]
    NOT_CARRIED: frozenset[str]
    UNNAMED: str

    def shown(self, name: str, text: str | None) -> Any:
        """Return the value of a setting on the server as the app is shown it."""

    def covers(self, cleared: str, name: str) -> bool:
        """Return True if clearing `cleared` takes the state `name` away."""

    def is_listed(self, name: str) -> bool:
        """Return True if the server can list the state `name`."""

    def outlives_rollback(self, name: str) -> bool:
        """Return True if a rollback does not bring back what was ended of the state `name`."""

    def is_security_state(self, name: str) -> bool:
        """Return True if the state `name` may decide whose data a statement sees."""

    def survives_reset_all(self, name: str) -> bool:
        """Return True if RESET ALL leaves the setting `name` alone."""
