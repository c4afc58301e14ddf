"""What servers of PostgreSQL report about settings by themselves, and what is known of the functions of a database.

Knows no driver, and sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from instrumented_wrapper.databases.postgresql import questions
from instrumented_wrapper.databases.postgresql.known_functions import Functions
from instrumented_wrapper.databases.postgresql.settings import IDENTITY
from instrumented_wrapper.databases.postgresql.state import CUSTOM
from instrumented_wrapper.statement import DOUBT, Effects, Step

_SPELLED: Final = tuple(questions.REPORTED.values())
_TELLING: Final = frozenset((*questions.REPORTED, *IDENTITY))
FUNCTIONS: Final[dict[tuple[object, ...], Functions]] = {}  # by server and database


def with_calls(record: Any, effects: Effects) -> Effects | None:
    """Add what the functions that are called may do; None where they are harmless, and there is nothing else."""
    if effects.calls and (doubts := record.functions.doubts(effects.calls)):
        record.called |= effects.calls
        left = (CUSTOM,) if record.functions.set_nameless(effects.calls) else ()
        nameless = [Step(DOUBT, "", name) for name in left]
        return replace(effects, steps=(*effects.steps, *doubts, *nameless), leaves=(*effects.leaves, *left))
    return None if effects.only_calls else effects


def _not_ours(name: str, value: object) -> bool:
    return False


class Reporting(Protocol):
    """A connection, as far as its server reports settings by itself."""

    record: Any

    def is_idle(self) -> bool:
        """Return True if no transaction is open."""

    def process(self) -> int:
        """Return the process that the connection was told of."""


class ReportedSettings:
    """The settings that PostgreSQL reports by itself, and the functions of a database.

    Args:
        channel: the connection.
        status: returns the reported value of a setting, by its name there.
        statuses: returns the reported values of several, as text or bytes.
        place: returns the key of the cache of functions: server and database.
        ours: returns True if the driver itself has set a setting to such a value.
        text: returns one result of `statuses` as text.
    """

    def __init__(
        self,
        channel: Reporting,
        status: Callable[[str], str | None],
        statuses: Callable[[Sequence[str]], Sequence[Any]],
        place: Callable[[], tuple[object, ...]],
        ours: Callable[[str, Any], bool] = _not_ours,
        text: Callable[[Any], str] = str,
    ) -> None:
        self._ours, self._text = ours, text
        self._reporting, self._status, self._statuses, self._place = channel, status, statuses, place
        self._record: Any = None
        self._first: Sequence[Any] = ()  # of `questions.REPORTED`
        self._noticed: Sequence[Any] = ()

    def chains(self) -> bool:
        """Return False: only the text of a statement chains transactions."""
        return False

    def moved(self) -> None:
        self._record = record = self._reporting.record
        record.functions = FUNCTIONS.setdefault(self._place(), Functions())
        record.reported = self._reported
        self.keep_reported()

    def version(self) -> int:
        """Return the major version of the server; 0 where something in between does not report it."""
        digits, _, _ = (self._status("server_version") or "").partition(".")
        return int(digits) if digits.isdecimal() else 0

    def process(self) -> int:
        """Return the process that the connection was told of."""
        return self._reporting.process()

    def _reported(self, name: str) -> str | None:
        spelled = questions.REPORTED.get(name)
        return None if spelled is None else self._status(spelled)

    def reported(self, names: Sequence[str]) -> dict[str, str]:
        told = {n: self._reported(n) for n in names if not self._record.on_server.is_masked(n)}
        return {name: value for name, value in told.items() if value is not None}

    def may_report(self, effects: Effects) -> bool:
        """Return False if a statement sets only settings that cause no report."""
        return not effects.only_sets or any(step.name in _TELLING for step in effects.steps)

    def keep_reported(self) -> None:
        self._noticed = self._statuses(_SPELLED)
        given = zip(questions.REPORTED, self._noticed, strict=True)
        self._first = [None if value is None or self._ours(name, value) else value for name, value in given]

    def apply_reports(self) -> None:
        record = self._record
        record.reports_deferred = bool(record.on_server.open.levels) or not self._reporting.is_idle()
        if not record.reports_deferred:
            self._apply(record)

    def _apply(self, record: Any) -> None:
        if record.off or (now := self._statuses(_SPELLED)) == self._noticed:
            return
        self._noticed = now
        for name, first, value in zip(questions.REPORTED, self._first, now, strict=False):
            if not (first is None or value is None or first == value or self._ours(name, value)):
                record.on_server.apply_report(name, self._text(first), self._text(value))
        record.refresh_changed()

    def lost(self, transaction: str) -> None:
        """Take what was reported before the loss.

        Without a transaction it is the session's. Of a transaction, what was reported since the last `apply_reports`
        is in doubt, unless a statement of the transaction has named it.
        """
        if transaction == "none":
            self._apply(self._record)
            return
        known = self._record.on_server
        for name, before, value in zip(questions.REPORTED, self._noticed, self._statuses(_SPELLED), strict=False):
            if before is None or value is None or value == before or known.open.is_named(name):
                continue
            if not self._ours(name, value):
                known.doubts[name] = "COMMIT"

    def refused(self) -> None:
        """A statement that is refused has set nothing."""

    def doubt_unreported(self) -> None:
        """Each change is reported at once."""

    def with_functions(self, effects: Effects) -> Effects | None:
        return with_calls(self._record, effects)
