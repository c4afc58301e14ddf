"""Read and set the settings of PostgreSQL sessions: generators over a `Channel`.

The texts are in ``databases/postgresql/questions.py``, the order of steps is the lifecycle's. Knows no driver: a
channel sends a text and yields what its driver waits for; a blocking driver yields nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Protocol, TypeVar

from instrumented_wrapper.databases.postgresql import questions
from instrumented_wrapper.databases.postgresql.questions import readable
from instrumented_wrapper.databases.postgresql.settings import IDENTITY
from instrumented_wrapper.databases.postgresql.state import CUSTOM, PREPARED
from instrumented_wrapper.drift import expected_settings
from instrumented_wrapper.drivers import Assigned, Refused
from instrumented_wrapper.drivers.server_session import Rows, Values
from instrumented_wrapper.drivers.server_session.reported_settings import ReportedSettings
from instrumented_wrapper.plans import Assignment, Difference, ServerAnswer
from instrumented_wrapper.savepoints import ANY

Result = TypeVar("Result")


class Channel(Protocol):
    """A connection, as far as it is talked with.

    Attributes:
        record: its session, with the ``functions`` of its database and those that were ``called``.
        error: the driver's ``Error``; one of the server's has a ``sqlstate`` or ``pgcode``.
    """

    record: Any
    error: type[Exception]

    def send(self, text: str) -> Generator[Any, Any, Rows]:
        """Send a text by the simple protocol and return the rows of its answers, one after the other."""

    def is_idle(self) -> bool:
        """Return True if no transaction is open."""

    def has_failed(self) -> bool:
        """Return True if the open transaction has failed."""

    def is_healthy(self) -> bool:
        """Return True if the physical connection exists."""

    def forget_prepared(self) -> None:
        """The server has no prepared statements any more."""

    def process(self) -> int:
        """Return the process that the connection was given at login."""


def query_settings(channel: Channel, names: Sequence[str]) -> Generator[Any, Any, Values]:
    """Query values outside a transaction."""
    rows = yield from channel.send(questions.query_settings(names))
    if rows:
        _look_for_pooler(channel, rows[0][2])
    return {names[int(str(place)) - 1]: readable(value) for place, value, _ in rows}


def show_settings(channel: Channel, names: Sequence[str]) -> Generator[Any, Any, Values]:
    """Query values within the app's transaction, which is not disturbed."""
    known = channel.record.on_server
    defaults = [n for n in names if ("." in n and not known.is_configured(n)) or known.is_masked(n)]
    try:
        rows = yield from channel.send(questions.show(names, defaults))
    except channel.error:
        if channel.has_failed():
            yield from channel.send(questions.NOTHING_SHOWN)
        raise
    return {name: row[0] or None if "." in name else row[0] for name, row in zip(names, rows, strict=True)}


def assign_settings(
    channel: Channel, assignments: Sequence[Assignment], clears: Sequence[str], back: bool
) -> Generator[Any, Any, Assigned | None]:
    """Clear state and give the server settings, in one round trip."""
    given = questions.ordered(assignments, back)
    text = questions.assign(given, clears, _process(channel))
    try:
        rows = yield from channel.send(text)
    except channel.error as error:
        if clears and _state_of(error) == questions.ELSEWHERE:
            _shared(channel)
            return None
        if not (channel.is_healthy() and given):
            raise
        raise Refused((yield from _which(channel, given)), error) from None  # its text quotes the value
    if PREPARED in clears:
        channel.forget_prepared()
    answers = [row for row in rows if len(row) == 3]
    if given and not answers:  # a session that is not ours sets nothing
        _shared(channel)
        return None
    before = {assignment.name: readable(row[1]) for assignment, row in zip(given, answers, strict=True)}
    return Assigned(before, frozenset((*before, *clears)))


def _which(channel: Channel, given: Sequence[Assignment]) -> Generator[Any, Any, str]:
    """Find out which setting was refused, one by one: the connection is not the app's, or is thrown away."""
    for assignment in given:
        try:
            yield from channel.send(questions.assign([assignment], (), None))
        except channel.error:
            return assignment.name
    return ", ".join(assignment.name for assignment in given)


def _state_of(error: BaseException) -> Any:
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)


