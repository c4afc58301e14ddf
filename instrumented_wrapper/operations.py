"""Operations of a database client: what a statement's text says, where it goes, and who records it.

Pure: knows neither a driver, a database nor OpenTelemetry. Operations are frequent, unlike the events of a session:
nothing is created without a listener, and spans of one text at one site share a template.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

_HUGE = 65_536  # characters


class Place(Protocol):
    """A connection that operations go through, and that may be moved to another server."""

    generation: int

    def site(self) -> Site:
        """Return the site of its present server."""


class Survival(NamedTuple):
    """Whether a session would survive a loss of its physical connection at this moment.

    Attributes:
        system: the database, as OpenTelemetry names it.
        driver: the name of the driver.
        reason: what keeps it from surviving; ``none`` if it would survive.
    """

    system: str
    driver: str
    reason: str


class Words(NamedTuple):
    """Describe a statement by its text, without any value.

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


def bounded_put(known: dict[Key, Value], key: Key, value: Value, most: int) -> Value:
    """Store `value` in `known`, in place of the oldest one if there are `most` already; return `value`.

    A very long text, such as a dump, is not stored: it is rarely sent twice and would fill the memory.
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
    """Return the text of a statement for telemetry, or None.

    Args:
        words: the summary of the statement.
        written: the text as the app wrote it.
        bound: the statement has parameters, and all of them are bound.
        query_text: the option: ``auto``, ``sanitized`` or ``off``.
    """
    if query_text == "off":
        return None
    return written if bound and words.showable and query_text == "auto" else words.text


class Site(NamedTuple):
    """Where operations go: database system, namespace, the server as the app names it, the connected node."""

    system: str
    namespace: str
    address: str
    port: int | None
    peer_address: str = ""
    peer_port: int | None = None


Key = TypeVar("Key")
Value = TypeVar("Value")
SpanTemplate = Any  # of the spans of one text at one site: the listener's own


class Operation(Protocol):
    """An operation that has begun."""

    def end(self, error: BaseException | None = None) -> None:
        """End it, with the error that it raised if there is one."""

    def pause(self) -> None:
        """Leave its span until it is resumed or ends: what the app does meanwhile is not below it."""

    def resumed(self) -> AbstractContextManager[None]:
        """Make its span the current one again while inside."""

    def hold(self) -> bool:
        """Record its duration and leave its span open for later pages; return False if it has no span."""

    def complete(self, pages: int, seconds: float, ended: int, error: BaseException | None = None) -> None:
        """End an open span: `pages` followed and took `seconds` in all; the last one ended at `ended`."""


class SpanTemplates(Protocol):
    """Templates of the spans of operations at one site, by what identifies a text.

    Attributes:
        query_text: the option of that name.
        bound: templates of statements that have parameters.
        bare: templates of those that have none.
    """

    query_text: str
    bound: dict[Hashable, SpanTemplate]
    bare: dict[Hashable, SpanTemplate]

    def template(self, words: Words, text: str | None = None, size: int | None = None) -> SpanTemplate:
        """Make a template.

        Args:
            words: what the statement says.
            text: the text to be shown; None for none.
            size: of a batch, how many sets of parameters it has (-1: unknown); None where it is no batch.
        """

    def put(self, known: dict[Hashable, SpanTemplate], key: Hashable, words: Words, text: str | None) -> SpanTemplate:
        """Create a template and store it in `known` (`bound` or `bare`)."""


class Operations(Protocol):
    """Record operations of database clients.

    Attributes:
        nobody: returns True if nobody ever listens, for all that is known now. Costs next to nothing.
    """

    nobody: Callable[[], bool]

    def listens(self) -> bool:
        """Return True if there is a listener here and now. Cheap if there is none."""

    def templates_at(self, site: Site, without: tuple[str, ...] = (), query_text: str = "auto") -> SpanTemplates:
        """Return the span templates at `site`.

        Args:
            site: where the operations go.
            without: ``namespace``, ``summary``: attributes that metrics omit.
            query_text: the option of that name: which texts are shown.
        """

    def begin(
        self, template: SpanTemplate, traces: bool, metrics: bool, started: int, place: Place | None = None
    ) -> Operation | None:
        """Begin an operation at `started` (`time.time_ns`); return None if it is not recorded.

        `place`: if it moves meanwhile and the operation succeeds, the span names the server where it ended.
        """

    def is_instrumented(self, driver: str) -> bool:
        """Return True if another instrumentation of `driver` makes spans of its statements already."""

    def is_measured(self, driver: str) -> bool:
        """Return True if it also records how long they take."""

    def within_recorded(self) -> bool:
        """Return True if the current span is recorded."""


class PoolState(NamedTuple):
    """State of a pool: idle and used connections, the fewest and the most that it holds, requests that wait."""

    idle: int
    used: int
    least: int | None
    most: int | None
    waiting: int


class Pools(Protocol):
    """Record connection pools, by their names; times in seconds. Nothing here raises."""

    def listens(self) -> bool:
        """Return True if somebody listens."""

    def watch(self, pool: object, name: str, state: Callable[[Any], PoolState | None]) -> None:
        """Observe the state of `pool` as long as it lives; `state` returns None where there is nothing to record."""

    def waited(self, name: str, seconds: float) -> None:
        """Record how long a checkout took."""

    def timed_out(self, name: str) -> None:
        """Record a checkout that found no connection in time."""

    def used(self, name: str, seconds: float) -> None:
        """Record how long a connection was checked out, at its check-in."""

    def created(self, name: str, seconds: float) -> None:
        """Record how long it took to make a connection for the pool."""
