"""Read and set the settings of SQLite connections.

SQLite runs in this process, so the effect of a PRAGMA is read back at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from instrumented_wrapper.databases import sqlite
from instrumented_wrapper.drift import expected_settings
from instrumented_wrapper.drivers import Assigned, Refused
from instrumented_wrapper.drivers.server_session import Rows, Values
from instrumented_wrapper.plans import Assignment, Difference, ServerAnswer
from instrumented_wrapper.statement import Effects

_OFF_MEANWHILE = ("read_only", "foreign_keys")  # they would stand in the way of a DROP


class Channel(NamedTuple):
    """A connection, as far as it is talked with.

    Attributes:
        query: runs a text and returns its rows.
        outside: while inside, no transaction is open that is there only because one always is.
        error: what `query` raises.
    """

    query: Callable[[str], Rows]
    outside: Callable[[], AbstractContextManager[None]]
    error: type[Exception]


class SQLiteSettings:
    """`SettingsClient` with SQLite, over a `Channel`."""

    def __init__(self, record: Any, channel: Channel) -> None:
        self._record, self._query, self._outside, self._error = record, channel.query, channel.outside, channel.error
        self._baseline: dict[str, list[tuple[str, str]]] = {}  # what was there before the app left more of it

    def reported(self, names: Sequence[str]) -> dict[str, str]:
        """Return an empty mapping: SQLite reports nothing by itself."""
        return {}

    def keep_reported(self) -> None:
        self._baseline.clear()
        self._record.residual.forget()

    def apply_reports(self) -> None:
        """Read what is uncertain; it stays uncertain if SQLite does not answer (an authorizer of the app's)."""
        if self._record.on_server.has_doubts:
            with contextlib.suppress(self._error):
                self.resync()

    def may_report(self, effects: Effects) -> bool:
        """Return True: the effect of a PRAGMA is read after it."""
        return True

    def lost(self, transaction: str) -> None:
        """Nothing is ever lost."""

    def refused(self) -> None:
        """A PRAGMA that is refused has set nothing."""

    def doubt_unreported(self) -> None:
        """Nothing is reported."""

    def chains(self) -> bool:
        """Return False: only the text of a statement chains transactions."""
        return False

    def moved(self) -> None:
        """It is another database."""
        self._baseline.clear()

    def query_settings(self, names: Sequence[str]) -> Values:
        return {name: self._value(name) for name in names}

    def _value(self, name: str) -> str | None:
        rows = self._query(sqlite.query_setting(name))
        return sqlite.answer(rows[0][0]) if rows else None

    def assign(self, assignments: Sequence[Assignment], clears: Sequence[str], back: bool) -> Assigned:
        """Set PRAGMAs, then clear state, which may fail: rows of it may be half read."""
        before: Values = {} if back else self.query_settings([assignment.name for assignment in assignments])
        with self._outside():
            given = self._give(assignments)
            if clears:
                self._clear(clears)
        return Assigned(before, frozenset((*given, *clears)))

    def _give(self, assignments: Sequence[Assignment]) -> list[str]:
        """Set PRAGMAs; return which ones: SQLite has no default to go back to."""
        texts = sqlite.assign(assignments)
        for name, text in texts:
            try:
                self._query(text)
            except self._error as error:
                raise Refused(name, error) from None  # its text quotes the value
        return [name for name, _ in texts]

    def _clear(self, names: Sequence[str]) -> None:
        """Remove what the app has created, and nothing that existed before."""
        kept = self.query_settings(_OFF_MEANWHILE)
        self._give([Assignment(name, "0") for name in kept])
        try:
            for name in names:
                before = self._baseline.pop(name, [])
                for text in sqlite.clearing(one for one in self._listed(name) if one not in before):
                    self._query(text)
        finally:
            self._give([Assignment(name, text) for name, text in kept.items()])

    def _listed(self, name: str) -> list[tuple[str, str]]:
        return [(str(kind), str(one)) for kind, one in self._query(sqlite.LISTED[name])]

    def resync(self) -> Values:
        record = self._record
        record.apply_answer(ServerAnswer(self.query_settings(record.on_server.names_in_doubt()), {}), None)
        return {}

    def verify(self) -> tuple[Difference, ...]:
        """Ask for all that is tracked."""
        expected = expected_settings(self._record.on_server)
        actual = self.query_settings([one.name for one in expected])
        found = [(name, text, actual[name]) for name, text, _ in expected if actual[name] != text]
        return tuple(Difference(name, sqlite.shown(name, text), sqlite.shown(name, now)) for name, text, now in found)

    def with_functions(self, effects: Effects) -> Effects | None:
        """Return the effects of the text. What existed before belongs to the baseline, which a reset may need."""
        if self._record.options.reset_scope == "session":
            for name in effects.leaves:
                with contextlib.suppress(self._error):  # it is closed, or an authorizer of the app's does not want it
                    self._baseline[name] = self._baseline.get(name) or self._listed(name)
        return effects
