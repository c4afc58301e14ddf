"""What a session has besides settings, such as locks and temporary tables: by kind, and by name while all are known.

Pure. Of a kind it says that it may be there; that nothing of it is left it says only where that is certain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from instrumented_wrapper.databases import Database
from instrumented_wrapper.statement import Effects, Named


class ResidualState:
    """The state that statements may have left in one session.

    Attributes:
        kinds: its names, in the order in which they came.
        baseline: what of it was there before the app had the connection, and belongs to the baseline.
        origins: where it came from, as telemetry marked it; of a kind the last one.
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
        """Keep what a statement has made and ended; `cleared` is called with what is gone.

        Args:
            effects: of the statement.
            for_good: no transaction is open in which it ran.
            certain: the server has answered it.
            cleared: is called with what it has cleared.

        Returns:
            A kind of which only the server can list what is left; empty where there is none.
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
        """Take what the server lists; what it does not list stays. `origin`: of the statement that it was asked for."""
        self._names.blur(tuple(self.kinds))
        unlisted = (name for name in self.kinds if not self._database.is_listed(name))
        before, self.kinds = self.kinds, dict.fromkeys((*kinds, *unlisted))
        self.origins.update((kind, origin) for kind in self.kinds if kind not in before)
        self.baseline.update(self.kinds if configuring else ())

    def forget(self) -> None:
        """The session that had it is gone."""
        self.kinds.clear()
        self.baseline.clear()
        self.origins.clear()


class _Names:
    """For each kind how many there may be at most, by name; a kind of which one has no known name is not counted."""

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
        """Take that something was ended for certain. Return True if nothing of its kind is left."""
        most = self._most[ended.kind]
        most[ended.key] -= 1
        if ended.whole or most[ended.key] <= 0:
            del most[ended.key]
        return not most

    def knows(self, ended: Named) -> bool:
        """Return True if it is known what else there is of a kind of which something was ended."""
        return ended.is_known and ended.kind in self._most

    def blur(self, kinds: Iterable[str]) -> None:
        """Forget the names of `kinds`: another name may stand for one of them now."""
        for kind in kinds:
            self._most.pop(kind, None)
