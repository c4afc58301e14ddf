"""Begin the spans of the app's operations on a connection: statements, batches, commits, connects.

The patched methods are in `operations`. Nothing here raises into the app, and nothing holds a value.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from time import time_ns
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from instrumented_wrapper.batches import first_of, size_of
from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.databases.postgresql.summary import cut, words_of
from instrumented_wrapper.drivers.psycopg.facts import is_pending
from instrumented_wrapper.drivers.psycopg.records import KEY, Record, encoding_of
from instrumented_wrapper.operations import (
    Operation,
    Operations,
    Site,
    SpanTemplate,
    SpanTemplates,
    Words,
    attention,
    bounded_put,
    has_parameters,
    shown_text,
)
from instrumented_wrapper.options import Options

__all__ = ["QuerySpans"]

logger = logging.getLogger("instrumented_wrapper")
_words: dict[str, Words] = {}
_long_words: dict[str, Words] = {}
_MOST, _LONG, _MOST_LONG = 4096, 4096, 64  # texts that are kept; characters; longer texts that are kept
_IDLE: Final = int(pq.TransactionStatus.IDLE)
_BAD: Final = int(pq.ConnStatus.BAD)


class QuerySpans:
    """Begins operations, where somebody listens and the connection's options want it."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self.nobody, self.listens, self._begin = operations.nobody, operations.listens, operations.begin

    def attend(self, record: Record, options: Options) -> None:
        """Decide what telemetry records of operations on a new connection."""
        record.spans_wanted, record.operations_wanted = attention(self._operations, "psycopg", options)

    def listens_to(self, cursor: Any) -> bool:
        """Tell whether somebody listens to the operations of a cursor."""
        record: Record | None = cursor._conn.__dict__.get(KEY)
        return record is not None and record.operations_wanted and self.listens()

    def statement(self, cursor: Any, query: Any, params: Any) -> Operation | None:
        """Begin a statement."""
        connection = cursor._conn
        record: Record | None = connection.__dict__.get(KEY)
        if record is None or not record.operations_wanted or not self.listens():
            return None
        started = time_ns()
        try:
            templates = record.templates or self._at(record)
            bound = has_parameters(params)
            template = (templates.bound if bound else templates.bare).get(query) if type(query) is str else None
            if template is None:
                template = _described(templates, cursor, query, bound)
            return self._begin(template, record.spans_wanted, record.options.metrics, started, record)
        except Exception as error:  # noqa: BLE001 - the app is never broken by its observability
            return _untold(error)

    def batch(self, cursor: Any, query: Any, params_seq: Any) -> Operation | None:
        """Begin an ``executemany``; None where it has no parameter sets, and runs no statement."""
        record: Record | None = cursor._conn.__dict__.get(KEY)
        size = size_of(params_seq)
        if record is None or not size or not record.operations_wanted or not self.listens():
            return None
        started = time_ns()
        try:
            templates = record.templates or self._at(record)
            text, composed = _text_of(cursor, query)
            bound = not composed and has_parameters(first_of(params_seq))
            template = templates.template(*_shown(templates, text, bound), size)
            return self._begin(template, record.spans_wanted, record.options.metrics, started, record)
        except Exception as error:  # noqa: BLE001 - the app is never broken by its observability
            return _untold(error)

    def command(self, connection: Any, name: str) -> Operation | None:
        """Begin a command that ends or begins a transaction; within something that is recorded, by default."""
        record: Record | None = connection.__dict__.get(KEY)
        if (
            record is None
            or not record.operations_wanted
            or record.options.transaction_spans == "off"
            or not self.listens()
        ):
            return None
        wanted = record.options.transaction_spans == "on" or self._operations.within_recorded()
        return self._named(record, name, wanted and record.spans_wanted)

    def part(self, connection: Any, name: str) -> Operation | None:
        """Begin what psycopg sends on its own account: a FETCH, the Sync of a pipeline."""
        record: Record | None = connection.__dict__.get(KEY)
        if record is None or not record.operations_wanted or not self.listens():
            return None
        return self._named(record, name, record.spans_wanted)

    def page(self, record: Record, traces: bool) -> Operation | None:
        """Begin to fetch a page of a server-side cursor, with a span or only measured."""
        return self._named(record, "FETCH", traces and record.spans_wanted)

    def implicit_begin(self, record: Record, command: Any) -> Any:
        """Return psycopg's own BEGIN before a statement, recorded as a part of that statement."""
        wanted = record.spans_wanted and record.options.transaction_spans != "off"
        if not (wanted and self.listens() and self._operations.within_recorded()):
            return command
        return during(partial(self._named, record, "BEGIN", traces=True, metrics=False), command)

    @contextmanager
    def connect(self, options: Options, conninfo: Any, keywords: Mapping[str, Any]) -> Iterator[None]:
        """While inside, a connection is made; recorded where the option asks for it."""
        operation = self._connect(options, conninfo, keywords) if options.connect_spans else None
        try:
            yield
        except BaseException as error:
            if operation is not None:
                operation.end(error)
            raise
        if operation is not None:
            operation.end()

    def _connect(self, options: Options, conninfo: Any, keywords: Mapping[str, Any]) -> Operation | None:
        if not (options.traces and options.query_spans != "off" and self.listens()):
            return None
        started = time_ns()
        try:
            templates = self._operations.templates_at(_asked_for(conninfo, keywords))
            return self._begin(templates.template(Words("", operation="CONNECT")), True, False, started)
        except Exception as error:  # noqa: BLE001 - the app is never broken by its observability
            return _untold(error)

    def _named(self, record: Record, name: str, traces: bool, metrics: bool | None = None) -> Operation | None:
        started = time_ns()
        try:
            templates = record.templates or self._at(record)
            key = ("command", name)  # no text of the app's
            template = templates.bare.get(key) or templates.put(templates.bare, key, Words(name, operation=name), None)
            return self._begin(
                template, traces, record.options.metrics if metrics is None else metrics, started, record
            )
        except Exception as error:  # noqa: BLE001 - the app is never broken by its observability
            return _untold(error)

    def _at(self, record: Record) -> SpanTemplates:
        record.templates = self._operations.templates_at(
            record.site(), record.options.metrics_without, record.options.query_text
        )
        return record.templates


