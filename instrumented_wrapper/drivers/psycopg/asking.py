"""What psycopg's connections ask the server about its settings, and how they set them: generators, as psycopg's are.

The text is the database's (``databases/postgresql/questions.py``), the order of steps the lifecycle's. Nothing of it
passes a cursor, so that the app's adapters, row factories and prepared statements have no part in it.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from typing import Any, Final

import psycopg
from psycopg import pq

from instrumented_wrapper.databases.postgresql import questions
from instrumented_wrapper.databases.postgresql.questions import readable
from instrumented_wrapper.databases.postgresql.settings import IDENTITY
from instrumented_wrapper.databases.postgresql.state import CUSTOM
from instrumented_wrapper.drivers import Refused
from instrumented_wrapper.drivers.psycopg.parts import AsyncConnection, PrepareManager, execute
from instrumented_wrapper.drivers.psycopg.records import Record, encoding_of, record_of
from instrumented_wrapper.server_settings import ANY, Assignment, Told

__all__ = ["Asking", "fresh_prepared"]

logger = logging.getLogger("instrumented_wrapper")
Values = dict[str, str | None]
Rows = list[list[str | None]]
_IDLE, _INTRANS = pq.TransactionStatus.IDLE, pq.TransactionStatus.INTRANS
_FAILED: Final = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED)


_POOLER: Final = (
    "%s is a pooler: another process answers than the one that it announced. What SQL sets may land on the session of"
    " another client, so it is neither reset nor carried over there. If each client keeps its server session, say so:"
    " INSTRUMENTED_WRAPPER_POOLER=session"
)
_warned: set[str] = set()


class Asking:
    """The part of the driver that talks with the server about settings."""

    def waiting(self, connection: Any, gen: Any) -> Any:
        """Run a generator, alone on its connection. May wait."""
        if isinstance(connection, AsyncConnection):
            return _alone_async(connection, gen)
        with connection.lock:
            return connection.wait(gen)

    def is_shared(self, connection: Any) -> bool:
        """Tell whether a pooler is known to be in between, which lends the server session to others."""
        known = record_of(connection)
        return known is not None and known.shared

    def reported(self, connection: Any, names: Sequence[str]) -> dict[str, str]:
        """Return what libpq was told without asking."""
        known = record_of(connection)
        told = {n: known.reported(n) for n in names if known and not known.on_server.is_masked(n)}
        return {name: value for name, value in told.items() if value is not None}

    def notice(self, connection: Any) -> None:
        """Take what the server has reported of settings that no statement named: a trigger, a view has set them."""
        if (known := record_of(connection)) is not None:
            known.notice()

    def present(self, connection: Any, names: Sequence[str]) -> Any:
        """Ask for the values of settings."""
        if connection.pgconn.transaction_status == _IDLE:
            return self.waiting(connection, _present(connection, names))
        return self.waiting(connection, _shown(connection, names))

    def assign(
        self, connection: Any, assignments: Sequence[Assignment], clears: Sequence[str] = (), back: bool = False
    ) -> Any:
        """Clear state and give the server settings, in one round trip."""
        return self.waiting(connection, _assigned(connection, assignments, clears, back))

    def ask(self, connection: Any) -> Any:
        """Ask for all that is in doubt, and tell the session."""
        return self.waiting(connection, _asked(connection))


async def _alone_async(connection: Any, gen: Any) -> Any:
    async with connection.lock:
        return await connection.wait(gen)


def _send(connection: Any, text: str) -> Generator[Any, Any, Rows]:
    """Send a text by the simple protocol and return the rows of its answers, one after the other."""
    encoding = encoding_of(connection)
    connection.pgconn.send_query(text.encode(encoding))
    results = yield from execute(connection.pgconn)
    for result in results:
        if result.status in _FAILED:
            raise _without_values(result)
    return [row for result in results for row in _rows(result, encoding)]


def _without_values(result: Any) -> psycopg.Error:
    """Return the server's error without its text, which may quote what the app has set."""
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    error = type(psycopg.errors.error_from_result(result))(f"the server refused what keeps the session ({state})")
    error.sqlstate = state
    return error


def _rows(result: Any, encoding: str) -> Rows:
    cells = ([result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples))
    return [[None if cell is None else cell.decode(encoding, "surrogateescape") for cell in row] for row in cells]


def _present(connection: Any, names: Sequence[str]) -> Generator[Any, Any, Values]:
    rows = yield from _send(connection, questions.present(names))
    record: Any = record_of(connection)
    if rows:
        _look_for_pooler(connection, record, rows[0][2])
    return {names[int(str(place)) - 1]: readable(value) for place, value, _ in rows}


