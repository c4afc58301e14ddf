"""Events of a session as frozen data, and their listeners.

Pure: knows neither a driver nor OpenTelemetry. An event with a duration is a context manager (`observe`): listeners
are called when it begins, and with its outcome when it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from instrumented_wrapper.failover import Attempts


class ServerAddress(NamedTuple):
    """The server of a physical connection: database system, database, host (or socket path) and port."""

    system: str
    namespace: str
    address: str
    port: int | None


class Signals(NamedTuple):
    """The telemetry that a connection may emit: spans, metrics, values of server-side settings."""

    traces: bool = True
    metrics: bool = True
    values: bool = False


class SettingChange(NamedTuple):
    """One setting in a reset or a transfer. ``outcome``: ``restored``, ``reset``, ``skipped`` or ``failed``."""

    name: str
    before: object
    after: object
    outcome: str


# The first three of each event say where it happens: on a connection of `driver` to `peer`; `signals` may be told.


class PristineFetch(NamedTuple):
    """The value of one setting is read before the app first changes it. ``source``: driver, reported, server."""

    driver: str
    peer: ServerAddress
    signals: Signals
    setting: str
    source: str


class Reset(NamedTuple):
    """Settings go back to pristine. ``trigger``: close, pool_return, switch, requested.

    ``origins``: where they were set, as the locator marked it.
    """

    driver: str
    peer: ServerAddress
    signals: Signals
    trigger: str
    settings: tuple[str, ...]
    origins: tuple[object, ...] = ()


class Leak(NamedTuple):
    """A changed session returns to a pool, or continues with the next request, without a reset.

    ``pool``: the name of the pool, or an empty string; ``origins``: where the settings were set, as the locator marked
    it.
    """

    driver: str
    peer: ServerAddress
    signals: Signals
    settings: tuple[str, ...]
    pool: str = ""
    origins: tuple[object, ...] = ()


class Drift(NamedTuple):
    """Settings on the server have other values than those that are tracked: ``tracked``, or ``untracked`` ones."""

    driver: str
    peer: ServerAddress
    signals: Signals
    tracked: tuple[str, ...]
    untracked: tuple[str, ...]


class Transfer(NamedTuple):
    """Settings are applied to a new physical connection to `peer`."""

    driver: str
    peer: ServerAddress
    signals: Signals
    settings: tuple[str, ...]


class Failover(NamedTuple):
    """The physical connection to `peer` was lost, or is about to be replaced.

    ``trigger``: connection_lost, session_ended, demoted, requested, aws. `FailoverEnd` corrects what is known only at
    the end. ``waited``: seconds since the loss was noticed, where the event begins later than that.
    """

    driver: str
    peer: ServerAddress
    signals: Signals
    trigger: str
    transaction: str
    may_have_run: bool
    waited: float = 0.0


class Fetched(NamedTuple):
    """End of a `PristineFetch`."""

    value: object


class SettingsEnd(NamedTuple):
    """End of a `Reset` or a `Transfer`. ``lost``: the session had ended, and with it all that was to be reset."""

    changes: tuple[SettingChange, ...]
    handled_by: str
    round_trips: int
    not_restored: tuple[str, ...] = ()
    error: str | None = None
    lost: bool = False


class FailoverEnd(NamedTuple):
    """End of a `Failover`; `peer` is the new server or None, ``attempts`` the connections that were started.

    ``tried``: these by server and outcome; ``led_by``: where another connection looked for both, as it was marked.
    ``transaction``: what became of an unknown one, where that was found out, and whether it may have run.
    """

    outcome: str
    trigger: str
    peer: ServerAddress | None
    attempts: int
    error: str | None = None
    tried: tuple[Attempts, ...] = ()
    led_by: object = None
    transaction: str | None = None
    may_have_run: bool = True


Event = PristineFetch | Reset | Leak | Drift | Transfer | Failover
Outcome = Fetched | SettingsEnd | FailoverEnd
Finish = Callable[[Outcome | None, BaseException | None], None]
Listener = Callable[[Event], Finish | None]

Locator = Callable[[], object]
_SQLSTATE: Final = 5  # characters

_listeners: list[Listener] = []
_locators: list[Locator] = []


class Observation:
    """Call the listeners when an event begins and, on leaving, with its `outcome`, which is set before."""

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
    """Call `listener` for all events from now on. It must not raise."""
    _listeners.append(listener)


def unsubscribe(listener: Listener) -> None:
    """Stop calling `listener`."""
    _listeners.remove(listener)


def locate_with(locator: Locator | None) -> None:
    """Let `locator` mark where events happen; None turns this off. It must not raise."""
    _locators[:] = [] if locator is None else [locator]


def origin() -> object:
    """Return the mark of the current place in the app, or None without a locator."""
    return _locators[0]() if _locators else None


def error_type(error: BaseException) -> str:
    """Return what telemetry records of an error: its number or SQLSTATE, else the name of its class."""
    return _number(error) or _state(error) or type(error).__name__


def _number(error: BaseException) -> str | None:
    """The number that MySQL's drivers give: as an attribute, or only as the first argument: PEP 249 has none."""
    number = None if isinstance(error, OSError) else getattr(error, "errno", None)
    if number is None and error.args and any(kind.__name__ == "Error" for kind in type(error).__mro__):
        number = error.args[0]
    return str(number) if type(number) is int and number > 0 else None


def _state(error: BaseException) -> str | None:
    """Return the SQLSTATE, or SQLite's name of the error, which is no more than its number spelled out."""
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if isinstance(state, str) and len(state) == _SQLSTATE and state.isascii() and state.isalnum():
        return state
    name = getattr(error, "sqlite_errorname", None)
    return name if isinstance(name, str) else None
