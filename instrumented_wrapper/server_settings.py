"""Settings that live on the server: what the app set by SQL, exact to the savepoint, and the values before.

Pure: knows no SQL and no server. The caller reports what a statement did after the server answered, and the server's
responses to queries. Everything else is stored as uncertain.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Final

from instrumented_wrapper import statement
from instrumented_wrapper.plans import Assignment, Change, ServerAnswer
from instrumented_wrapper.savepoints import ANY, Held, Savepoints, set_by_name
from instrumented_wrapper.statement import Step

_ENDS: Final = (statement.COMMIT, statement.ROLLBACK)
_OF_TRANSACTIONS: Final = statement.OF_TRANSACTIONS - {statement.BEGIN}


class ServerSettings:
    """Values, pristine values and uncertain settings of one session.

    Attributes:
        doubts: settings that may have another value than the one recorded, and the reason.
        origins: where each value was set, as telemetry marked it; `doubted_at`: the origin of the last doubt.
        open: what the open transaction has set.
        handled: a transfer handler has configured the session, so a pristine value may differ from the server's
            default.
        missing: see `security.Refusal`.
        named_later: what prepared statements may set, whatever the outcome of their transaction.
    """

    def __init__(
        self,
        survives_reset_all: Callable[[str], bool],
        transactional: bool = True,
        has_defaults: bool = True,
        not_carried: frozenset[str] = frozenset(),
    ) -> None:
        self.transactional, self.handled = transactional, False  # a rollback undoes what a transaction has set
        self._survives, self._has_defaults = survives_reset_all, has_defaults  # it knows what the connection began with
        self._not_carried = not_carried  # they mean another thing in another session
        self.doubts: dict[str, str] = {}
        self.origins: dict[str, object] = {}
        self.newly_set: set[str] = set()  # see `left_behind`
        self._pristine: dict[str, str | None] = {}
        self._configured: set[str] = set()  # pristine values that SQL has set: the server's default is another one
        self._values: dict[str, str | None] = {}
        self.open = Savepoints()
        self.missing: dict[str, bool] = {}
        self.doubted_at: object = None
        self.named_later: set[str] = set()

    def twin(self) -> ServerSettings:
        """Return the same settings, for another physical connection."""
        twin = ServerSettings(self._survives, self.transactional, self._has_defaults, self._not_carried)
        twin.doubts, twin.origins = dict(self.doubts), dict(self.origins)
        twin._pristine, twin._values, twin._configured = dict(self._pristine), dict(self._values), set(self._configured)
        return twin

    # --- what is known -------------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """Return every known setting, the baseline included."""
        return tuple(dict.fromkeys((*self._pristine, *self._values)))

    @property
    def shown(self) -> dict[str, tuple[str | None, str | None]]:
        """Value and pristine value of each setting that was fetched or changed, as the app sees it now."""
        seen = dict(self._values)
        for level in self.open.levels:
            seen.update({name: held.value for name, held in level.values.items() if not held.configured})
        known = seen if self._has_defaults else [name for name in seen if name in self._pristine]
        return {name: (self._meant(name, seen[name]), self._pristine.get(name)) for name in known}

    def of(self, name: str, otherwise: str | None = None) -> tuple[str | None, str | None]:
        """Return what `shown` has for one setting; `otherwise` and None where that is nothing."""
        held = self.open.held(name)
        if (held is None and name not in self._values) or not (self._has_defaults or name in self._pristine):
            return otherwise, None
        return self._meant(name, self._values[name] if held is None else held.value), self._pristine.get(name)

    @property
    def is_changed(self) -> bool:
        """True where a reset has something to do, as far as it is committed."""
        return bool(self.doubts) or any(map(self._differs, self._values))

    @property
    def has_doubts(self) -> bool:
        """Return True if only the server can tell: a value is uncertain, or a pristine value could not be read yet."""
        return bool(self.doubts) or not self._values.keys() <= self._pristine.keys()

    def without_pristine(self) -> tuple[str, ...]:
        """Return the settings that were changed before their pristine value could be read, and those in doubt."""
        return tuple(n for n in dict.fromkeys((*self._values, *self.doubts)) if n != ANY and n not in self._pristine)

    def names_in_doubt(self) -> tuple[str, ...]:
        """Return the settings to query from the server: all known ones if any setting may have changed."""
        named, known = (
            (name for name in self.doubts if name != ANY),
            (*self.names, *sorted(self.named_later)) if self.in_doubt_at_all else (),
        )
        return tuple(dict.fromkeys((*known, *named, *self.without_pristine())))

    def has_pristine(self, name: str) -> bool:
        """Return True if a pristine value is known."""
        return name in self._pristine

    @property
    def in_doubt_at_all(self) -> bool:
        """True where any setting may have changed."""
        return ANY in self.doubts

    def unfetched(self, steps: Iterable[Step]) -> tuple[str, ...]:
        """Return the settings whose pristine value must be read before these steps, in order."""
        kinds = (statement.SET, statement.DOUBT)
        changed = [n for kind, n, v, _ in steps if kind in kinds and (n if kind == statement.DOUBT else v is not None)]
        return tuple(dict.fromkeys([n for n in changed if isinstance(n, str) and self._is_unfetched(n)]))

    def _is_unfetched(self, name: str) -> bool:
        if self.knows(name) or ANY in self.doubts or name in self.doubts or self.open.has_doubted(name):
            return False  # what may have been set already is read later
        return not (name in self._configured and self.is_masked(name))  # configured and hidden: known well enough

    def knows(self, name: str) -> bool:
        """Return True if the pristine value was fetched, or the setting was changed already."""
        return name in self._values or self.open.has_set(name)

    def is_masked(self, name: str) -> bool:
        """Return True if a SET LOCAL hides the session's value until the transaction ends."""
        return self.open.has_hidden(name)

    def _meant(self, name: str, value: str | None) -> str | None:
        """Return a value with the server's default spelled out, where that is the pristine value."""
        return self._pristine.get(name) if value is None and name not in self._configured else value

    # --- what happens --------------------------------------------------------------------------------------------

    def fetched(self, name: str, value: str | None) -> None:
        """Store a pristine value as the server spells it; only the first one counts."""
        if name not in self._values:
            self._pristine[name] = value
            self._configured |= {name} if value is not None and self.handled and self._has_defaults else set()
            self._values[name] = self._baseline(name)

    def apply(self, steps: Iterable[Step], origin: object, configured: bool, aborted: bool) -> None:
        """Do what a statement did. A COMMIT of a transaction that is still `aborted` rolls it back."""
        for step in steps:
            if not self.transactional and step.kind in statement.OF_TRANSACTIONS:
                continue
            if step.kind in _ENDS:
                self.end(commit=step.kind == statement.COMMIT and not aborted)
            else:
                self._do(step, origin, configured)
            aborted = aborted and step.kind not in (*_ENDS, statement.ROLLBACK_TO)
        if not self.transactional and self.open.levels:
            self.end(commit=True)

    def set_now(self, steps: Iterable[Step], origin: object, configured: bool) -> None:
        """Take what was set outside a transaction, and nothing else was done."""
        for step in steps:
            self._settle(str(step.name), Held.of(step.value, origin, configured))

    def _do(self, step: Step, origin: object, configured: bool) -> None:
        name = str(step.name)
        if step.kind == statement.SET:
            self.open.top.put(name, Held.of(step.value, origin, configured))
            if self.open.top.doubts.get(name) != statement.DECLARE:
                self.open.top.doubts.pop(name, None)
        elif step.kind == statement.SET_LOCAL:
            self.open.top.local.add(name)
        elif step.kind == statement.DOUBT:
            self.open.top.doubts[name] = str(step.value)
            self.doubted_at = origin
        elif step.kind == statement.NAMED:
            self.named_later.add(name)
        elif step.kind == statement.RESET_ALL:
            self._reset_all(origin, configured)
        elif step.kind == statement.SAVEPOINT:
            self.open.savepoint(name)
        elif step.kind == statement.RELEASE:
            self.open.release(name)
        elif step.kind == statement.ROLLBACK_TO:
            self.open.roll_back_to(name)

    def _reset_all(self, origin: object, configured: bool) -> None:
        missing = tuple(name for name, is_named in self.missing.items() if is_named)
        for name in self.names + missing + tuple(n for level in self.open.levels for n in level.values):
            if not self._survives(name):
                self.open.top.put(name, Held(None, origin, configured))

    def end(self, commit: bool) -> None:
        """The transaction has ended: what it did counts, or never was."""
        whole = self.open.end()
        self.doubts.update(whole.doubts if commit else whole.lasting_doubts)
        for name, held in whole.values.items() if commit else ():
            self._settle(name, held)

    def _settle(self, name: str, held: Held) -> None:
        self.missing.pop(name, None)
        if (base := held if held.configured else held.over) is not None:
            self._configure(name, base.value)
        if not held.configured and (held.value is not None or name in self._values or name in self._pristine):
            self._values[name], self.origins[name] = held.value, held.origin
            self.newly_set.add(name)

    def _configure(self, name: str, value: str | None) -> None:
        self._values.pop(name, None)
        self._pristine.pop(name, None)
        self._configured.discard(name)
        if value is not None:
            self._pristine[name] = value
            self._configured.add(name)

    def uncertain(self, steps: Iterable[Step], because: str) -> None:
        """Mark these settings as uncertain: it is unknown which of them were set."""
        given = tuple(steps)
        if not self.transactional or any(step.kind in _OF_TRANSACTIONS for step in given):
            doubts = self.doubts  # a commit may be among them: no rollback takes these back for certain
            for level in self.open.levels:
                doubts.update(level.touched(because))
        else:
            doubts = self.open.top.doubts
        for step in given:
            lasts = step.kind in (statement.SET, statement.DOUBT)
            if lasts or (step.kind == statement.SET_LOCAL and not self.transactional):  # it may be back, or not yet
                doubts[str(step.name)] = str(step.value) if step.kind == statement.DOUBT else because
            elif step.kind == statement.NAMED:
                self.named_later.add(str(step.name))
            elif step.kind == statement.RESET_ALL:
                doubts.update(dict.fromkeys((n for n in self.names if not self._survives(n)), because))

    def unclear(self, because: str) -> None:
        """Mark everything that the transaction touched as uncertain: it is unknown how much of it has run."""
        self.doubts.update(self.open.end().touched(because))

    def apply_answer(self, told: ServerAnswer, configured: bool) -> None:
        """Update the settings from a server response; nothing remains uncertain."""
        for name, default in told.defaults.items():
            if name not in self._pristine and not configured:
                self._pristine[name] = default or None if "." in name else default
        for name, value in told.values.items():
            self._take(name, value, configured)
        for name in set_by_name(self.doubts):
            self.missing.pop(name, None)
        self.doubts.clear()

    def apply_report(self, name: str, pristine: str, value: str) -> None:
        """The server reports another value than at the beginning, whoever has set it."""
        if name not in self._configured:
            self.fetched(name, self._pristine.setdefault(name, pristine))
            self._take(name, value, configured=False)

    def reported(self, name: str, value: str | None) -> None:
        """Update a setting from a report of the server; the value before is read later if it is needed."""
        self._take(name, value, configured=False)

    def _take(self, name: str, value: str | None, configured: bool) -> None:
        if configured:
            self._configure(name, value)
            return
        pristine, before = self._pristine.get(name), self._values.get(name)
        if value == pristine or (self._has_defaults and not value and not pristine):
            if name in self._values:
                self._values[name] = value if name in self._configured else None
        elif before != value:
            self._values[name], self.origins[name] = value, self.doubted_at
            self.newly_set.add(name)
        if self._values.get(name) != before:
            self.missing.pop(name, None)

    # --- plans ---------------------------------------------------------------------------------------------------

    def reset_plan(self) -> tuple[Change, ...]:
        """Plan the way back to pristine: what is committed and different."""
        return tuple(Change(n, v, self._pristine.get(n)) for n, v in self._values.items() if self._differs(n))

    def _differs(self, name: str) -> bool:
        value = self._values[name]
        if name not in self._configured and value is None:
            return False
        return name not in self._pristine or value != self._pristine[name]

    def reset_assignments(self) -> tuple[Assignment, ...]:
        """Return the assignments that reset settings: the server's own default unless another value was pristine."""
        back = self._baseline if self._has_defaults else self._pristine.get
        return tuple(Assignment(change.setting, back(change.setting)) for change in self.reset_plan())

    def baseline_assignments(self) -> tuple[Assignment, ...]:
        """Return what brings a new physical connection to the baseline."""
        return tuple(Assignment(n, self._pristine[n]) for n in self._pristine if n in self._configured)

    def transfer_plan(self) -> tuple[Change, ...]:
        """Plan the way from the baseline to the values: all that was set, for another server has other defaults."""
        items = ((name, value) for name, value in self._values.items() if name not in self._not_carried)
        known, at_first = self._configured, self._pristine.get
        return tuple(
            Change(n, at_first(n), v) for n, v in items if (n not in known and v is not None) or self._differs(n)
        )

    def not_carried(self) -> tuple[str, ...]:
        """Return the settings that were changed, and mean another thing in another session."""
        return tuple(name for name in self._values if name in self._not_carried and self._differs(name))

    def is_configured(self, name: str) -> bool:
        """Return True if the pristine value was set by SQL before the app got the connection."""
        return name in self._configured

    def transfer_assignments(self) -> tuple[Assignment, ...]:
        """Return what brings a new physical connection from the baseline to the values."""
        return tuple(Assignment(c.setting, c.after) for c in self.transfer_plan())

    def _baseline(self, name: str) -> str | None:
        return self._pristine[name] if name in self._configured else None

    def were_reset(self, names: Container[str]) -> None:
        """Mark these settings as reset to the baseline; that they were changed is still recorded."""
        for name in self._values:
            if name in names or not self._differs(name):
                self._values[name] = self._baseline(name)
                self.origins.pop(name, None)

    def forget(self, names: Container[str]) -> None:
        """Remove these settings: they are not the app's, or their session is gone."""
        for known in (self._values, self._pristine, self.origins, self.doubts):
            for name in [name for name in known if name in names]:
                del known[name]
        self._configured = {name for name in self._configured if name not in names}

    def mark_pristine(self) -> None:
        """Take the present values as the baseline."""
        for name, value in list(self._values.items()):
            if self._differs(name):
                self._pristine[name] = value
                self._configured.add(name)
            self._values[name] = self._baseline(name)
        self.origins.clear()

    def forget_values(self) -> None:
        """Begin again at the baseline."""
        for name in self._values:
            if name not in self._configured:
                self._pristine.pop(name, None)
        for known in (self._values, self.origins, self.doubts):
            known.clear()
        self.open.end()
