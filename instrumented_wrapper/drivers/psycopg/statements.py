"""Every statement on its way out: what it does to the session is read from its text, once per text.

Two seams see it. `starting`, before anything is sent, reads the pristine values of the settings that it will change;
`converting`, with the parameters at hand, notes what it does. A plain statement costs two look-ups in a dictionary.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import psycopg
from psycopg import pq

from instrumented_wrapper.databases.postgresql.settings import boolean, is_state
from instrumented_wrapper.databases.postgresql.state import CUSTOM
from instrumented_wrapper.databases.postgresql.tokens import folded
from instrumented_wrapper.drivers import Driver, Flows
from instrumented_wrapper.drivers.engine import decisions
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.engine.statement_cache import UNSEEN
from instrumented_wrapper.drivers.psycopg import steps
from instrumented_wrapper.drivers.psycopg.baseline import is_before_the_app
from instrumented_wrapper.drivers.psycopg.generator_spans import implicit_begin
from instrumented_wrapper.drivers.psycopg.query_text import EFFECTS, effects_of, named, readable, sent_text
from instrumented_wrapper.drivers.psycopg.records import Record, encoding_of, record_of
from instrumented_wrapper.drivers.server_session import commits
from instrumented_wrapper.drivers.server_session.reported_settings import with_calls
from instrumented_wrapper.statement import DOUBT, SET_LOCAL, Effects, Named, Placeholder, Step

Method = Callable[..., Any]
_QUIET: Final = (int(pq.TransactionStatus.IDLE), int(pq.TransactionStatus.INTRANS))
_TEXTS: Final = (0, 25, 1043)  # types of parameters whose text is the value: unknown, text, varchar
_BOOLEAN: Final = 16


_OPAQUE: Final = object()  # a parameter whose text is not what the server takes for the value


# --- before it is sent ------------------------------------------------------------------------------------------


def starting(driver: Driver, flows: Flows) -> Callable[[Method], Method]:
    """``BaseCursor._start_query``: the beginning of every statement, before psycopg's own BEGIN."""
    known = EFFECTS.known

    def make(original: Method) -> Method:
        @functools.wraps(original)
        def _start_query(self: Any, query: object = None) -> Any:
            if type(query) is str and known.get(query, UNSEEN) is None:
                return original(self, query)
            effects = effects_of(query if type(query) is str else sent_text(self, query))
            if effects is not None and effects.outcome_unknown_if_lost and (record := record_of(self._conn)):
                record.position = None
                if decisions.reads_position(record, effects):
                    return _position_first(driver, flows, self._conn, record, effects, original(self, query))
            if effects is None or not effects.sets:
                return original(self, query)
            given = sys._getframe(1).f_locals
            return _read_first(driver, flows, self, effects, given, original(self, query))

        return _start_query

    return make


def _position_first(driver: Driver, flows: Flows, connection: Any, record: Record, effects: Effects, go_on: Any) -> Any:
    """Read where the transaction is, by which the outcome of its COMMIT can be found out; then go on."""
    record.position = yield from _position(driver, flows, connection, record, effects)
    return (yield from go_on)


def _position(driver: Driver, flows: Flows, connection: Any, record: Record, effects: Effects) -> Any:
    """Return where the transaction is; None where none is open, or a pipeline brings the answer too late."""
    if connection._pipeline is not None or connection.pgconn.transaction_status != TransactionStatus.INTRANS:
        return None
    flow = commits.read_position(driver.within, connection, record, decisions.begins_next(effects))
    return (yield from _unless_interrupted(flows.run_within(flow)))


def _read_first(
    driver: Driver, flows: Flows, cursor: Any, effects: Effects, given: Mapping[str, Any], go_on: Any
) -> Any:
    """Read the pristine values of what will be changed, then go on."""
    connection = cursor._conn
    record = record_of(connection)
    if record is not None and not cursor.closed and _disturbs_nothing(connection):
        record.configuring = is_before_the_app(connection, record)
        names = decisions.unread(record, tuple(named(step, given) for step in effects.steps))
        if names:
            flow = flows.note_changes(driver.within, connection, record, names)
            yield from _unless_interrupted(read_pristine(connection, names, flows.run_within(flow)))
    yield from go_on


def _disturbs_nothing(connection: Any) -> bool:
    """Return True if the server can be queried now."""
    return connection._pipeline is None and connection.pgconn.transaction_status in _QUIET


