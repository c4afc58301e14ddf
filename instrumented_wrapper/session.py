"""What the app changed in one session and what it was before: values, plans, and what a statement may have left.

Pure: no driver call, no telemetry. `Session` is asked and told; the lifecycle acts on the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol

from instrumented_wrapper.errors import Address, FailoverError, remembered
from instrumented_wrapper.options import Options

__all__ = ["Change", "Effects", "Loss", "Session", "SessionState", "SettingState"]


class Effects(Protocol):
    """What a database says of a statement's text; see ``databases/``."""

    @property
    def leaves(self) -> tuple[str, ...]:
        """Names of state that may be in the session afterwards."""

    @property
    def lasting(self) -> tuple[str, ...]:
        """What of `leaves` may be there even if the statement fails."""

    @property
    def clears(self) -> tuple[str, ...]:
        """Names of state that are gone afterwards."""

    @property
    def in_doubt(self) -> bool:
        """Its outcome is unknown if the answer is lost."""

    @property
    def several(self) -> bool:
        """It is more than one statement."""

    @property
    def begins(self) -> bool:
        """It opens a transaction."""

    @property
    def rolls_back(self) -> bool:
        """It rolls a transaction back."""

    @property
    def read_only(self) -> str:
        """The app asks for read-only: ``transaction``, ``session``, no more: ``ended``, or an empty string."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What is known when a physical connection is found lost, or is about to be replaced.

    Attributes:
        trigger: ``connection_lost``, ``demoted`` or ``requested``.
        transaction: ``none``, ``rolled_back`` or ``unknown``.
        may_have_run: False only where nothing was sent, or all of it is certainly rolled back.
        refuse: leave the new session refusing everything until the app rolls back.
        silent: the app need not know, if all state was carried over.
        later: the app is told by its next statement, not now: it is rolling back, and that succeeds.
        cause: what the driver raised.
        hosts: where to look, instead of the connection's own hosts.
    """

    trigger: str = "connection_lost"
    transaction: str = "none"
    may_have_run: bool = False
    refuse: bool = False
    silent: bool = False
    later: bool = False
    cause: BaseException | None = None
    hosts: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class SettingState:
    """One setting of a session: what the app set, and what it was before the app first changed it."""

    name: str
    value: Any
    pristine_value: Any

    @property
    def is_pristine(self) -> bool:
        """True where the value is what it was before."""
        return bool(self.value == self.pristine_value)

    def __str__(self) -> str:
        before, after = _shown(self.pristine_value), _shown(self.value)
        return f"{self.name}: {before}" if self.is_pristine else f"{self.name}: {before} -> {after}"


def _shown(value: Any) -> str:
    return value.name if isinstance(value, Enum) else str(value)


class SessionState(Mapping[str, SettingState]):
    """A snapshot of the settings that were fetched or changed, by name."""

    __slots__ = ("_settings",)

    def __init__(self, settings: Mapping[str, SettingState]) -> None:
        self._settings = dict(settings)

    def __getitem__(self, name: str) -> SettingState:
        return self._settings[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings)

    def __len__(self) -> int:
        return len(self._settings)

    def __str__(self) -> str:
        return ", ".join(str(state) for state in self._settings.values())

    def __repr__(self) -> str:
        return f"<SessionState {self}>" if self._settings else "<SessionState, nothing changed>"


class Change(NamedTuple):
    """One step of a plan: bring `setting` from `before` to `after`."""

    setting: str
    before: Any
    after: Any


