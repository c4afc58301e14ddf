"""One room per driver. `Driver` is all that the lifecycle asks of one; a new driver implements it and nothing else.

A call that may wait returns a value on a sync connection and an awaitable on an async one; the lifecycle yields such
calls to its runner.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeVar

from instrumented_wrapper.errors import Address, FailoverError
from instrumented_wrapper.events import ServerAddress
from instrumented_wrapper.failover import Attempts, Loss
from instrumented_wrapper.operations import Operations, Pools
from instrumented_wrapper.plans import Assignment
from instrumented_wrapper.session import Session

Result = TypeVar("Result")
Flow = Generator[Callable[[], Any], Any, Result]


@dataclass(slots=True)
class Replacement:
    """A new physical connection, in a connection object of the driver's own class that the app never sees."""

    connection: Any
    address: Address
    attempts: int
    tried: tuple[Attempts, ...] = ()
    led_by: object = None


class Assigned(NamedTuple):
    """The outcome of `Driver.assign`. What is in neither `done` nor `own` has failed: nothing is done by default.

    Attributes:
        before: the value of each setting before, by name; empty on the way back.
        done: names of the settings that were given and of the state that was cleared.
        own: names of settings that no session can be given: their values are the server's own.
        errors: the error of the server for settings that it refused.
    """

    before: Mapping[str, str | None]
    done: frozenset[str]
    own: frozenset[str] = frozenset()
    errors: Mapping[str, Exception] = MappingProxyType({})

    def outcome(self, name: str, done: str) -> str:
        """Return the outcome of one entry of a plan; `done` where it was carried out."""
        return done if name in self.done else "skipped" if name in self.own else "failed"


class Probe(NamedTuple):
    """A bare connection of the wrapper's own to a server; nobody else uses it, and nothing of it is observed.

    Attributes:
        session: an object of the driver, or of its client library.
        descriptor: its socket, where the driver exposes it.
    """

    session: Any
    descriptor: int | None


class NoAnswer(Exception):
    """A server did not answer a probe in time."""


class Refused(Exception):
    """The server refused a setting.

    Attributes:
        setting: its name.
        cause: the driver's error.
    """

    def __init__(self, setting: str, cause: Exception) -> None:
        super().__init__(setting)
        self.setting, self.cause = setting, cause


