"""Begin the spans of the app's calls: which one a call has, by its text, read once per text."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import time_ns
from typing import Any, Final

from instrumented_wrapper.batches import first_of, size_of
from instrumented_wrapper.drivers.blocking.native import Native
from instrumented_wrapper.drivers.blocking.records import Record
from instrumented_wrapper.drivers.engine.statement_cache import StatementCache
from instrumented_wrapper.operations import (
    Operation,
    Operations,
    Site,
    SpanTemplate,
    SpanTemplates,
    Words,
    attention,
    has_parameters,
    shown_text,
)
from instrumented_wrapper.options import Options

__all__ = ["QuerySpans"]

logger = logging.getLogger("instrumented_wrapper")
_PARAMETERS: Final = ("vars", "args", "params", "parameters")  # what drivers call them
_FETCH: Final = Words("FETCH", operation="FETCH")


class QuerySpans:
    """Begins operations of one driver, where somebody listens and the connection's options want it."""

    def __init__(self, native: Native, operations: Operations) -> None:
        self._native, self._operations = native, operations
        self.nobody, self.listens, self._begin = operations.nobody, operations.listens, operations.begin
        self._words = StatementCache(native.room.words_of)

    def attend(self, record: Record, options: Options) -> None:
        """Decide what telemetry records of operations on a new connection."""
        record.spans_wanted, record.operations_wanted = attention(self._operations, self._native.name, options)

    def statement(
        self, record: Record, cursor: Any, query: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Operation | None:
        """Begin a statement."""
        if not self.listens():
            return None
        started = time_ns()
        try:
            templates = record.templates or self._at(record)
            bound = has_parameters(args[1] if len(args) > 1 else _named(kwargs))
            template = (templates.bound if bound else templates.bare).get(query) if type(query) is str else None
            if template is None:
                template = self._described(templates, cursor, query, bound)
            return self._begin(template, record.spans_wanted, record.options.metrics, started, record)
        except Exception as error:  # noqa: BLE001 - the app is never broken by its observability
            return _untold(error)

    def batch(
        self, record: Record, cursor: Any, query: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Operation | None:
        """Begin an ``executemany``; None where it has no parameter sets, and sends nothing."""
        sets = next(iter((*args[1:], *kwargs.values())), ())
        if not (size := size_of(sets)):
            return None

        def described(templates: SpanTemplates) -> SpanTemplate:
            text = self._native.text_of(cursor, query)
            bound = isinstance(query, (str, bytes)) and has_parameters(first_of(sets))
            return templates.template(*self._shown(templates, text, bound), size)

        return self._begun(record, described, record.spans_wanted)

    def script(
        self, record: Record, cursor: Any, query: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Operation | None:
        """Begin several statements in one text, without parameters."""
        return self.statement(record, cursor, query, (query,), {})

    def procedure(self, record: Record, name: Any = "", *args: Any, **kwargs: Any) -> Operation | None:
        """Begin a ``callproc``."""
        words = self.words_of(f"CALL {name}")._replace(operation="CALL")
        return self._begun(record, lambda templates: templates.template(words), record.spans_wanted)

    def command(self, name: str, record: Record, *args: Any, **kwargs: Any) -> Operation | None:
        """Begin a command that ends or begins a transaction; within something that is recorded, by default."""
        if record.options.transaction_spans == "off":
            return None
        wanted = record.options.transaction_spans == "on" or self._operations.within_recorded()
        key = ("command", name)  # no text of the app's

        def described(templates: SpanTemplates) -> SpanTemplate:
            return templates.bare.get(key) or templates.put(templates.bare, key, Words(name, operation=name), None)

        return self._begun(record, described, wanted and record.spans_wanted)

    def part(self, words: Words, record: Record, *args: Any, **kwargs: Any) -> Operation | None:
        """Begin what is no statement of the app's, a COPY."""
        return self._part(words, record, record.spans_wanted)

    def page(self, record: Record, traces: bool) -> Operation | None:
        """Begin to fetch a page of a cursor on the server, with a span or only measured."""
        return self._part(_FETCH, record, traces and record.spans_wanted)

    def _part(self, words: Words, record: Record, traces: bool) -> Operation | None:
        key = ("part", words.summary)

        def described(templates: SpanTemplates) -> SpanTemplate:
            return templates.bare.get(key) or templates.put(templates.bare, key, words, None)

        return self._begun(record, described, traces)

    def _begun(
        self, record: Record, described: Callable[[SpanTemplates], SpanTemplate], traces: bool
    ) -> Operation | None:
        if not self.listens():
            return None
        started = time_ns()
        try:
            template = described(record.templates or self._at(record))
            return self._begin(template, traces, record.options.metrics, started, record)
        except Exception as error:  # noqa: BLE001 - the app is never broken by its observability
            return _untold(error)

    @contextmanager
    def connect(self, options: Options, site: Callable[[], Site]) -> Iterator[None]:
        """While inside, a connection is made; recorded where the option asks for it."""
        operation = self._connect(options, site) if options.connect_spans else None
        try:
            yield
        except BaseException as error:
            if operation is not None:
                operation.end(error)
            raise
        if operation is not None:
            operation.end()

    def _connect(self, options: Options, site: Callable[[], Site]) -> Operation | None:
        if not (options.traces and options.query_spans != "off" and self.listens()):
            return None
        started = time_ns()
        try:
            template = self._operations.templates_at(site()).template(Words("", operation="CONNECT"))
            return self._begin(template, True, False, started)
        except Exception as error:  # noqa: BLE001 - the app is never broken by its observability
            return _untold(error)

    def _described(self, templates: SpanTemplates, cursor: Any, query: Any, bound: bool) -> SpanTemplate:
        text = self._native.text_of(cursor, query)
        as_written = bound and isinstance(query, (str, bytes))  # a composed text may have values in it
        known, key = templates.bound if as_written else templates.bare, query if type(query) is str else text
        return templates.put(known, key, *self._shown(templates, text, as_written))

    def _shown(self, templates: SpanTemplates, text: str, bound: bool) -> tuple[Words, str | None]:
        words = self.words_of(text)
        return words, shown_text(words, self._native.room.cut(text), bound, templates.query_text)

    def words_of(self, text: str) -> Words:
        """Return what may be shown of a text, read once per text; of long ones only a few are kept."""
        return self._words.value_of(text)

    def _at(self, record: Record) -> SpanTemplates:
        record.templates = self._operations.templates_at(
            record.site(), record.options.metrics_without, record.options.query_text
        )
        return record.templates


def _named(keywords: dict[str, Any]) -> Any:
    """Return the parameters that are given by their name."""
    return next((keywords[name] for name in _PARAMETERS if name in keywords), None)


def _untold(error: Exception) -> Operation | None:
    logger.debug("telemetry failed: %s", type(error).__name__)
    return None