def resync_settings(channel: Channel) -> Generator[Any, Any, Values]:
    """Query everything uncertain and update the session."""
    record = channel.record
    known = record.on_server
    everything = known.in_doubt_at_all
    names = tuple(dict.fromkeys((*known.names_in_doubt(), *(IDENTITY if everything else ()))))
    unknown = tuple(name for name in names if not known.has_pristine(name))
    functions = record.functions.not_asked(record.called) if everything else ()
    answer = yield from channel.send(questions.resync(names, unknown, functions, everything))
    rows = [[kind, *map(readable, cells)] for kind, *cells in answer]
    bodies = [
        (str(name), str(language), str(body)) for kind, name, language, body in rows if kind == questions.FUNCTION
    ]
    _look_for_pooler(channel, next(row[2] for row in rows if row[0] == questions.SESSION))
    settings = [row[1:] for row in rows if row[0] == questions.SETTING]
    defaults: Values = {
        str(n): default
        for n, _, default in settings
        if (default is not None or "." in str(n)) and not known.has_pristine(str(n))
    }
    left = tuple(str(row[1]) for row in rows if row[0] == questions.STATE) if everything else None
    record.apply_answer(ServerAnswer({str(n): value for n, value, _ in settings}, defaults), left)
    record.functions.learn(functions, bodies)
    _ask_further(record)
    return {name: default for name, default in defaults.items() if known.knows(name)}


def verify_settings(channel: Channel) -> Generator[Any, Any, tuple[Difference, ...] | None]:
    """Ask whether the settings are as they are tracked; None where this is not the time, or not the session, to ask."""
    if not channel.is_idle():
        return None
    expected = expected_settings(channel.record.on_server)
    try:
        answer = yield from channel.send(questions.verify(expected))
    except channel.error:
        if not channel.is_healthy():
            raise
        answer = yield from channel.send(questions.verify(expected, converted=False))
    rows = [[kind, *map(readable, cells)] for kind, *cells in answer]
    _look_for_pooler(channel, next(row[2] for row in rows if row[0] == questions.SESSION))
    return None if channel.record.shared else questions.differences(rows, expected)


def _ask_further(record: Any) -> None:
    """Query the functions that a function calls, and settings that its body names and no list shows."""
    known = record.on_server
    if record.functions.set_nameless(record.called):
        record.residual.add((CUSTOM,))
    for step in record.functions.doubts(record.called):
        if step.name and not known.knows(str(step.name)):
            known.doubts[str(step.name)] = str(step.value)
    if further := record.functions.not_asked(record.called):
        known.doubts[ANY] = further[0]
    else:
        record.called.clear()
    record.refresh_changed()


def _process(channel: Channel) -> int | None:
    """Return the connection's own process; None if the app says that the connection keeps its session."""
    return None if channel.record.options.pooler == "session" else channel.record.process or channel.process()


def _look_for_pooler(channel: Channel, process: str | None) -> None:
    expected = _process(channel)
    if expected is not None and process != str(expected):
        _shared(channel)


def _shared(channel: Channel) -> None:
    """Another process answered than the connection's own: a pooler is in between, which may lend it to others."""
    channel.record.shared, channel.record.process = True, None


class PostgreSQLSettings(ReportedSettings):
    """`SettingsClient` with PostgreSQL, on a channel that blocks."""

    def __init__(self, channel: Channel, *reported: Any) -> None:
        super().__init__(channel, *reported)
        self._channel = channel

    def query_settings(self, names: Sequence[str]) -> Values:
        return _to_end((query_settings if self._channel.is_idle() else show_settings)(self._channel, names))

    def assign(self, assignments: Sequence[Assignment], clears: Sequence[str], back: bool) -> Assigned | None:
        return _to_end(assign_settings(self._channel, assignments, clears, back))

    def resync(self) -> Values:
        return _to_end(resync_settings(self._channel))

    def verify(self) -> Any:
        return _to_end(verify_settings(self._channel))


def _to_end(gen: Generator[Any, Any, Result]) -> Result:
    """Run a generator over a channel that blocks: it yields nothing."""
    try:
        while True:
            next(gen)
    except StopIteration as end:
        result: Result = end.value
        return result
