"""Session state other than settings, such as locks and temporary tables: by kind, and by name while all names are
known.

Pure. A kind is listed if it may exist; it is removed only if it certainly does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from instrumented_wrapper.databases import Database
from instrumented_wrapper.statement import Effects, Named


class ResidualState:
    """The state that statements may have left in one session.

    Attributes:
        kinds: the names of the kinds, in order of creation.
        baseline: kinds that existed before the app got the connection.
        origins: where each kind was created last, as telemetry marked it.
    """

    def __init__(self, database: Database) -> None:
        self.kinds: dict[str, None] = {}
        self.baseline: set[str] = set()
        self.origins: dict[str, object] = {}
        self._database = database
        self._names = _Names()

    def twin(self) -> ResidualState:
        """Return a copy; the names stay here."""
        twin = ResidualState(self._database)
        twin.kinds, twin.baseline, twin.origins = dict(self.kinds), set(self.baseline), dict(self.origins)
        return twin

    def settle(
        self, effects: Effects, for_good: bool, certain: bool, cleared: Callable[[tuple[str, ...]], None]
    ) -> str:
        """Record what a statement has created and removed.

        Args:
            effects: the effects of the statement.
            for_good: no transaction is open in which it ran.
            certain: the server has answered it.
            cleared: called with the kinds that it has cleared.

        Returns:
            A kind of which only the server can list the rest; empty if there is none.
        """
        lasts = self._database.outlives_rollback
        gone: list[str] = []
        unclear: list[str] = []
        for name in effects.clears:
            (gone if for_good or (certain and lasts(name)) else unclear).append(name)
        for end in effects.ends:
            if certain and (for_good or lasts(end.kind)) and self._names.knows(end):
                gone += [end.kind] if self._names.ended(end) else []
            elif end.asks:
                unclear.append(end.kind)
        if gone:
            covers = self._database.covers
            self.kinds = {name: None for name in self.kinds if not any(covers(by, name) for by in gone)}
            cleared(tuple(gone))
        for kind in effects.leaves:
            self._names.made(kind, effects.makes, first=kind not in self.kinds)
            self.kinds[kind], self.origins[kind] = None, effects.origin
        self._names.blur(effects.blurs)
        self.baseline.update(effects.leaves if effects.configured else ())
        listed = (kind for kind in unclear if kind in self.kinds and self._database.is_listed(kind))
        return next(listed, "") if certain else ""

    def add(self, kinds: Iterable[str]) -> None:
        """Take that something of `kinds` may be there, of an unknown name."""
        for kind in kinds:
            self._names.blur((kind,))
            self.kinds[kind] = None

    def listed(self, kinds: Iterable[str], configuring: bool, origin: object = None) -> None:
        """Store the server's list; kinds that the server cannot list stay. `origin`: the statement that caused the
        query.
        """
        self._names.blur(tuple(self.kinds))
        unlisted = (name for name in self.kinds if not self._database.is_listed(name))
        before, self.kinds = self.kinds, dict.fromkeys((*kinds, *unlisted))
        self.origins.update((kind, origin) for kind in self.kinds if kind not in before)
        self.baseline.update(self.kinds if configuring else ())

    def forget(self) -> None:
        """Forget everything: the session is gone."""
        self.kinds.clear()
        self.baseline.clear()
        self.origins.clear()


class _Names:
    """For each kind the maximum count by name. A kind that has an object without a known name is not counted."""

    def __init__(self) -> None:
        self._most: dict[str, Counter[tuple[object, ...]]] = {}

    def made(self, kind: str, made: Iterable[Named], first: bool) -> None:
        """Take that something of `kind` may have been made. `first`: there was nothing of it before."""
        if first:
            self._most[kind] = Counter()
        named = [one for one in made if one.kind == kind]
        if not (named and all(one.is_known for one in named)):
            self._most.pop(kind, None)
        elif kind in self._most:
            self._most[kind].update(one.key for one in named)

    def ended(self, ended: Named) -> bool:
        """Record that an object was certainly removed. Return True if nothing of its kind remains."""
        most = self._most[ended.kind]
        most[ended.key] -= 1
        if ended.whole or most[ended.key] <= 0:
            del most[ended.key]
        return not most

    def knows(self, ended: Named) -> bool:
        """Return True if all remaining objects are known of a kind of which one was removed."""
        return ended.is_known and ended.kind in self._most

    def blur(self, kinds: Iterable[str]) -> None:
        """Forget the names of `kinds`: they may no longer match."""
        for kind in kinds:
            self._most.pop(kind, None)