def read_pristine(connection: Any, names: Sequence[str], question: Any) -> Any:
    """Query before the statement is sent; `steps` recognises an error in here by the name of this function."""
    try:
        yield from question
    except psycopg.errors.QueryCanceled as error:
        if "statement_timeout" not in names or _is_interrupted(error):  # else it may be the way out of a short one
            raise
    except (psycopg.Error, ValueError):
        if connection.pgconn.status == pq.ConnStatus.BAD:
            raise
        # It is asked again after the statement: a value that cannot be read now does not keep the app from setting it.


def _unless_interrupted(question: Any) -> Any:
    """Query, and end the step there if the app was interrupted meanwhile (Ctrl-C, a task that is cancelled).

    psycopg then reads a step to its end, as the handler of that exception: nothing more may be sent.

    Raises:
        QueryCanceled: it was; psycopg expects this one.
    """
    handled = sys.exc_info()[1]
    answer = yield from question
    if sys.exc_info()[1] is not handled:
        raise psycopg.errors.QueryCanceled("interrupted before the statement was sent")
    return answer


def _is_interrupted(error: BaseException) -> bool:
    """Return True if the answer is read only because the app was interrupted (Ctrl-C, a task that is cancelled)."""
    return error.__context__ is not None and not isinstance(error.__context__, Exception)


# --- on its way -------------------------------------------------------------------------------------------------


def converting(original: Method) -> Method:
    """``BaseCursor._convert_query``: every statement of the app passes here with its parameters."""
    known = EFFECTS.known

    @functools.wraps(original)
    def _convert_query(self: Any, query: Any, params: Any = None) -> Any:
        if type(query) is str and known.get(query, UNSEEN) is None:
            return original(self, query, params)
        converted = original(self, query, params)
        if not isinstance(converted.query, bytes):
            return converted  # psycopg says what is wrong with it
        text = query if type(query) is str else readable(self._conn, converted.query)
        effects: Any = known.get(text, UNSEEN)
        if effects is None:
            return converted
        if params is not None and type(query) is str and "%%" in query:
            effects = effects_of(readable(self._conn, converted.query))
        if effects is UNSEEN:
            effects = effects_of(text)
        record = record_of(self._conn) if effects is not None else None
        if record is not None and effects.calls:
            effects = with_calls(record, effects)
        if record is not None and effects is not None and effects.outcome_unknown_if_lost and record.position:
            effects, record.position = replace(effects, position=record.position), None
        if record is not None and effects is not None:
            steps.note(
                record, _exact(self, record, effects, converted) if effects.sets or effects.concerns_state else effects
            )
        return converted

    return _convert_query


def _exact(cursor: Any, record: Record, effects: Effects, converted: Any) -> Effects:
    """Return the effects with the parameters in them, and where they come from."""
    if _has_parameters(effects):
        rows = sys._getframe(2).f_locals.get("params_seq")  # executemany: converted are those of the first
        exact = effects_of(readable(cursor._conn, converted.query)) or effects
        sent = _Sent(converted, encoding_of(cursor._conn))
        found = (_filled(step, sent) for step in exact.steps) if rows is None else _of_many(effects, rows)
        steps_found = tuple(step for step in found if is_state(str(step.name)))
        nameless = any(step.kind == DOUBT and not step.name for step in steps_found)
        makes, ends = (tuple(sent.named(one, rows is None) for one in each) for each in (exact.makes, exact.ends))
        leaves = (*exact.leaves, *((CUSTOM,) if nameless else ()))
        effects = replace(exact, steps=steps_found, leaves=leaves, makes=makes, ends=ends)
    record.configuring = is_before_the_app(cursor._conn, record)
    return decisions.attributed(record, effects)


def _has_parameters(effects: Effects) -> bool:
    named = (one.key for one in (*effects.makes, *effects.ends))
    return any(isinstance(part, Placeholder) for parts in (*effects.steps, *named) for part in parts)


def _filled(step: Step, sent: _Sent) -> Step:
    given, value, local = sent.text(step.name), sent.text(step.value), step.local
    name = "" if given is _OPAQUE else folded(str(given))
    is_local = False if local is None else sent.boolean(local)
    if not name or value is _OPAQUE or is_local is None or step.kind == DOUBT:
        return Step(DOUBT, name, "set_config" if name else CUSTOM)
    return Step(SET_LOCAL if is_local else step.kind, name, value)


