"""How a driver's connection talks with its database about settings: one file per database, whatever the driver.

The texts are the database's (``databases/``), the order of steps the lifecycle's; a driver gives the channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from instrumented_wrapper.plans import Assignment
from instrumented_wrapper.statement import Effects

Values = dict[str, str | None]
Rows = list[list[str | None]]


class SettingsClient(Protocol):
    """One connection, talked with about its settings.

    What may wait for the server returns a value where the driver blocks, else an awaitable.
    """

    def reported(self, names: Sequence[str]) -> dict[str, str]:
        """Return the values of those settings that the server reports unasked."""

    def keep_reported(self) -> None:
        """What the server has reported up to now belongs to the baseline."""

    def apply_reports(self) -> None:
        """Apply the server's reports about settings that no statement named."""

    def may_report(self, effects: Effects) -> bool:
        """Return False if `apply_reports` has nothing to take after a statement that did no more than `effects`."""

    def lost(self, transaction: str) -> None:
        """Record that the session is lost: what the statement in flight may have set is uncertain unless its text
        tells.

        Args:
            transaction: the outcome of the transaction, as in `FailoverError.transaction`. What was reported since
                the last `apply_reports` belongs to a transaction that is lost or that was committed.
        """

    def refused(self) -> None:
        """The statement under way was refused: doubt what it may have set before, and the server does not report."""

    def doubt_unreported(self) -> None:
        """Mark what the server may have had no room to report as uncertain, if it matters and can be queried."""

    def query_settings(self, names: Sequence[str]) -> Any:
        """Query settings; return their `Values`. May wait."""

    def assign(self, assignments: Sequence[Assignment], clears: Sequence[str], back: bool) -> Any:
        """Clear state, then give settings. May wait.

        Returns an `Assigned`; None where the session is not the connection's own.

        Raises:
            Refused: one of the settings was refused.
        """

    def resync(self) -> Any:
        """Query everything uncertain and update the session; return pristine `Values` that were read. May wait."""

    def verify(self) -> Any:
        """Ask for all that is tracked, outside a transaction. Changes nothing. May wait.

        Returns the `Difference` of each setting whose value is another one; None where this is not the time, or not
        the session, to ask.
        """

    def with_functions(self, effects: Effects) -> Effects | None:
        """Add the known effects of the functions that a statement calls; return None if no effect remains."""

    def chains(self) -> bool:
        """Return True if ``commit()`` and ``rollback()`` begin the next transaction."""

    def moved(self) -> None:
        """The physical connection is another one now."""
