"""One room per database; `Database` is what a session asks of one. Texts in, data and texts out: no driver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Capabilities:
    """How a database behaves where databases differ: one fact for each question.

    Attributes:
        rollback_undoes_set: a rollback undoes what the transaction has set.
        aborts_transactions: a failed statement aborts the transaction; the server then refuses all but its end.
        set_begins_transaction: outside autocommit a SET begins a transaction, as any statement does.
        asking_disturbs_diagnostics: a question takes away what the last statement left to be read, such as warnings.
        commits_implicitly: some statements commit the transaction that is open.
        runs_text_atomically: the statements of one text are one transaction, unless the text ends it.
        has_defaults: a setting can be reset without naming its value.
    """

    rollback_undoes_set: bool
    aborts_transactions: bool
    set_begins_transaction: bool
    asking_disturbs_diagnostics: bool
    commits_implicitly: bool
    runs_text_atomically: bool
    has_defaults: bool


class Database(Protocol):
    """What a session asks of its database's room; see ``databases/``.

    Attributes:
        CAPABILITIES: how the database behaves.
        NOT_CARRIED: settings that mean another thing in another session.
        UNNAMED: what settings are called of which nobody reports the name.
    """

    CAPABILITIES: Capabilities
    NOT_CARRIED: frozenset[str]
    UNNAMED: str

    def shown(self, name: str, text: str | None) -> Any:
        """Return the value of a setting on the server as the app is shown it."""

    def covers(self, cleared: str, name: str) -> bool:
        """Return True if clearing `cleared` takes the state `name` away."""

    def is_listed(self, name: str) -> bool:
        """Return True if the server lists the state `name` when the wrapper asks for it."""

    def outlives_rollback(self, name: str) -> bool:
        """Return True if a rollback does not bring back what was ended of the state `name`."""

    def is_security_state(self, name: str) -> bool:
        """Return True if the state `name` may decide whose data a statement sees."""

    def survives_reset_all(self, name: str) -> bool:
        """Return True if RESET ALL leaves the setting `name` alone."""