class _Sent:
    """The parameters of a statement as they are sent."""

    def __init__(self, converted: Any, encoding: str) -> None:
        self._params, self._types, self._encoding = converted.params or (), converted.types, encoding

    def text(self, part: object) -> Any:
        """Return the text that a parameter brings; `_OPAQUE` where it is not what the server takes for the value."""
        if not isinstance(part, Placeholder):
            return part
        raw, kind = self._raw(part)
        if raw is None:
            return None
        try:
            return raw.decode(self._encoding) if kind in _TEXTS else _OPAQUE
        except UnicodeDecodeError:  # bytes that the app means to be a text
            return _OPAQUE

    def named(self, one: Named, once: bool) -> Named:
        """Return what is named with its parameters, as they are sent; without a name where it ran more than `once`."""
        key = tuple(repr(self._raw(part)) if isinstance(part, Placeholder) else part for part in one.key)
        known = once and all(self._raw(part)[1] >= 0 for part in one.key if isinstance(part, Placeholder))
        return one._replace(key=key if known else ())

    def boolean(self, part: Placeholder) -> bool | None:
        """Return the boolean that a parameter brings; None where it cannot be read."""
        raw, kind = self._raw(part)
        if raw is not None and kind == _BOOLEAN:
            return {b"\x01": True, b"\x00": False, b"t": True, b"f": False}.get(raw)
        text = self.text(part)
        return boolean(text) if isinstance(text, str) else None

    def _raw(self, part: Placeholder) -> tuple[bytes | None, int]:
        """Return the bytes and the type; of type -1 where there are none."""
        if not isinstance(part.key, int) or part.key >= len(self._params):
            return b"", -1
        raw = self._params[part.key]
        return None if raw is None else bytes(raw), self._types[part.key]


def _of_many(effects: Effects, rows: Any) -> Iterator[Step]:
    """What is in doubt once a statement has run for each of `rows`; any setting, where these cannot be seen."""
    known = isinstance(rows, (list, tuple))
    for step in effects.steps:
        for row in rows if known and isinstance(step.name, Placeholder) else (None,):
            name = named(step, {"params": row}).name
            yield Step(DOUBT, name if isinstance(name, str) else "", "executemany")


def commanding(driver: Driver, flows: Flows, spans: QuerySpans) -> Callable[[Method], Method]:
    """``BaseConnection._exec_command``: the statements that psycopg sends by itself (BEGIN, COMMIT, SAVEPOINT)."""
    known, nobody = EFFECTS.known, spans.nobody

    def make(original: Method) -> Method:
        @functools.wraps(original)
        def _exec_command(self: Any, command: Any, result_format: object = pq.Format.TEXT) -> Any:
            record: Record | None
            try:
                record = self._instrumented_wrapper  # `KEY`, spelled out: Python looks that up faster
            except AttributeError:  # not watched
                record = None
            if record is None:
                return original(self, command, result_format)
            text = command if type(command) is bytes or isinstance(command, (str, bytes)) else command.as_bytes(self)
            effects: Any = known.get(text, UNSEEN)
            if effects is UNSEEN:
                effects = effects_of(text)
            if effects is not None and record.resolves_commits and decisions.reads_position(record, effects):
                return _commit(driver, flows, self, record, effects, original(self, text, result_format))
            if effects is not None:
                is_plain = effects.is_plain and not record.needs_slow_path
                record.in_flight.append(effects) if is_plain else steps.note(record, effects)
            sending = original(self, text, result_format)
            if record.operations_wanted and not nobody() and sys._getframe(1).f_code.co_name == "_start_query":
                return implicit_begin(spans, record, sending)
            return sending

        return _exec_command

    return make


def _commit(driver: Driver, flows: Flows, connection: Any, record: Record, effects: Effects, sending: Any) -> Any:
    """Send a COMMIT of psycopg's own, with what its outcome can be found out by."""
    position = yield from _position(driver, flows, connection, record, effects)
    steps.note(record, replace(effects, position=position))
    return (yield from sending)


def mogrifying(original: Method) -> Method:
    """``ClientCursor.mogrify``: converts a query and sends nothing."""

    @functools.wraps(original)
    def mogrify(self: Any, *args: object, **kwargs: object) -> Any:
        if (record := record_of(self._conn)) is None:
            return original(self, *args, **kwargs)
        record.muted = True
        record.refresh()
        try:
            return original(self, *args, **kwargs)
        finally:
            record.muted = False
            record.refresh()

    return mogrify