class Driver(Protocol):
    """What the lifecycle asks of a driver. `connection` is always the driver's own object."""

    name: str

    @property
    def settings(self) -> Sequence[str]:
        """The names of the settings that the driver itself keeps."""

    @property
    def within(self) -> Driver:
        """The same driver for calls within one of its own operations, where waiting is that operation's affair."""

    @property
    def operational_error(self) -> type[Exception]:
        """The driver's ``OperationalError``."""

    @property
    def raises(self) -> tuple[type[Exception], ...]:
        """All that the driver's calls raise: also what is no DB-API error."""

    @property
    def error_number(self) -> int | None:
        """What stands before the text in an error of ours, where the driver's have a number there; None: nothing."""

    def loss_attributes(self, cause: BaseException | None) -> Mapping[str, Any]:
        """Return the attributes by which pools see that an error ends the connection. `cause`: what ended it."""

    def owns(self, connection: object) -> bool:
        """Tell whether it is a connection of this driver."""

    def session_of(self, connection: object) -> Session | None:
        """Return the session behind a connection that is watched."""

    def peer(self, connection: object) -> ServerAddress:
        """Return the server of the present physical connection, without asking it."""

    def is_async(self, connection: object) -> bool:
        """Tell whether calls on it are awaited."""

    def read(self, connection: object, setting: str) -> Any:
        """Return the present value of a client-side setting."""

    def write(self, connection: object, setting: str, value: object) -> None:
        """Set a client-side setting, without a round trip and unrecorded."""

    def reported(self, connection: object, names: Sequence[str]) -> dict[str, str]:
        """Return the values of those server-side settings that the server reports unasked."""

    def apply_reports(self, connection: object, will_resync: bool = False) -> None:
        """Tell the session what the server has reported, unasked, of settings that no statement named.

        `will_resync`: all that is in doubt is asked next, so what no answer had room to report is doubted, too.
        """

    def query_settings(self, connection: object, names: Sequence[str]) -> Any:
        """Ask the server for the values of settings, and return them by name. May wait.

        Within a transaction that does no more than a SHOW does: no snapshot is taken, nothing fails.
        """

    def assign(
        self, connection: object, assignments: Sequence[Assignment], clears: Sequence[str] = (), back: bool = False
    ) -> Any:
        """Clear state, then give the server settings, in one round trip. May wait.

        `back`: to the baseline, so that who the session is comes first.

        Returns an `Assigned`; None where the server session is not the connection's own.

        Raises:
            Refused: the server refused a value.
        """

    def resync(self, connection: object) -> Any:
        """Ask the server for all that is in doubt, once, and tell the session. May wait.

        Returns the settings of which the pristine value was found, with that value.
        """

    def verify(self, connection: object) -> Any:
        """Ask the server for all that is tracked, outside a transaction. Changes nothing. May wait.

        Returns the `Difference` of each setting whose value there is another one; None where this is not the time, or
        not the session, to ask.
        """

    def query(self, connection: object, text: str) -> Any:
        """Send a text, past all that is patched, and return its rows as text. May wait."""

    def detect_pooler(self, connection: object, like: object, deadline: float) -> Flow[bool]:
        """Find out whether a pooler keeps the server session for `connection`, which is then not shared any more.

        `like`: the app's connection, which tells how to make another one.
        """

    def is_shared(self, connection: object) -> bool:
        """Tell whether other clients use the same server session between our transactions (a pooler)."""

    def is_idle(self, connection: object) -> bool:
        """Tell whether it is healthy, with no transaction open and nothing under way."""

    def is_lost(self, connection: object, error: BaseException | None = None) -> bool:
        """Return True if the physical connection is known to have ended, by what the driver has just raised too."""

    def is_in_transaction(self, connection: object) -> bool:
        """Return True if a transaction is open, also an aborted one. Sends nothing."""

    def roll_back(self, connection: object) -> Any:
        """Roll back as the app does. May wait."""

    def is_closed(self, connection: object) -> bool:
        """Return True if the app has closed it, or it has ended. Sends nothing."""

    def wants_reset(self, connection: object) -> bool:
        """Return True if a close or a return to a pool has something to reset. Sends nothing."""

    def returning(self, connection: object, deadline: float | None = None) -> AbstractContextManager[None]:
        """While inside, a pool takes the connection back: nothing is switched, and waits end at `deadline`, if any."""

    def silence(self, connection: object) -> None:
        """In a forked child: give up the socket of a connection, so that its end sends nothing to the server."""

    def end(self, connection: object) -> None:
        """End the physical connection of a connection that its pool must discard."""

    def open_probe(self, connection: object, address: Address, seconds: float) -> Flow[Probe | None]:
        """Log in to a server as `connection` has; None where the server answers, but refuses the login.

        Raises:
            NoAnswer: it does not within so many seconds.
        """

    def ask_probe(self, probe: Probe, seconds: float) -> Flow[None]:
        """Have the server execute a statement that does nothing; that it refuses it is an answer, too.

        Raises:
            NoAnswer: it does not answer within so many seconds.
        """

    def end_probe(self, probe: Probe) -> None:
        """End the session of a probe."""

    def finish_work(self, connection: object) -> Any:
        """Commit what a handler left open. May wait."""

    def replacement(self, connection: object, loss: Loss, deadline: float) -> Flow[Replacement]:
        """Open a new physical connection at its baseline.

        Raises:
            NoServer: none took over until `deadline` (monotonic seconds).
        """

    def pause(self, connection: object, seconds: float) -> Flow[None]:
        """Wait before a server is asked again.

        Raises:
            ClosedMeanwhile: the app closed its object.
        """

    def abort_transaction(self, replacement: Replacement) -> Any:
        """Leave the new session in an aborted transaction. May wait."""

    def graft(self, connection: object, replacement: Replacement) -> None:
        """Put the new physical connection under the app's object, and the old one under the replacement's.

        Raises:
            ClosedMeanwhile: the app closed its object.
        """

    def abandon(self, connection: object) -> None:
        """Close the app's object for good."""

    def discard(self, replacement: Replacement) -> None:
        """Close the physical connection that the replacement's object has."""

    def check_outside_transaction(self, connection: object, verb: str) -> None:
        """Raise the driver's ``ProgrammingError`` naming `verb` where a transaction is open."""

    def lock(self, connection: object) -> Any:
        """Return what keeps others from using it meanwhile, for ``with`` or ``async with``."""

    def unobserved(self, connection: object, deadline: float) -> AbstractContextManager[None]:
        """While inside, changes are not recorded, nothing is switched, and waits end at `deadline`."""


