"""What the app changed in one session and the values before; plans for reset and transfer; state that statements left.

Pure: no driver call, no telemetry. The lifecycle acts on the answers of a `Session`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from instrumented_wrapper.databases import Database
from instrumented_wrapper.errors import FailoverError, remembered
from instrumented_wrapper.handlers import Logical
from instrumented_wrapper.options import Options
from instrumented_wrapper.plans import Assignment, Change, ServerAnswer
from instrumented_wrapper.residual_state import ResidualState
from instrumented_wrapper.savepoints import ANY
from instrumented_wrapper.security import Refusal
from instrumented_wrapper.server_settings import ServerSettings
from instrumented_wrapper.snapshot import SessionState, SettingState
from instrumented_wrapper.statement import DOUBT, SET, UNANSWERED, Effects, Step
from instrumented_wrapper.unreported_changes import UnreportedChanges


class Session:
    """The session behind one logical connection.

    Attributes:
        options: what is switched on for this connection.
        changed: True while a reset has something to do.
        needs_resync: True while something has to be asked of the server.
        on_server: the settings that live on the server.
        residual: state other than settings that statements may have left.
        in_flight: effects of the statements that were sent since the last answer.
        configuring: what is being set belongs to the baseline.
        held: a pool or a framework configures the connection, and has not handed it out yet.
        shared: others use the server session too, between our transactions (a pooler): its settings are left alone.
        closed_by_app: it stays closed.
        lost: the error that says that a transaction was lost; kept until the app rolls back.
        failed: the error that says that a switch failed and the connection is shut for good.
        left_behind: what was set since the connection last went back to a pool.
        refusal: what each statement raises while security state is missing that a switch could not carry.
        pending_error: an error that the app has not been told yet; the next statement tells it.
        aliases: the driver's own names of settings, where they are not ours.
        reported: returns the value of a setting where the server tells it unasked.
        logical: the app's connection in a package that replaces the driver's connections; None: the driver's is.
    """

    def __init__(self, options: Options, database: Database) -> None:
        self.options = options
        self.changed = self.needs_resync = False
        can, keeps = database.CAPABILITIES, database.survives_reset_all
        self.on_server = ServerSettings(keeps, can.rollback_undoes_set, can.has_defaults, database.NOT_CARRIED)
        self.residual = ResidualState(database)
        self.in_flight: list[Effects] = []
        self.configuring = self.held = self.shared = self.closed_by_app = False
        self.lost: FailoverError | None = None
        self.pending_error: FailoverError | None = None
        self.failed: FailoverError | None = None
        self.asked_read_only, self.resetting = "", False
        self.aliases: Mapping[str, str] = {}
        self.reported: Callable[[str], str | None] = dict[str, str]().get  # nothing is
        self.logical: Logical | None = None
        self._database = database
        self._settings: dict[str, SettingState] = {}
        self._origins: dict[str, object] = {}
        self.unreported = UnreportedChanges(self.on_server.newly_set)
        self.refusal = Refusal(self.on_server, database)

    def hold(self) -> None:
        """A pool configures the connection before the app has it: what is set from now on is the baseline."""
        self.held = self.configuring = True

    def hand_out(self) -> None:
        """Mark the connection as handed out to the app."""
        self.held = self.configuring = False

    @contextmanager
    def in_handler(self) -> Iterator[None]:
        """While inside, a handler of the app is at work: another reset has nothing to do."""
        self.resetting = True
        try:
            yield
        finally:
            self.resetting = False

    def set_pending_error(self, error: FailoverError | None) -> None:
        """Let the next statement raise `error`; None cancels that."""
        self.pending_error = None if error is None else remembered(error)

    def accept(self) -> None:
        """The app takes the session as it is, whatever a switch could not carry."""
        self.on_server.missing.clear()
        self._look_at_refusal()

    def _look_at_refusal(self) -> None:
        if self.refusal.has_ended():
            self.refresh()

    def refresh(self) -> None:
        """Recompute the flags that the frequent path of a driver reads."""

    def twin(self) -> Session:
        """Return a session with the same settings, for the physical connection that a switch replaces."""
        twin = Session(self.options, self._database)
        twin._settings, twin._origins, twin.residual = dict(self._settings), dict(self._origins), self.residual.twin()
        twin.on_server, twin.changed = self.on_server.twin(), self.changed
        twin.aliases, twin.shared = self.aliases, self.shared
        return twin

    # --- settings of the driver ----------------------------------------------------------------------------------

    def knows(self, setting: str) -> bool:
        """Return True if the pristine value of `setting`, one of the driver's, was fetched."""
        return setting in self._settings

    def fetched(self, setting: str, value: object) -> None:
        """Store the pristine value of `setting`; only the first one counts."""
        self._settings.setdefault(setting, SettingState(setting, value, value))

    def changed_to(self, setting: str, value: object, origin: object = None) -> None:
        """Record a value that the app has set, and where it did so."""
        self._settings[setting] = SettingState(setting, value, self._settings[setting].pristine_value)
        self._origins[setting] = origin
        self.unreported.settings.add(setting)
        self.refresh_changed()

    def configured(self, setting: str, value: object) -> None:
        """A pool or a framework has set `setting` before it hands the connection out: that is its baseline value."""
        if setting in self._settings:
            self._settings[setting] = SettingState(setting, value, value)
            self.refresh_changed()

    def pristine(self, setting: str, present: object) -> Any:
        """Return the baseline value of `setting`, of which `present` is the value now."""
        state = self._settings.get(setting)
        return state.pristine_value if state else present

    def became_pristine(self, names: Iterable[str], read: Callable[[str], Any]) -> None:
        """Take the present values of those of the driver's settings as pristine: whoever set them has put them back."""
        present = {name: read(name) for name in names if name in self._settings}
        self._settings.update((name, SettingState(name, value, value)) for name, value in present.items())
        self.refresh_changed()

    def client_settings(self) -> tuple[str, ...]:
        """Return the names of the driver's settings that were fetched."""
        return tuple(self._settings)

    # --- all settings --------------------------------------------------------------------------------------------

    def snapshot(self) -> SessionState:
        """Return a snapshot of the settings for the app."""
        shown = self._database.shown
        known = {n: SettingState(n, shown(n, v), shown(n, p), True) for n, (v, p) in self.on_server.shown.items()}
        return SessionState({**self._settings, **known}, self.aliases)

    def refresh_changed(self) -> None:
        """Recompute `changed`, which returns to pools look at, and `needs_resync`."""
        self._look_at_refusal()
        changed = (self.residual.kinds and self.to_clear()) or self.on_server.is_changed or self.transfer_plan()
        self.changed, self.needs_resync = bool(changed), self.on_server.has_doubts

    def changed_settings(self) -> tuple[str, ...]:
        """Return the names of the settings that are not pristine."""
        return tuple(c.setting for c in (*self.transfer_plan(), *self.on_server.reset_plan()))

    def carried_settings(self) -> tuple[str, ...]:
        """Return the names of the settings that a switch has to bring to their values."""
        return tuple(c.setting for c in (*self.transfer_plan(), *self.on_server.transfer_plan()))

    def origins(self, names: Iterable[str] | None = None) -> tuple[object, ...]:
        """Return where settings were set, as telemetry marked it; by default all that a reset brings back or clears."""
        marks = {**self.residual.origins, **self._origins, **self.on_server.origins}
        found: list[object] = []
        for name in (*self.changed_settings(), *self.to_clear()) if names is None else names:
            if (mark := marks.get(name)) is not None and mark not in found:
                found.append(mark)
        return tuple(found)

    def reset_plan(self, read: Callable[[str], Any]) -> tuple[Change, ...]:
        """Plan the reset of the driver's settings: changed, different and not already pristine (by `read`)."""
        present = {name: read(name) for name in self._settings}
        states = self._settings.items()
        return tuple(Change(n, present[n], s.pristine_value) for n, s in states if present[n] != s.pristine_value)

    def transfer_plan(self) -> tuple[Change, ...]:
        """Plan the driver's settings from the baseline to the values."""
        return tuple(Change(n, s.pristine_value, s.value) for n, s in self._settings.items() if not s.is_pristine)

    def were_reset(self, names: Container[str]) -> None:
        """Take settings as back at the baseline, and other state as cleared."""
        self.on_server.were_reset(names)
        for name in self.to_clear():
            if name in names:
                self.residual.kinds.pop(name, None)
        self.refresh_changed()

    def reset_assignments(self, clears: tuple[str, ...]) -> tuple[Assignment, ...]:
        """Return what the server is to be given by a reset; clearing all settings takes the baseline with it."""
        given = self.on_server.reset_assignments()
        if not any(self._database.covers("settings", name) for name in clears):
            return given
        named = {assignment.name for assignment in given}
        return (*given, *(a for a in self.on_server.baseline_assignments() if a.name not in named))

    def to_clear(self) -> tuple[str, ...]:
        """Return the names of what a reset has to clear besides settings."""
        scope = "*" if self.options.reset_scope == "session" else "settings"
        baseline, covers = self.residual.baseline, self._database.covers
        return tuple(n for n in self.residual.kinds if n not in baseline and covers(scope, n))

    def mark_pristine(self, read: Callable[[str], Any]) -> None:
        """Make the present values the baseline; state that cannot be carried is still reported."""
        self._settings = {name: SettingState(name, value := read(name), value) for name in self._settings}
        self.on_server.mark_pristine()
        self.accept()
        self.refresh_changed()

    def forget(self) -> None:
        """Begin again at the baseline, with nothing fetched."""
        self._settings.clear()
        self.on_server.forget_values()
        self.changed = False

    # --- statements ----------------------------------------------------------------------------------------------

    def settle(self, for_good: bool, certain: bool = True, idle: bool = False, aborted: bool = False) -> None:
        """Record what the statements in flight have done, now that they have ended.

        Args:
            for_good: what they cleared is gone; otherwise a rollback may restore it.
            certain: the server has answered each of them.
            idle: no transaction is open afterwards.
            aborted: the transaction in which they ran had failed before.
        """
        if self.settle_plainly():
            return
        noted, self.in_flight = self.in_flight, []
        try:
            self._settle_all(noted, for_good, certain, idle, aborted)
        except BaseException:  # a signal handler of the app raised, and what the transaction has set may be forgotten
            self.on_server.uncertain((step for effects in noted for step in effects.steps), UNANSWERED)
            self.on_server.doubts[ANY] = UNANSWERED
            raise
        finally:
            self.refresh_changed()

    def _settle_all(self, noted: list[Effects], for_good: bool, certain: bool, idle: bool, aborted: bool) -> None:
        if certain and noted:
            noted[-1] = self._last_as_reported(noted)
        if certain and idle and not self.on_server.open.levels and noted and noted[-1].only_sets and len(noted) == 1:
            self.on_server.set_now(noted[0].steps, noted[0].origin, noted[0].configured)
            return
        for effects in noted:
            self._settle(effects, for_good, certain)
            if certain:
                self.on_server.apply(effects.steps, effects.origin, effects.configured, aborted)
        if not certain:
            self.on_server.uncertain((step for effects in noted for step in effects.steps), UNANSWERED)
        if idle and self.on_server.open.levels:
            self.on_server.end(commit=True) if certain else self.on_server.unclear(UNANSWERED)

    def _settle(self, effects: Effects, for_good: bool, certain: bool = False) -> None:
        if effects.concerns_state and (kind := self.residual.settle(effects, for_good, certain, self.refusal.cleared)):
            self.on_server.doubts[ANY] = kind
        if effects.read_only or self.asked_read_only:
            self.asked_read_only = effects.read_only_after(self.asked_read_only)

    def settle_plainly(self) -> bool:
        """Settle, at little cost, transactions that were begun or ended and set nothing; return False for any other."""
        if self.asked_read_only or self.on_server.open.levels:
            return False
        for effects in self.in_flight:  # of each end of a transaction: a generator would cost more than all the rest
            if not effects.is_plain:
                return False
        self.in_flight = []
        return True

    def _last_as_reported(self, noted: list[Effects]) -> Effects:
        """Take the value that the server reports as the effect of the last statement, if nothing else has set any."""
        *before, last = noted
        if not last.sets or last.several or not all(effects.is_plain for effects in before):
            return last
        steps = tuple(map(self._as_reported, last.steps))
        return last if steps == last.steps else replace(last, steps=steps)

    def _as_reported(self, step: Step) -> Step:
        """Return a step with the value that the server has reported, which is the truth and costs nothing."""
        name = str(step.name)
        if step.kind not in (SET, DOUBT) or not name or self.on_server.is_masked(name):
            return step
        value = self.reported(name)
        return step if value is None or (step.kind == SET and step.value is None) else Step(SET, name, value)

    def under_way(self, fact: str) -> bool:
        """Return True if a statement in flight has the effect `fact`."""
        return any(getattr(effects, fact) for effects in self.in_flight)

    def refused(self, pipelined: bool = False, idle: bool = False) -> None:
        """Record that what was sent was refused: a single statement left nothing; of several, some may have run."""
        lasting = [name for effects in self.in_flight for name in effects.lasting]
        unseen = [s.value for effects in self.in_flight for s in effects.steps if s.kind == DOUBT and not s.name]
        self.in_flight = [effects for effects in self.in_flight if effects.several or pipelined or effects.may_commit]
        if not self.in_flight and idle:
            self.on_server.end(commit=False)
        self.settle(for_good=False, certain=False, idle=idle)
        self.residual.add(lasting)
        if unseen:  # a lock that a function has taken outlasts its failure
            self.on_server.doubts[ANY] = str(unseen[-1])
        if lasting or unseen:
            self.refresh_changed()

    def apply_answer(self, told: ServerAnswer, left: tuple[str, ...] | None) -> None:
        """Update settings and, unless `left` is None, all other state from a server response."""
        self.on_server.apply_answer(told, self.configuring)
        if left is not None:
            self.residual.listed(left, self.configuring, self.on_server.doubted_at)
        self.refresh_changed()

    def forget_residual(self, transaction: str) -> tuple[str, ...]:
        """Return the names of state that may exist, statements in flight included, and forget them.

        Args:
            transaction: the outcome of the transaction: ``none``, ``rolled_back`` or ``unknown``; with the last one,
                what it set is uncertain.
        """
        undone = transaction == "rolled_back" and self._database.CAPABILITIES.rollback_undoes_set
        under_way: dict[str, str] = {}
        for effects in self.in_flight:
            self._settle(effects, for_good=False)
            under_way.update(() if undone else self.refusal.under_way(effects, transaction))
        self.in_flight = []
        doubts = self.on_server.doubts
        before = dict(doubts)
        self.on_server.unclear("COMMIT") if transaction == "unknown" else self.on_server.end(commit=False)
        self.refusal.lost(self.residual.kinds, before if undone else doubts, under_way)
        doubts.update(under_way)
        names = self.not_carried()
        self.residual.forget()
        doubts.clear()
        return names

    def not_carried(self) -> tuple[str, ...]:
        """Return the names of state that a switch cannot carry over; of a setting in doubt, its own name."""
        known, kinds = self.on_server, self.residual.kinds
        doubts = (name or why for name, why in known.doubts.items())
        return tuple(dict.fromkeys((*kinds, *doubts, *known.missing, *known.not_carried())))
