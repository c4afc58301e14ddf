"""What happened to a session, as frozen data, and who listens.

Pure: knows neither a driver nor OpenTelemetry. An event that lasts is a context manager (`observe`): the listeners
are told at its start, and told the outcome at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final

__all__ = [
    "Event",
    "Failover",
    "FailoverEnd",
    "Fetched",
    "Listener",
    "Observation",
    "Outcome",
    "Peer",
    "PristineFetch",
    "Reset",
    "SettingChange",
    "SettingsEnd",
    "Signals",
    "Transfer",
    "observe",
    "subscribe",
    "unsubscribe",
]


@dataclass(frozen=True, slots=True)
class Peer:
    """The server of a physical connection: database system, database, host (or socket path) and port."""

    system: str
    namespace: str
    address: str
    port: int | None


@dataclass(frozen=True, slots=True)
class Signals:
    """What of a connection may be told: spans, metrics, values of server-side settings."""

    traces: bool = True
    metrics: bool = True
    values: bool = False


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One setting in a reset or a transfer. ``outcome``: ``restored``, ``reset``, ``skipped`` or ``failed``."""

    name: str
    before: object
    after: object
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something began on a connection of `driver` to `peer`."""

    driver: str
    peer: Peer
    signals: Signals


@dataclass(frozen=True, slots=True, kw_only=True)
class PristineFetch(Event):
    """The value of one setting is read before the app first changes it. ``source``: driver, reported, server."""

    setting: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset(Event):
    """Settings go back to pristine. ``trigger``: close, pool_return, switch, requested."""

    trigger: str
    settings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Event):
    """Settings are applied to a new physical connection to `peer`."""

    settings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover(Event):
    """The physical connection to `peer` was lost, or is about to be replaced.

    ``trigger``: connection_lost, session_ended, demoted, requested; what is not known before the end is corrected by
    `FailoverEnd`.
    """

    trigger: str
    transaction: str
    may_have_run: bool


@dataclass(frozen=True, slots=True)
class Fetched:
    """End of a `PristineFetch`."""

    value: object


@dataclass(frozen=True, slots=True)
class SettingsEnd:
    """End of a `Reset` or a `Transfer`."""

    changes: tuple[SettingChange, ...]
    handled_by: str
    round_trips: int
    not_restored: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class FailoverEnd:
    """End of a `Failover`; `peer` is the new server or None, ``attempts`` the connections that were started."""

    outcome: str
    trigger: str
    peer: Peer | None
    attempts: int
    error: str | None = None


Outcome = Fetched | SettingsEnd | FailoverEnd
Finish = Callable[[Outcome | None, BaseException | None], None]
Listener = Callable[[Event], Finish | None]

_listeners: list[Listener] = []


class Observation:
    """Tells the listeners that an event began and, on leaving, how it ended (set `outcome` before)."""

    __slots__ = ("_finish", "event", "outcome")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.outcome: Outcome | None = None
        self._finish: list[Finish] = []

    def __enter__(self) -> Observation:
        for listener in _listeners:
            if finish := listener(self.event):
                self._finish.append(finish)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        for finish in reversed(self._finish):
            finish(self.outcome, error)


observe: Final = Observation


def subscribe(listener: Listener) -> None:
    """Tell `listener` of all that happens from now on. It must not raise."""
    _listeners.append(listener)


def unsubscribe(listener: Listener) -> None:
    """Tell `listener` nothing any more."""
    _listeners.remove(listener)


def error_type(error: BaseException) -> str:
    """Return what telemetry may say of an error: its SQLSTATE or errno, else the name of its class."""
    told: Mapping[str, object] = {"sqlstate": getattr(error, "sqlstate", None), "errno": getattr(error, "errno", None)}
    return next((str(code) for code in told.values() if code), type(error).__name__)
