"""The app's view of its session: a snapshot of the settings that were fetched or changed.

Pure. Server-side values may be secrets of the app: `repr`, which ends up in logs, hides them; `str` shows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

_HIDDEN: Final = "<hidden>"


@dataclass(frozen=True, slots=True)
class SettingState:
    """One setting of a session: what the app set, and what it was before the app first changed it.

    Attributes:
        value: of driver attributes the driver's own; of settings on the server their text, None: its default.
        on_server: it lives on the server, not in the driver.
    """

    name: str
    value: Any
    pristine_value: Any
    on_server: bool = field(default=False, compare=False)

    @property
    def is_pristine(self) -> bool:
        """True where the value is what it was before."""
        return bool(self.value == self.pristine_value)

    def __repr__(self) -> str:
        value, pristine = (_HIDDEN, _HIDDEN) if self.on_server else (self.value, self.pristine_value)
        return f"SettingState(name={self.name!r}, value={value!r}, pristine_value={pristine!r})"

    def __str__(self) -> str:
        before, after = _shown(self.pristine_value), _shown(self.value)
        return f"{self.name}: {before}" if self.is_pristine else f"{self.name}: {before} -> {after}"


def _shown(value: object) -> str:
    return value.name if isinstance(value, Enum) else str(value)


class SessionState(Mapping[str, SettingState]):
    """A snapshot of the settings that were fetched or changed, by name; server-side settings in lower case.

    Lookup ignores case, as the server does, and accepts the driver's spelling (``readonly``).
    """

    __slots__ = ("_aliases", "_settings")

    def __init__(self, settings: Mapping[str, SettingState], aliases: Mapping[str, str] | None = None) -> None:
        self._settings, self._aliases = dict(settings), dict(aliases or {})

    def __getitem__(self, name: str) -> SettingState:
        known = self._settings
        if name in known or not isinstance(name, str):
            return known[name]
        return known[self._aliases.get(name.lower(), name.lower())]

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings)

    def __len__(self) -> int:
        return len(self._settings)

    def __str__(self) -> str:
        return ", ".join(str(state) for state in self._settings.values())

    def __repr__(self) -> str:
        names = ", ".join(_named(state) for state in self._settings.values())
        return f"<SessionState {names}>" if names else "<SessionState, nothing changed>"


def _named(state: SettingState) -> str:
    if not state.on_server:
        return str(state)
    return f"{state.name}: {_HIDDEN}" if state.is_pristine else f"{state.name}: {_HIDDEN} -> {_HIDDEN}"
