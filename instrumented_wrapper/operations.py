"""Operations of a database client as data: what a statement's text says, where it goes, and who is told of it.

Pure: knows neither a driver, a database nor OpenTelemetry. Unlike the events of a session, operations are frequent:
who listens is asked first, and what is told of one text at one site is put together once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from instrumented_wrapper.options import Options

__all__ = [
    "AtSite",
    "Operation",
    "Operations",
    "Place",
    "PoolState",
    "Pools",
    "Site",
    "Told",
    "Words",
    "attention",
    "has_parameters",
    "kept",
    "shown_text",
]

_HUGE = 65_536  # characters


class Place(Protocol):
    """What operations are sent through: a connection, which may be moved to another server."""

    moves: int

    def site(self) -> Site:
        """Return where it leads now."""


class Words(NamedTuple):
    """What the text of a statement says, without any value.

    Attributes:
        summary: operations and their targets in their order (``SELECT songs artists``); empty where nothing is known.
        text: the text with its literals replaced by ``?``; None where these cannot be told from the rest.
        operation: the operation, where the text is of a kind that has only one (``COPY``), else empty.
        collection: the table, where the operation has only one, else empty.
        procedure: the procedure of a ``CALL``, else empty.
        showable: whether the text may be shown as written where parameters are bound: it has a place for one, and no
            statement of it may carry credentials.
    """

    summary: str
    text: str | None = None
    operation: str = ""
    collection: str = ""
    procedure: str = ""
    showable: bool = False


def kept(known: dict[Key, Value], key: Key, value: Value, most: int) -> Value:
    """Keep `value` in `known`, in place of the oldest one where there are too many; return it.

    What belongs to a text of a whole dump is not kept: it is hardly sent twice, and would fill the memory.
    """
    if isinstance(key, (str, bytes)) and len(key) > _HUGE:
        return value
    if len(known) >= most:
        known.pop(next(iter(known)), None)
    known[key] = value
    return value


def has_parameters(given: Any) -> bool:
    """Return whether `given`, the parameters of a statement, has any: ``None``, ``()`` and ``{}`` bind nothing."""
    if given is None:
        return False
    try:
        return len(given) > 0
    except TypeError:
        return True  # one value: PyMySQL and mysqlclient take it


def shown_text(words: Words, written: str, bound: bool, query_text: str) -> str | None:
    """Return the text of a statement as telemetry may show it, None for no text.

    Args:
        words: what the statement says.
        written: its text as the app wrote it.
        bound: whether it has parameters, all of them bound.
        query_text: the option: ``auto``, ``sanitized`` or ``off``.
    """
    if query_text == "off":
        return None
    return written if bound and words.showable and query_text == "auto" else words.text


class Site(NamedTuple):
    """Where operations go: database system, namespace, the server as the app knows it, the node really contacted."""

    system: str
    namespace: str
    address: str
    port: int | None
    peer_address: str = ""
    peer_port: int | None = None


Key = TypeVar("Key")
Value = TypeVar("Value")
Told = Any  # what is told of one text at one site: the listener's own


class Operation(Protocol):
    """An operation that has begun."""

    def end(self, error: BaseException | None = None) -> None:
        """Tell that it is over, and with which error."""

    def pause(self) -> None:
        """Until it is resumed or ends, what happens is not part of it: the app goes on meanwhile."""

    def resumed(self) -> AbstractContextManager[None]:
        """While inside, what happens belongs to it; it goes on."""

    def hold(self) -> bool:
        """Record its duration and leave its span open for later pages; return False if it has no span."""

    def complete(self, pages: int, seconds: float, ended: int, error: BaseException | None = None) -> None:
        """End a span that was left open: `pages` followed, took `seconds` together; the last one ended at `ended`."""


class AtSite(Protocol):
    """What is told of operations at one site, kept by what identifies a text: with parameters, and without.

    Attributes:
        query_text: the option of that name.
        bound: what is told of statements that have parameters.
        bare: what is told of those that have none.
    """

    query_text: str
    bound: dict[Hashable, Told]
    bare: dict[Hashable, Told]

    def describe(self, words: Words, text: str | None = None, size: int | None = None) -> Told:
        """Put together what is told.

        Args:
            words: what the statement says.
            text: the text to be shown; None for none.
            size: of a batch, how many sets of parameters it has (-1: unknown); None where it is no batch.
        """

    def keep(self, known: dict[Hashable, Told], key: Hashable, words: Words, text: str | None) -> Told:
        """Put together what is told, and keep it for the next time."""


class Operations(Protocol):
    """Who is told of operations.

    Attributes:
        nobody: tells whether nobody ever listens, for all that is known now. Costs next to nothing.
    """

    nobody: Callable[[], bool]

    def listens(self) -> bool:
        """Tell whether anybody does, here and now. Costs next to nothing where there is nobody."""

    def at(self, site: Site, without: tuple[str, ...] = (), query_text: str = "auto") -> AtSite:
        """Return what is told of operations at `site`.

        Args:
            site: where they go.
            without: ``namespace``, ``summary``: what is left out of metrics.
            query_text: which texts are shown, as the option of that name says.
        """

    def begin(
        self, told: Any, traces: bool, metrics: bool, started: int, place: Place | None = None
    ) -> Operation | None:
        """Tell that an operation began at `started` (`time.time_ns`); None where nobody wants to know of this one.

        `place`: one that is moved meanwhile, and succeeds, is told to have been where it ended.
        """

    def has_rival(self, driver: str) -> bool:
        """Tell whether another instrumentation of `driver` tells of its statements already."""

    def rival_measures(self, driver: str) -> bool:
        """Return True if it also records how long they take."""

    def within_recorded(self) -> bool:
        """Tell whether this happens within something that is recorded."""


def attention(operations: Operations, driver: str, options: Options) -> tuple[bool, bool]:
    """Return whether operations on a new connection have spans, and whether telemetry listens to them at all.

    Another instrumentation of the driver makes the spans, and records the durations too if it does so.
    """
    alone = options.query_spans == "on" or not operations.has_rival(driver)
    spans = options.traces and alone
    measured = options.metrics and (alone or not operations.rival_measures(driver))
    return spans, options.query_spans != "off" and (spans or measured)


class PoolState(NamedTuple):
    """What a pool has: idle and used connections, the fewest and the most that it keeps, requests that wait."""

    idle: int
    used: int
    least: int
    most: int | None
    waiting: int


class Pools(Protocol):
    """Who is told of connection pools, by their names; times in seconds. Nothing here raises."""

    def listens(self) -> bool:
        """Tell whether anybody does."""

    def watch(self, pool: Any, name: str, state: Callable[[Any], PoolState | None]) -> None:
        """Ask `pool` for its state from now on, as long as it lives; None: there is nothing to tell."""

    def waited(self, name: str, seconds: float) -> None:
        """The pool handed a connection out."""

    def timed_out(self, name: str) -> None:
        """The pool had no connection in time."""

    def used(self, name: str, seconds: float) -> None:
        """A connection came back."""

    def created(self, name: str, seconds: float) -> None:
        """The pool made a connection."""