class Session:
    """The session behind one logical connection.

    Attributes:
        options: what is switched on for this connection.
        changed: True while at least one setting is not pristine.
        left: names of session state that may have been left by statements, in the order in which they came.
        noted: effects of the statements that were sent since the last answer.
        lost: the error that says that a transaction was lost; kept until the app rolls back.
        failed: the error that says that a switch failed and the connection is shut for good.
        owed: an error that the app has not been told yet; the next statement tells it.
    """

    def __init__(self, options: Options, covers: Callable[[str, str], bool]) -> None:
        self.options = options
        self.changed = False
        self.left: dict[str, None] = {}
        self.noted: list[Effects] = []
        self.lost: FailoverError | None = None
        self.owed: FailoverError | None = None
        self.failed: FailoverError | None = None
        self.asked_read_only = ""
        self.resetting = False
        self._covers = covers
        self._settings: dict[str, SettingState] = {}

    @contextmanager
    def asking(self) -> Iterator[None]:
        """While inside, a handler of the app is at work: another reset has nothing to do."""
        self.resetting = True
        try:
            yield
        finally:
            self.resetting = False

    def owe(self, error: FailoverError | None) -> None:
        """The app has to be told `error` by its next statement; None: there is nothing to tell."""
        self.owed = None if error is None else remembered(error)

    def twin(self) -> Session:
        """Return a session with the same settings, for the physical connection that is left behind in a switch."""
        twin = Session(self.options, self._covers)
        twin._settings, twin.changed = dict(self._settings), self.changed
        return twin

    def knows(self, setting: str) -> bool:
        """Tell whether the pristine value of `setting` was fetched."""
        return setting in self._settings

    def fetched(self, setting: str, value: Any) -> None:
        """Keep the pristine value of `setting`; only the first one counts."""
        self._settings.setdefault(setting, SettingState(setting, value, value))

    def changed_to(self, setting: str, value: Any) -> None:
        """Keep what the app set, after it was set."""
        self._settings[setting] = SettingState(setting, value, self._settings[setting].pristine_value)
        self.changed = any(not state.is_pristine for state in self._settings.values())

    def snapshot(self) -> SessionState:
        """Return the settings as they are now, for the app to keep."""
        return SessionState(self._settings)

    def pristine(self, setting: str, present: Any) -> Any:
        """Return the baseline value of `setting`, of which `present` is the value now."""
        state = self._settings.get(setting)
        return state.pristine_value if state else present

    def changed_settings(self) -> tuple[str, ...]:
        """Return the names of the settings that are not pristine."""
        return tuple(name for name, state in self._settings.items() if not state.is_pristine)

    def reset_plan(self, read: Callable[[str], Any]) -> tuple[Change, ...]:
        """Plan the way back to pristine: what was changed, is different and is not already back (`read` tells)."""
        present = {name: read(name) for name in self._settings}
        states = self._settings.items()
        return tuple(Change(n, present[n], s.pristine_value) for n, s in states if present[n] != s.pristine_value)

    def transfer_plan(self) -> tuple[Change, ...]:
        """Plan the way from the baseline to the values."""
        states = self._settings.items()
        return tuple(Change(name, s.pristine_value, s.value) for name, s in states if not s.is_pristine)

    def mark_pristine(self, read: Callable[[str], Any]) -> None:
        """Take the present values as the baseline; what cannot be carried is still told of."""
        present = {name: read(name) for name in self._settings}
        self._settings = {name: SettingState(name, value, value) for name, value in present.items()}
        self.changed = False

    def forget(self) -> None:
        """Begin again at the baseline, with nothing fetched."""
        self._settings.clear()
        self.changed = False

    def settle(self, for_good: bool) -> None:
        """The statements that were sent are done: keep what they may have left in the session.

        What they cleared counts only `for_good`: a rollback brings it back.
        """
        for effects in self.noted:
            if effects.clears and for_good:
                self._clear(effects.clears)
            if effects.leaves:
                self.left.update(dict.fromkeys(effects.leaves))
            if effects.read_only or self.asked_read_only:
                self.asked_read_only = self._asked_after(effects)
        self.noted.clear()

    def _clear(self, cleared: tuple[str, ...]) -> None:
        self.left = {name: None for name in self.left if not any(self._covers(by, name) for by in cleared)}

    def _asked_after(self, effects: Effects) -> str:
        if effects.read_only:
            return effects.read_only.removesuffix("ended")
        ended = (effects.in_doubt or effects.rolls_back) and self.asked_read_only == "transaction"
        return "" if ended else self.asked_read_only

    def under_way(self, fact: str) -> bool:
        """Tell whether a statement that was sent and not answered has the effect `fact`."""
        return any(getattr(effects, fact) for effects in self.noted)

    def refused(self, pipelined: bool = False) -> None:
        """What was sent was refused: a single statement left nothing, of several some may have run."""
        lasting = [name for effects in self.noted for name in effects.lasting]
        self.noted = [effects for effects in self.noted if effects.several or pipelined]
        self.settle(for_good=False)
        self.left.update(dict.fromkeys(lasting))

    def take_left(self) -> tuple[str, ...]:
        """Return the names of what may have been left, statements under way included, and forget them."""
        self.settle(for_good=False)
        names = tuple(self.left)
        self.left.clear()
        return names
