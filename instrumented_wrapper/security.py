"""Security state that a switch could not carry: no statement may use the session until the app sets it again.

Security state decides whose data a statement sees: the role, the tenant, the schema. Pure: the database's package
(``databases/``) decides which names belong to it; `server_settings` knows which have been set again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from instrumented_wrapper.databases import Database
from instrumented_wrapper.errors import FailoverError
from instrumented_wrapper.savepoints import set_by_name
from instrumented_wrapper.server_settings import ServerSettings
from instrumented_wrapper.statement import DOUBT, EVERYTHING, SET, UNANSWERED, UNSEEN, Effects, Part, names_set

# They read and write no data, whatever else they do.
_HARMLESS: Final = frozenset("abort begin discard release reset rollback savepoint set start use".split())
_UNDO: Final = frozenset({"abort", "rollback"})
# With these an app may set something: set_config(), a function, @x := 1, INTO @x.
_MAY_SET: Final = frozenset("call do execute get select values".split())


class Refusal:
    """Missing security state of one session, and the error that its statements raise meanwhile.

    The names are in ``on_server.missing``, which drops a name that is set for good. The value is True for the name of a
    setting, False for a function or text that was in flight at the loss and may have set any.

    Attributes:
        error: the error that each statement raises; None while all may run.
        has_refused: a statement was refused since the last rollback, so a COMMIT must not succeed.
        found: what the last switch could not carry, as far as the session knew.
    """

    def __init__(self, on_server: ServerSettings, database: Database) -> None:
        self.error: FailoverError | None = None
        self.has_refused = False
        self.found: tuple[str, ...] = ()
        self._on_server, self._database = on_server, database
        self._unnamed = frozenset[str]()

    def lost(self, left: Iterable[str], doubts: Mapping[str, str], under_way: Mapping[str, str]) -> None:
        """Record that the session was lost, with the state `left` and with uncertain settings.

        `under_way`: what the last statement may have set. It counts if it has a name, because the app may continue.
        """
        missing = self._on_server.missing
        unnamed = [name for name, is_named in missing.items() if not is_named]
        self._unnamed = frozenset((*unnamed, *(because for name, because in doubts.items() if not name)))
        relied_on = self.relied_on()  # on the values that code on the server may have set since
        named = (name for name, because in under_way.items() if name and (because != UNSEEN or name in relied_on))
        doubted = (
            name or because for name, because in doubts.items() if because != UNSEEN or not name or name in relied_on
        )
        self.found = self.security_state((*left, *missing, *doubted, *named))

    def relied_on(self) -> tuple[str, ...]:
        """Return the security state that has another value than the pristine one: the app has set it."""
        shown = self._on_server.shown.items()
        return tuple(n for n, (value, first) in shown if value != first and self._database.is_security_state(n))

    def under_way(self, effects: Effects, transaction: str) -> Iterator[tuple[str, str]]:
        """Yield what a statement may have set whose answer is lost, and because of what."""
        yield from ((name, UNSEEN) for name in (self.relied_on() if effects.may_set_any else ()))
        for step in effects.steps:
            name = str(step.name)
            if step.kind == DOUBT and transaction == "none":
                yield name, str(step.value)
            elif step.kind in (SET, DOUBT) and self._database.is_security_state(name):
                yield name, UNSEEN if step.value == UNSEEN else UNANSWERED

    def security_state(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of the names that cannot be carried over without which no statement may run."""
        ours = (n for n in names if n in self._unnamed or self._database.is_security_state(n))
        return tuple(dict.fromkeys(ours))

    def settings_among(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of the names that an app can set."""
        return tuple(name for name in names if name not in self._unnamed and name != self._database.UNNAMED)

    def begin(self, error: FailoverError, names: Iterable[str], has_refused: bool) -> None:
        """Refuse statements until `names` are set again; `has_refused`: one has failed already."""
        self._on_server.missing.clear()
        self._on_server.missing.update((name, name not in self._unnamed) for name in names)
        self.error, self.has_refused = error, has_refused

    def has_ended(self) -> bool:
        """Return True once, when nothing is missing any more."""
        ended = self.error is not None and not self._on_server.missing
        if ended:
            self.error = None
        return ended

    def cleared(self, cleared: Iterable[str]) -> None:
        """Take state that was cleared for good as present: the session is at its initial value, which the app knows."""
        missing, covers = self._on_server.missing, self._database.covers
        for name in [n for n in missing if any(by == EVERYTHING or covers(by, n) for by in cleared)]:
            del missing[name]

    def still_missing(self) -> tuple[str, ...]:
        """Return what is missing at this moment: what the open transaction has set is there."""
        found = set(set_by_name(self._on_server.doubts))
        for level in self._on_server.open.levels:
            found |= {*level.values, *level.local, *set_by_name(level.doubts)}
        return tuple(name for name in self._on_server.missing if name not in found)

    def refuses(self, effects: Effects | None) -> bool:
        """Return True if a statement must not run now."""
        if effects is not None and effects.rolls_back and not effects.several:
            self.has_refused = False
            return False
        missing = self.still_missing()
        refused = bool(missing) and not admits(effects, missing, self._survives)
        self.has_refused = self.has_refused or refused
        return refused

    def refuses_commit(self) -> bool:
        """Return True if a COMMIT must not end in silence: something before it was refused."""
        return self.error is not None and self.has_refused and bool(self.still_missing())

    def _survives(self, name: str) -> bool:
        return name in self._unnamed or self._database.survives_reset_all(name)


def admits(effects: Effects | None, missing: Collection[str], survives: Callable[[str], bool]) -> bool:
    """Return True for a statement that sets what is missing, or that cannot use data meanwhile.

    Args:
        effects: the effects of the text, one statement or several; None if it has none.
        missing: names of the security state that has to be set again.
        survives: returns True if RESET ALL does not reset a setting.
    """
    if effects is None:
        return False
    if not effects.parts:  # a method of the driver
        sets = any(step.kind == SET for step in effects.steps)
        return sets or effects.begins or bool(names_set([effects]) & set(missing))
    left = set(missing)
    for part in _with_functions(effects):
        if left and part.word not in _HARMLESS and not (part.word in _MAY_SET and part.names & left):
            return False
        left = set(missing) if part.word in _UNDO else left - part.names
        if EVERYTHING in part.names:
            left = {name for name in left if survives(name)}
    return True


def _with_functions(effects: Effects) -> tuple[Part, ...]:
    """Add the known effects of the functions that a text calls."""
    if len(effects.parts) == 1:
        (part,) = effects.parts
        return (part._replace(names=part.names | names_set([effects])),)
    told = frozenset[str]().union(*(part.names for part in effects.parts))
    known = {str(step.name) for step in effects.steps if step.kind == DOUBT and step.name} - told
    return tuple(part._replace(names=part.names | known) if part.calls else part for part in effects.parts)