def _shown(connection: Any, names: Sequence[str]) -> Generator[Any, Any, Values]:
    """Ask within the app's transaction, which must go on as if nothing had been asked."""
    record: Any = record_of(connection)
    known = record.on_server
    defaults = [n for n in names if ("." in n and not known.is_configured(n)) or known.is_masked(n)]
    try:
        rows = yield from _send(connection, questions.show(names, defaults))
    except psycopg.Error:
        if connection.pgconn.transaction_status == pq.TransactionStatus.INERROR:
            yield from _send(connection, questions.NOTHING_SHOWN)
        raise
    return {name: row[0] or None if "." in name else row[0] for name, row in zip(names, rows, strict=True)}


def _assigned(
    connection: Any, assignments: Sequence[Assignment], clears: Sequence[str], back: bool
) -> Generator[Any, Any, Values | None]:
    record: Any = record_of(connection)
    given = questions.ordered(assignments, back)
    text = questions.assign(given, clears, _process(connection, record))
    try:
        rows = yield from _send(connection, text)
    except psycopg.Error as error:
        if clears and error.sqlstate == questions.ELSEWHERE:
            _shared(connection, record)
            return None
        if connection.pgconn.status != pq.ConnStatus.OK or len(given) == 0:
            raise
        raise Refused((yield from _which(connection, given)), error) from error
    if "prepared statements" in clears:
        connection._prepared = fresh_prepared(connection._prepared)
    answers = [row for row in rows if len(row) == 3]
    if given and not answers:  # a session that is not ours sets nothing
        _shared(connection, record)
        return None
    return {assignment.name: readable(row[1]) for assignment, row in zip(given, answers, strict=True)}


def _which(connection: Any, given: Sequence[Assignment]) -> Generator[Any, Any, str]:
    """Find out which setting was refused, one by one: the connection is not the app's, or is thrown away."""
    for assignment in given:
        try:
            yield from _send(connection, questions.assign([assignment], (), None))
        except psycopg.Error:
            return assignment.name
    return ", ".join(assignment.name for assignment in given)


def _asked(connection: Any) -> Generator[Any, Any, Values]:
    record: Any = record_of(connection)
    known = record.on_server
    everything = known.in_doubt_at_all
    names = tuple(dict.fromkeys((*known.names_in_doubt(), *(IDENTITY if everything else ()))))
    unknown = tuple(name for name in names if not known.has_pristine(name))
    functions = record.functions.not_asked(record.called) if everything else ()
    answer = yield from _send(connection, questions.ask(names, unknown, functions, everything))
    rows = [[kind, *map(readable, cells)] for kind, *cells in answer]
    bodies = [
        (str(name), str(language), str(body)) for kind, name, language, body in rows if kind == questions.FUNCTION
    ]
    _look_for_pooler(connection, record, next(row[2] for row in rows if row[0] == questions.SESSION))
    settings = [row[1:] for row in rows if row[0] == questions.SETTING]
    defaults: Values = {
        str(n): default
        for n, _, default in settings
        if (default is not None or "." in str(n)) and not known.has_pristine(str(n))
    }
    left = tuple(str(row[1]) for row in rows if row[0] == questions.STATE) if everything else None
    record.told(Told({str(n): value for n, value, _ in settings}, defaults), left)
    record.functions.learn(functions, bodies)
    _ask_further(record)
    return {name: default for name, default in defaults.items() if known.knows(name)}


def _ask_further(record: Record) -> None:
    """A function may call others, which are asked about next, or its body name a setting that no list shows."""
    known = record.on_server
    if record.functions.set_nameless(record.called):
        record.left[CUSTOM] = None
    for step in record.functions.doubts(record.called):
        if step.name and not known.knows(str(step.name)):
            known.doubts[str(step.name)] = str(step.value)
    if further := record.functions.not_asked(record.called):
        known.doubts[ANY] = further[0]
    else:
        record.called.clear()
    record.refresh_changed()


def _process(connection: Any, record: Record) -> int | None:
    """Return the process that the connection was told of; None where the app says that it keeps its session."""
    return None if record.options.pooler == "session" else connection.pgconn.backend_pid


def _look_for_pooler(connection: Any, record: Record, process: str | None) -> None:
    announced = _process(connection, record)
    if announced is not None and process != str(announced):
        _shared(connection, record)


def _shared(connection: Any, record: Record) -> None:
    """Another process answered than the one that the connection was told of: a pooler is in between."""
    record.shared = True
    place = f"{connection.pgconn.host.decode()}:{connection.pgconn.port.decode()}"
    if place not in _warned:
        _warned.add(place)
        logger.warning(_POOLER, place)


def fresh_prepared(old: PrepareManager) -> PrepareManager:
    """No statement is prepared in a new session; how many may be stays."""
    new = PrepareManager()
    new.prepare_threshold, new.prepared_max = old.prepare_threshold, old.prepared_max
    return new
