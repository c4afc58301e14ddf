"""Settings of a transaction that is not committed yet, by level: one for itself and one for each savepoint.

Pure, with PostgreSQL's documented rules: RELEASE keeps what was set since the savepoint; ROLLBACK TO undoes it and
keeps the savepoint; among savepoints of the same name the latest counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from instrumented_wrapper.statement import UNANSWERED, UNSEEN

ANY: Final = ""  # a doubt about no setting in particular


class Held(NamedTuple):
    """A value that is not committed yet.

    Attributes:
        value: what was set.
        origin: where.
        configured: it belongs to the baseline.
        over: the value of the baseline that was set before in the same transaction.
    """

    value: str | None
    origin: object
    configured: bool
    over: Held | None = None

    @classmethod
    def of(cls, value: object, origin: object, configured: bool) -> Held:
        """Return a value as its text."""
        return cls(value if value is None or isinstance(value, str) else str(value), origin, configured)


@dataclass(slots=True)
class Level:
    """What happened since the transaction, or a savepoint of it, began.

    Attributes:
        savepoint: its name, None for the transaction's own level.
        values: what was set for the session.
        doubts: settings that may have been set, and because of what.
        local: settings that a SET LOCAL hides until the transaction ends.
    """

    savepoint: str | None = None
    values: dict[str, Held] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)
    local: set[str] = field(default_factory=set)

    @property
    def lasting_doubts(self) -> dict[str, str]:
        """What may be there although all of it was rolled back: locks and prepared statements are not transactional."""
        return {ANY: self.doubts[ANY]} if ANY in self.doubts else {}

    def put(self, name: str, held: Held) -> None:
        """Record a value that was set; a value that the baseline set earlier in this transaction is kept too."""
        before = self.values.get(name)
        base = None if before is None or held.configured else (before if before.configured else before.over)
        self.values[name] = held if base is None else held._replace(over=base)

    def touched(self, because: str) -> dict[str, str]:
        """Return all settings that may have been set, where the progress is unknown."""
        return {**self.doubts, **dict.fromkeys(self.values, because)}

    def absorb(self, later: Level) -> None:
        """Take over what a later level did."""
        for name, held in later.values.items():
            self.put(name, held)
        self.doubts.update(later.doubts)
        self.local |= later.local


class Savepoints:
    """The levels of the transaction that is open.

    Attributes:
        levels: none where nothing was set in it, and no savepoint.
    """

    def __init__(self) -> None:
        self.levels: list[Level] = []

    @property
    def top(self) -> Level:
        """The level that a statement acts on now."""
        if not self.levels:
            self.levels.append(Level())
        return self.levels[-1]

    def has_set(self, setting: str) -> bool:
        """Return True if the transaction has set `setting`."""
        return bool(self.levels) and any(setting in level.values for level in self.levels)

    def has_hidden(self, setting: str) -> bool:
        """Return True if a SET LOCAL hides the value of `setting` until the transaction ends."""
        return bool(self.levels) and any(setting in level.local for level in self.levels)

    def has_doubted(self, setting: str) -> bool:
        """Return True if the transaction may have set `setting`."""
        return any(ANY in level.doubts or setting in level.doubts for level in self.levels)

    def held(self, setting: str) -> Held | None:
        """Return the value that the app has given `setting` in the transaction, None if it has given none."""
        for level in reversed(self.levels):
            if (held := level.values.get(setting)) is not None and not held.configured:
                return held
        return None

    def is_named(self, setting: str) -> bool:
        """Return True if a statement of the transaction may have set `setting`: a rollback undoes that."""
        return any(
            setting in (*level.values, *level.local) or {setting, ANY} & {*level.doubts} for level in self.levels
        )

    def savepoint(self, name: str) -> None:
        """Begin a level."""
        self.top  # noqa: B018 - the transaction's own level is below
        self.levels.append(Level(name))

    def release(self, name: str) -> None:
        """Merge what was done since the savepoint into the level below it."""
        if place := self._place(name):
            for level in self.levels[place:]:
                self.levels[place - 1].absorb(level)
            del self.levels[place:]

    def roll_back_to(self, name: str) -> None:
        """Undo what was done since the savepoint."""
        if place := self._place(name):
            whole = Level(name)
            for level in self.levels[place:]:
                whole.absorb(level)
            self.levels[place:] = [Level(name, doubts=whole.lasting_doubts)]

    def _place(self, name: str) -> int:
        """Return the position of the latest savepoint of that name; 0 if there is none, which the server refuses."""
        places = [place for place, level in enumerate(self.levels) if level.savepoint == name]
        return places[-1] if places else 0

    def end(self) -> Level:
        """The transaction has ended: return all that it did."""
        levels, self.levels = self.levels, []
        whole = Level()
        for level in levels:
            whole.absorb(level)
        return whole


def set_by_name(doubts: Mapping[str, str]) -> Iterator[str]:
    """Yield what the app has set by a text or a function of which only the value is in doubt."""
    return (name or because for name, because in doubts.items() if because not in (UNSEEN, UNANSWERED))
