"""Begin the spans of the app's calls, for all drivers: which span a call has, by its text, read once per text.

Nothing here raises into the app. No template of a span holds a value of a parameter.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import time_ns
from typing import Any, Final, Protocol

from instrumented_wrapper import pages
from instrumented_wrapper.batches import first_of, size_of
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.drivers.engine.statement_cache import StatementCache
from instrumented_wrapper.operations import (
    Operation,
    Operations,
    Site,
    SpanTemplate,
    SpanTemplates,
    Words,
    has_parameters,
    shown_text,
)
from instrumented_wrapper.options import Options

logger = logging.getLogger("instrumented_wrapper")
_PARAMETERS: Final = ("params", "args", "vars", "parameters", "params_seq", "seq_params", "vars_list")  # their keywords
TemplateOf = Callable[..., SpanTemplate]  # with the templates at the present server, and what is given
_CONNECT: Final = Words("", operation="CONNECT")
_FETCH: Final = Words("FETCH", operation="FETCH")


class DatabaseTexts(Protocol):
    """What telemetry needs of a database's texts."""

    def words_of(self, text: str) -> Words:
        """Return what telemetry may show of a text."""

    def cut(self, text: str) -> str:
        """Return a text, at most as long as telemetry shows one."""


class DriverTexts(Protocol):
    """The driver's name and its way to get the text of a query."""

    @property
    def name(self) -> str:
        """Return its name, as telemetry and the option `drivers` have it."""

    @property
    def room(self) -> DatabaseTexts:
        """Return the module of its database."""

    def text_of(self, cursor: object, query: object) -> str:
        """Return the text of a query; a value in what was composed is a literal, or has a placeholder."""