def is_quiet(connection: Any) -> bool:
    """Tell whether no transaction is open and nothing waits: a commit sends nothing."""
    idle = connection.pgconn.transaction_status == _IDLE
    return idle and (connection._pipeline is None or not is_pending(connection))


def during(begin: Callable[[], Operation | None], steps: Any) -> Any:
    """Run one of psycopg's generators as an operation, a part of a statement."""
    if (operation := begin()) is None:
        return (yield from steps)
    operation.pause()
    try:
        result = yield from steps
    except BaseException as error:
        operation.end(error)
        raise
    operation.end()
    return result


def of_its_own(operation: Operation | None, record: Record, steps: Any) -> Any:
    """Run one of psycopg's generators as an operation to which a failover belongs, before, in or after its steps.

    The caller has the connection's lock; what goes wrong ends it in the choke point.
    """
    if operation is None:
        return steps
    operation.pause()
    record.finish()
    record.operation = record.unfinished = operation
    return _to_its_end(record, steps)


def _to_its_end(record: Record, steps: Any) -> Any:
    try:
        result = yield from steps
    except psycopg.Error:
        raise  # perhaps a loss: the choke point knows
    except BaseException as error:
        record.finish(error)
        raise
    record.finish()
    return result


def _untold(error: Exception) -> Operation | None:
    logger.debug("telemetry failed: %s", type(error).__name__)
    return None


# --- what a statement says ----------------------------------------------------------------------------------------


def _described(templates: SpanTemplates, cursor: Any, query: Any, bound: bool) -> SpanTemplate:
    text, composed = _text_of(cursor, query)
    as_written = bound and not composed  # a composed text may have values in it, parameters or not
    known = templates.bound if as_written else templates.bare
    if template := known.get(text):
        return template
    return templates.put(known, text, *_shown(templates, text, as_written))


def _shown(templates: SpanTemplates, text: str, bound: bool) -> tuple[Words, str | None]:
    words = _words_of(text)
    return words, shown_text(words, cut(text), bound, templates.query_text)


def _words_of(text: str) -> Words:
    """Return what may be shown of a text, read once per text; of long ones only a few are kept."""
    known, most = (_words, _MOST) if len(text) <= _LONG else (_long_words, _MOST_LONG)
    return known.get(text) or bounded_put(known, text, words_of(text), most)


def _text_of(cursor: Any, query: Any) -> tuple[str, bool]:
    """Return the text of a query, and whether it was composed of parts."""
    if isinstance(query, str):
        return query, False
    if isinstance(query, bytes):
        return query.decode(encoding_of(cursor._conn), "replace"), False
    if hasattr(query, "as_string"):
        return query.as_string(cursor), True
    return "".join(part if isinstance(part, str) else _interpolated(cursor, part) for part in query), True


def _interpolated(cursor: Any, part: Any) -> str:
    """Return what stands for a part of a template string: an identifier, a query in the query, or a value."""
    if part.format_spec == "i":
        return '"{}"'.format(str(part.value).replace('"', '""'))
    return _text_of(cursor, part.value)[0] if part.format_spec == "q" else "%s"


# --- where it goes -----------------------------------------------------------------------------------------------


def _asked_for(conninfo: Any, keywords: Mapping[str, Any]) -> Site:
    given = conninfo_to_dict(conninfo, **keywords)
    database, host = str(given.get("dbname") or given.get("user") or ""), str(given.get("host") or "")
    database = "" if "=" in database or "://" in database else database  # a connection string, with its password
    host = "" if "," in host else host  # which of them it will be is not known yet
    port = str(given.get("port") or "")
    return Site(postgresql.SYSTEM, database, host, int(port) if host and port.isdigit() else None)
