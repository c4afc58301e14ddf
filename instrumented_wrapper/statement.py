"""The effects of a statement on the session, as data: a database's package reads them, the session records them.

Pure: no SQL, no driver. Where the text does not determine an effect, a `Step` marks it as uncertain.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

SET: Final = "set"
SET_LOCAL: Final = "set_local"
RESET_ALL: Final = "reset_all"
DOUBT: Final = "doubt"
DECLARE: Final = "DECLARE"  # because of this: no later statement of the transaction settles it
NAMED: Final = "named"
BEGIN: Final = "begin"
COMMIT: Final = "commit"
OUTLIVES: Final = "prepared"  # the name of a commit after which the transaction is open, and not the session's any more
ROLLBACK: Final = "rollback"
SAVEPOINT: Final = "savepoint"
RELEASE: Final = "release"
ROLLBACK_TO: Final = "rollback_to"
UNSEEN: Final = "unseen"  # because of this, a setting is in doubt that nothing names
UNANSWERED: Final = "no answer"  # because of this, one is that a statement names whose answer nobody has
EVERYTHING: Final = "*"  # among names that are set: all settings, by RESET ALL
_WHOLE: Final = frozenset({BEGIN, COMMIT, ROLLBACK})
OF_TRANSACTIONS: Final = frozenset({BEGIN, COMMIT, ROLLBACK, SAVEPOINT, RELEASE, ROLLBACK_TO})


class Placeholder(NamedTuple):
    """A parameter of the statement: its position from 0, or its name."""

    key: int | str


class Step(NamedTuple):
    """One thing that a statement does, in the order of the text.

    Attributes:
        kind: ``set``: the setting `name` has `value` from now on (None: the server's default); ``set_local``: until
            the transaction ends; ``reset_all``; ``doubt``: the setting `name`, or any one where that is empty, may
            have another value, `value` says because of what; ``named``: a later statement may set `name`;
            ``begin``, ``commit`` and ``rollback``: of the whole transaction; ``savepoint``, ``release`` and
            ``rollback_to`` the savepoint `name`.
        name: of the setting (lower case) or of the savepoint.
        value: the text that the server is given, unquoted.
        local: a parameter that says whether it is a ``set_local``.
    """

    kind: str
    name: str | Placeholder = ""
    value: str | Placeholder | None = None
    local: Placeholder | None = None


class Named(NamedTuple):
    """Session state that is no setting, by kind and name.

    Attributes:
        kind: one of the names that `Effects.leaves` has.
        key: what tells it from others of its kind; empty where the text does not tell.
        whole: there is one of that name at most; otherwise as many as were made (locks).
        asks: the server is asked what is left, where that is not known.
    """

    kind: str
    key: tuple[str | Placeholder, ...] = ()
    whole: bool = False
    asks: bool = False

    @property
    def is_known(self) -> bool:
        """True where the text, with its parameters, names it."""
        return bool(self.key) and not any(isinstance(part, Placeholder) for part in self.key)


class Part(NamedTuple):
    """One statement of a text.

    Attributes:
        word: its first word.
        names: the settings and other state that it sets, or only may set, and the functions that it calls.
        calls: it calls functions of which the text does not tell what they do.
    """

    word: str
    names: frozenset[str]
    calls: bool


_BEGUN: Final = (Step(BEGIN),)


@dataclass(frozen=True, slots=True)
class Effects:
    """What the statements of one text may do.

    Attributes:
        steps: what it does to settings, and to transactions and savepoints, in order.
        calls: names of functions that it calls and of which the text does not tell what they do (lower case).
        leaves: names of session state, other than settings, that may be there afterwards.
        lasting: what of `leaves` may be there even if the statement fails.
        clears: names of such state that are gone afterwards; ``*`` is all of it.
        makes: what of `leaves` has a name.
        ends: what is gone afterwards, one by one.
        blurs: names of such state of which one may have another name afterwards.
        outcome_unknown_if_lost: it ends a transaction in a way whose outcome is unknown if the answer is lost.
        begins: it opens a transaction.
        rolls_back: it rolls a transaction back as a whole.
        read_only: the app asks for read-only: ``transaction``, ``session``; ``ended``: no more; or nothing.
        defines: it may replace a function of which something is known.
        several: it is more than one statement.
        parts: the statements of the text, in order.
        is_reported: the server reports that it has changed something, without a name, and the text says what.
        streams: the client sends data for as long as it has some, without an answer in between.
        configured: it was sent before the app had the connection: what it sets is baseline.
        origin: where it was sent from, as telemetry marked it.
        position: of a COMMIT: where its transaction was before it was sent, from which its outcome can be found out.
        sets: settings or savepoints are concerned, and not whole transactions only.
        only_sets: it does nothing but set settings, to values that the text shows.
        concerns_state: session state that is no setting may be made or ended.
        is_plain: it begins or ends a transaction, and does nothing to the session.
    """

    steps: tuple[Step, ...] = ()
    calls: frozenset[str] = frozenset()
    leaves: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()
    clears: tuple[str, ...] = ()
    makes: tuple[Named, ...] = ()
    ends: tuple[Named, ...] = ()
    blurs: tuple[str, ...] = ()
    outcome_unknown_if_lost: bool = False
    begins: bool = False
    rolls_back: bool = False
    read_only: str = ""
    defines: bool = False
    several: bool = False
    parts: tuple[Part, ...] = field(compare=False, default=())
    is_reported: bool = False
    streams: bool = False
    configured: bool = False
    origin: object = None
    position: object = field(compare=False, default=None)
    sets: bool = field(init=False, compare=False, default=False)
    only_sets: bool = field(init=False, compare=False, default=False)
    concerns_state: bool = field(init=False, compare=False, default=False)
    is_plain: bool = field(init=False, compare=False, default=False)

    @property
    def gives_up(self) -> bool:
        """True where it rolls back as a whole and does nothing else: ``AND CHAIN`` begins another transaction."""
        return self.rolls_back and not self.several and self.steps[-1:] != _BEGUN

    @property
    def needs_its_transaction(self) -> bool:
        """True where it ends a transaction as if it were whole, or goes on with one that was there before."""
        of_savepoints = any(step.kind in (RELEASE, ROLLBACK_TO) for step in self.steps)
        return self.outcome_unknown_if_lost or (of_savepoints and not self.rolls_back)

    @property
    def may_commit(self) -> bool:
        """True for code that may have committed something before it failed."""
        return any(step.kind == DOUBT and step.value in ("DO", "CALL", UNSEEN) for step in self.steps)

    @property
    def only_calls(self) -> bool:
        """True where it does nothing but call functions."""
        return not self.steps and replace(self, calls=frozenset(), several=False) == Effects()

    @property
    def may_set_any(self) -> bool:
        """True for code that may set anything; of ``DO`` and ``CALL`` the body and the function name it."""
        return any(s.kind == DOUBT and not s.name and s.value not in ("DO", "CALL") for s in self.steps)

    def read_only_after(self, before: str) -> str:
        """Return for how long the app asks for read-only after this, as `read_only` says it."""
        if self.read_only:
            return self.read_only.removesuffix("ended")
        ended = (self.outcome_unknown_if_lost or self.rolls_back) and before == "transaction"
        return "" if ended else before

    def __post_init__(self) -> None:
        kinds = {step.kind for step in self.steps}
        concerns_state = bool(self.leaves or self.clears or self.ends or self.blurs)
        ends = self.outcome_unknown_if_lost or self.begins or self.rolls_back
        object.__setattr__(self, "sets", bool(kinds - _WHOLE))
        object.__setattr__(self, "concerns_state", concerns_state)
        object.__setattr__(self, "is_plain", not (self.sets or concerns_state or self.read_only))
        alone = kinds == {SET} and not (concerns_state or self.read_only or ends or self.calls or self.defines)
        object.__setattr__(self, "only_sets", alone)


SETTING: Final = Effects(parts=(Part("set", frozenset(), calls=False),))  # what a driver's method sends that sets


def part_of(word: str, found: Iterable[Effects]) -> Part:
    """Return one statement of a text, by its first word and its effects."""
    known = tuple(found)
    return Part(word, names_set(known), any(effects.calls for effects in known))


def names_set(found: Iterable[Effects]) -> frozenset[str]:
    """Return the names of what is set or may be, and of the functions that are called."""
    known = tuple(found)
    steps = [step for effects in known for step in effects.steps]
    settings = [s for s in steps if s.kind in (SET, SET_LOCAL, DOUBT) and s.value != UNSEEN]
    named = {s.name for s in settings if isinstance(s.name, str) and s.name}
    everything = {EVERYTHING} if any(step.kind == RESET_ALL for step in steps) else set()
    return frozenset(named | everything).union(*(effects.calls for effects in known), *(e.leaves for e in known))


def merged_effects(found: Sequence[Effects], several: bool, lasting: Container[str]) -> Effects:
    """Return what the statements of one text do together.

    Args:
        found: the effects, in order.
        several: there is more than one statement: what one clears or ends may come back with a ROLLBACK after it.
        lasting: what of the state that they leave may be there even if the text fails.
    """

    def joined(name: str) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(one for effects in found for one in getattr(effects, name)))

    def any_of(name: str) -> bool:
        return any(getattr(effects, name) for effects in found)

    leaves = joined("leaves")
    return Effects(
        steps=tuple(step for effects in found for step in effects.steps),
        calls=frozenset(joined("calls")),
        leaves=leaves,
        lasting=tuple(name for name in leaves if name in lasting),
        clears=() if several else joined("clears"),
        makes=tuple(one for effects in found for one in effects.makes),
        ends=() if several else tuple(one for effects in found for one in effects.ends),
        blurs=joined("blurs"),
        outcome_unknown_if_lost=any_of("outcome_unknown_if_lost"),
        begins=any_of("begins"),
        rolls_back=any_of("rolls_back"),
        read_only=next((effects.read_only for effects in reversed(found) if effects.read_only), ""),
        defines=any_of("defines"),
        several=several or any_of("several"),
        is_reported=any_of("is_reported"),
        streams=any_of("streams"),
    )