class QuerySpans:
    """Begin the operations of one driver, if there is a listener and the connection's options want it.

    Callers check `TrackedConnection.operations_wanted` first. Each method returns None for what is not recorded.

    Attributes:
        nobody: returns True if there is no listener at all. Cheap.
        listens: returns True if there is a listener here and now.
        within_recorded: returns True if the current span is recorded.
    """

    def __init__(self, driver: DriverTexts, operations: Operations) -> None:
        self._driver, self._operations = driver, operations
        self.nobody, self.listens, self._begin = operations.nobody, operations.listens, operations.begin
        self.within_recorded = operations.within_recorded
        self._words = StatementCache(driver.room.words_of)

    def attend(self, record: TrackedConnection, options: Options) -> None:
        """Decide what telemetry records of operations on a new connection.

        Another instrumentation of the driver makes the spans, and records the durations too if it does so.
        """
        attend(record, options, self._driver.name, self._operations)

    def wanted(self, record: TrackedConnection | None) -> bool:
        """Return True if operations on a connection are recorded, here and now."""
        return record is not None and record.operations_wanted and self.listens()

    def statement(
        self, record: TrackedConnection, cursor: object, query: object, parameters: object = None
    ) -> Operation | None:
        """Begin a statement."""
        if not self.listens():
            return None
        started = time_ns()
        try:
            templates = record.templates or self._templates_of(record)
            bound = has_parameters(parameters)
            template = (templates.bound if bound else templates.bare).get(query) if type(query) is str else None
            if template is None:
                template = self._of_query(templates, cursor, query, bound)
            return self._begin(template, record.spans_wanted, record.options.metrics, started, record)
        except Exception as error:  # noqa: BLE001 - the app is never broken by its observability
            return _failed(error)

    def batch(self, record: TrackedConnection, cursor: object, query: object, sets: object = None) -> Operation | None:
        """Begin an ``executemany``; None also where it has no parameter sets, and sends nothing."""
        return unless_it_fails(self._batch, record, cursor, query, sets)

    def _batch(self, record: TrackedConnection, cursor: object, query: object, sets: object) -> Operation | None:
        size = size_of(sets)
        return self._begun(record, record.spans_wanted, self._of_batch, cursor, query, sets, size) if size else None

    def script(
        self, record: TrackedConnection, cursor: object, query: object, parameters: object = None
    ) -> Operation | None:
        """Begin several statements in one text, whatever else the method is given."""
        return self.statement(record, cursor, query)

    def procedure(
        self, record: TrackedConnection, name: object = "", *args: object, **kwargs: object
    ) -> Operation | None:
        """Begin a ``callproc``."""
        return self._begun(record, record.spans_wanted, self._of_procedure, name)

    def command(self, name: str, record: TrackedConnection, *args: object, **kwargs: object) -> Operation | None:
        """Begin a command that ends or begins a transaction; within something that is recorded, by default."""
        if (asked := record.options.transaction_spans) == "off":
            return None
        traces = record.spans_wanted and (asked == "on" or self.within_recorded())
        return self._begun(record, traces, _of_words, _command(name))

    def part(self, words: Words, record: TrackedConnection, metrics: bool = True) -> Operation | None:
        """Begin what is no statement of the app's: a COPY by a method, what the driver sends on its own account."""
        return self._begun(record, record.spans_wanted, _of_words, words, metrics=metrics)

    def page(self, record: TrackedConnection, cursor: object) -> Operation | None:
        """Begin to fetch a page of a cursor on the server; of one result, only the first ones have spans."""
        return pages.of(cursor).begin(functools.partial(self._page, record))

    def _page(self, record: TrackedConnection, traces: bool) -> Operation | None:
        return self._begun(record, traces and record.spans_wanted, _of_words, _FETCH)

    @contextmanager
    def connect(self, options: Options, site: Callable[[], Site]) -> Iterator[None]:
        """Context of a connect, recorded if the option requests it."""
        operation = unless_it_fails(self._connect, options, site) if options.connect_spans else None
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
        return self._begin(self._operations.templates_at(site()).template(_CONNECT), True, False, started)

    def _begun(
        self, record: TrackedConnection, traces: bool, template_of: TemplateOf, *given: object, metrics: bool = True
    ) -> Operation | None:
        if not self.listens():
            return None
        started = time_ns()
        try:
            template = template_of(record.templates or self._templates_of(record), *given)
            return self._begin(template, traces, metrics and record.options.metrics, started, record)
        except Exception as error:  # noqa: BLE001 - the app is never broken by its observability
            return _failed(error)

    def _templates_of(self, record: TrackedConnection) -> SpanTemplates:
        options = record.options
        record.templates = self._operations.templates_at(record.site(), options.metrics_without, options.query_text)
        return record.templates

    def _of_query(self, templates: SpanTemplates, cursor: object, query: object, bound: bool) -> SpanTemplate:
        text = self._driver.text_of(cursor, query)
        bound = bound and _is_written(query)
        known = templates.bound if bound else templates.bare
        return known.get(text) or templates.put(known, text, *self._shown(templates, text, bound))

    def _of_batch(
        self, templates: SpanTemplates, cursor: object, query: object, sets: object, size: int
    ) -> SpanTemplate:
        bound = _is_written(query) and has_parameters(first_of(sets))
        return templates.template(*self._shown(templates, self._driver.text_of(cursor, query), bound), size)

    def _of_procedure(self, templates: SpanTemplates, name: object) -> SpanTemplate:
        return templates.template(self._words.value_of(f"CALL {name}")._replace(operation="CALL"))

    def _shown(self, templates: SpanTemplates, text: str, bound: bool) -> tuple[Words, str | None]:
        words = self._words.value_of(text)
        return words, shown_text(words, self._driver.room.cut(text), bound, templates.query_text)


def attend(record: TrackedConnection, options: Options, driver_name: str, operations: Operations) -> None:
    """Decide what telemetry records of operations on a connection of a driver."""
    alone = options.query_spans == "on" or not operations.is_instrumented(driver_name)
    record.spans_wanted = options.traces and alone
    measured = options.metrics and (alone or not operations.is_measured(driver_name))
    record.operations_wanted = options.query_spans != "off" and (record.spans_wanted or measured)


def named_parameters(keywords: Mapping[str, Any]) -> Any:
    """Return the parameters that an ``execute`` or ``executemany`` is given by name, whatever the driver's name."""
    return next((keywords[name] for name in _PARAMETERS if name in keywords), None) if keywords else None


def _of_words(templates: SpanTemplates, words: Words) -> SpanTemplate:
    """Return the template of what is not described by a text."""
    return templates.bare.get(words) or templates.put(templates.bare, words, words, None)


@functools.cache  # of a handful of names, all of them ours
def _command(name: str) -> Words:
    return Words(name, operation=name)


def _is_written(query: object) -> bool:
    """Return True if the app has written the text itself: a composed one may have values in it, bound or not."""
    return isinstance(query, (str, bytes))


def unless_it_fails(begin: Callable[..., Operation | None], *args: object, **kwargs: object) -> Operation | None:
    """Begin an operation; return None where that fails, for the app is never broken by its observability."""
    try:
        return begin(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - see above
        return _failed(error)


def _failed(error: Exception) -> Operation | None:
    logger.debug("telemetry failed: %s", type(error).__name__)
    return None