class Flows(Protocol):
    """What a driver's seams ask for: the steps of the lifecycle, handed in so that no driver knows it."""

    @property
    def operations(self) -> Operations:
        """Who is told of the app's operations."""

    @property
    def pools(self) -> Pools:
        """Who is told of connection pools."""

    def run(self, flow: Flow[Result], /) -> Result:
        """Carry out a flow on a sync connection."""

    async def run_async(self, flow: Flow[Result], /) -> Result:
        """Carry out a flow on an async connection."""

    def note_change(self, driver: Driver, connection: object, session: Session, setting: str, /) -> None:
        """Read the pristine value of a setting, once, before it is changed."""

    def run_within(self, flow: Flow[Result], /) -> Any:
        """Carry out a flow within a driver's own generator; return a generator."""

    def note_changes(self, driver: Driver, connection: object, session: Session, names: Sequence[str], /) -> Flow[None]:
        """Read the pristine values of server-side settings before they are changed."""

    def settle_doubts(self, driver: Driver, connection: object, session: Session, /) -> Flow[None]:
        """Ask the server what it alone can tell."""

    def reset(self, driver: Driver, connection: object, session: Session, trigger: str, /) -> Flow[bool]:
        """Bring what was changed back to pristine; False if that failed."""

    def reset_by_pool(
        self, driver: Driver, connection: object, session: Session, ended: type[Exception], /
    ) -> AbstractContextManager[None]:
        """While inside, a pool resets the session by itself; `ended` is raised inside where the session has ended."""

    def report_leak(self, driver: Driver, connection: object, session: Session, pool: str, /) -> Flow[None]:
        """Report what a session leaves to the next user of its connection."""

    def to_reset(self, driver: Driver, connection: object, session: Session, /) -> Flow[tuple[str, ...]]:
        """Return the names of what a reset would reset."""

    def replace_lost(
        self, driver: Driver, connection: object, session: Session, loss: Loss, seconds: float | None, /
    ) -> Flow[FailoverError | None]:
        """Replace a lost physical connection; return what the app must be told."""

    def observe_loss(self, driver: Driver, connection: object, session: Session, loss: Loss, /) -> None:
        """Tell of a loss that is not repaired."""

    def lost_session(self, session: Session, loss: Loss, /) -> Any:
        """Return what is known of a loss that a package over the driver repairs."""

    def ask_before(self, driver: Driver, connection: object, session: Session, /) -> Flow[None]:
        """Ask what only the server can tell, before the session leaves a connection that is healthy."""

    def carry_over(
        self, driver: Driver, old: object, source: Session, new: object, target: Session, lost: Any, attempts: int, /
    ) -> Flow[None]:
        """Bring the session of a connection to the values of the one that it replaces."""

    def observe_unrepaired(self, driver: Driver, connection: object, session: Session, lost: Any, /) -> None:
        """Report a loss after which a package over the driver has not replaced the connection."""
