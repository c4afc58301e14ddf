"""Cache what the functions of one database do: which leave the session unchanged, and which settings others may change.

Pure: filled from server responses, once for each name. The cache does not notice that another process replaces a
function.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from instrumented_wrapper.databases.postgresql.functions import judge
from instrumented_wrapper.statement import DOUBT, Step


class Functions:
    """The functions of one database that statements have called."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # connections of many threads ask about the same database
        self._harmless: set[str] = set()
        self._settings: dict[str, frozenset[str]] = {}
        self._inner: dict[str, frozenset[str]] = {}  # what each calls
        self._calls: dict[str, frozenset[str]] = {}  # the same, of those that may still prove harmless
        self._nameless: set[str] = set()

    def forget(self) -> None:
        """Forget a function that was replaced."""
        with self._lock:
            for known in (self._harmless, self._settings, self._inner, self._calls, self._nameless):
                known.clear()

    def set_nameless(self, calls: Iterable[str]) -> bool:
        """Return True if one of the functions may change a custom setting whose name its body does not contain."""
        return not self._nameless.isdisjoint(self._with_inner(calls))

    def unknown(self, calls: Iterable[str]) -> tuple[str, ...]:
        """Return those of the functions that may change the session or are not known yet."""
        return tuple(name for name in calls if name not in self._harmless)

    def not_asked(self, calls: Iterable[str]) -> tuple[str, ...]:
        """Return the functions to query from the server, including those that they call."""
        return tuple(name for name in self._with_inner(calls) if name not in self._settings)

    def doubts(self, calls: Iterable[str]) -> tuple[Step, ...]:
        """Return what is in doubt once the functions were called."""
        names = self.unknown(calls)
        settings = (setting for name in self._with_inner(names) for setting in sorted(self._settings.get(name, ())))
        named = tuple(Step(DOUBT, setting, names[0]) for setting in dict.fromkeys(settings))
        return (*named, Step(DOUBT, "", names[0])) if names else ()

    def learn(self, asked: Iterable[str], told: Iterable[tuple[str, str, str]]) -> None:
        """Store a server response: name, language and body of each existing function among the names `asked`."""
        with self._lock:
            self._learn_all(asked, told)

    def _learn_all(self, asked: Iterable[str], told: Iterable[tuple[str, str, str]]) -> None:
        bodies: dict[str, list[tuple[str, str]]] = {name: [] for name in asked}
        for name, language, body in told:
            bodies.setdefault(name, []).append((language, body))
        for name, found in bodies.items():
            self._learn(name, found)
        self._settle()

    def _settle(self) -> None:
        """Functions that call only harmless ones, or each other, are harmless."""
        left = set(self._calls)
        while calling_others := {name for name in left if not self._calls[name] <= self._harmless | left}:
            left -= calling_others
        self._harmless |= left
        for name in left:
            del self._calls[name]

    def _learn(self, name: str, found: list[tuple[str, str]]) -> None:
        verdicts = [judge(name, language, body) for language, body in found]
        self._settings[name] = frozenset(setting for verdict in verdicts for setting in verdict.settings)
        if any(verdict.nameless for verdict in verdicts):
            self._nameless.add(name)
        calls = frozenset(call for verdict in verdicts for call in verdict.calls) - {name}
        self._inner[name] = calls
        if not any(verdict.sets for verdict in verdicts):
            self._calls[name] = calls  # harmless, once these are

    def _with_inner(self, calls: Iterable[str]) -> tuple[str, ...]:
        names, new = dict.fromkeys(calls), list(calls)
        while new:
            inner = (call for name in new for call in sorted(self._inner.get(name, ())))
            new = [call for call in dict.fromkeys(inner) if call not in names]
            names.update(dict.fromkeys(new))
        return tuple(names)
