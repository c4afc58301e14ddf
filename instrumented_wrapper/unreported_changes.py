"""Changes of a session since its connection last returned to a pool, so that each is reported once.

Pure: knows names only. The session decides which of them are still changed.
"""

from __future__ import annotations

from collections.abc import Iterable


class UnreportedChanges:
    """The news of one session since the last return.

    Attributes:
        settings: names of settings that were set, also to a value that they had before.
    """

    def __init__(self, settings: set[str]) -> None:
        self.settings = settings
        self._kinds: frozenset[str] = frozenset()  # state other than settings that was reported before

    def may_be_more(self, doubts: Iterable[str], kinds: Iterable[str]) -> bool:
        """Return True if something was set, is in doubt, or is state of a kind that was not reported. Cheap."""
        return bool(self.settings or doubts) or not self._kinds.issuperset(kinds)

    def take(self, changed: Iterable[str], doubts: Iterable[str], kinds: Iterable[str]) -> tuple[str, ...]:
        """Return those of `changed` that are news, and begin anew."""
        present = frozenset(kinds)
        new = {*self.settings, *doubts, *(present - self._kinds)}
        self._kinds = present
        self.settings.clear()
        return tuple(name for name in dict.fromkeys(changed) if name in new)
