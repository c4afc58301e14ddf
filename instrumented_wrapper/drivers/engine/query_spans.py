"""What is told of the app's calls as database operations: by their text, read once per text."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import time_ns
from typing import Any, Final

from instrumented_wrapper.batches import first_of, size_of
from instrumented_wrapper.drivers.blocking.native import Native
from instrumented_wrapper.drivers.blocking.records import Record
from instrumented_wrapper.operations import (
    AtSite,
    Operation,
    Operations,
    Site,
    Told,
    Words,
    attention,
    has_parameters,
    kept,
    shown_text,
)
from instrumented_wrapper.options import Options

__all__ = ["Telling"]

logger = logging.getLogger("instrumented_wrapper")
_PARAMETERS: Final = ("vars", "args", "params", "parameters")  # what drivers call them
_MOST, _LONG, _MOST_LONG = 4096, 4096, 64  # texts that are kept; characters; longer texts that are kept
_FETCH: Final = Words("FETCH", operation="FETCH")


class Telling:
    """Begins operations of one driver, where somebody listens and the connection's options want it."""

    def __init__(self, native: Native, operations: Operations) -> None:
        self._native, self._operations = native, operations
        self.nobody, self.listens, self._begin = operations.nobody, operations.listens, operations.begin
        self._words: dict[str, Words] = {}
        self._long: dict[str, Words] = {}

    def attend(self, record: Record, options: Options) -> None:
        """Decide what telemetry records of operations on a new connection."""
        record.spans, record.tells = attention(self._operations, self._native.name, options)

    def statement(
        self, record: Record, cursor: Any, query: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Operation | None:
        """Begin a statement."""
        if not self.listens():
            return None
        started = time_ns()
        try:
            at = record.at or self._at(record)
            bound = has_parameters(args[1] if len(args) > 1 else _named(kwargs))
            told = (at.bound if bound else at.bare).get(query) if type(query) is str else None
            if told is None:
                told = self._described(at, cursor, query, bound)
            return self._begin(told, record.spans, record.options.metrics, started, record)
        except Exception as error:  # noqa: BLE001 - the app is never broken by its observability
            return _untold(error)

    def batch(
        self, record: Record, cursor: Any, query: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Operation | None:
        """Begin an ``executemany``; None where it has no parameter sets, and sends nothing."""
        sets = next(iter((*args[1:], *kwargs.values())), ())
        if not (size := size_of(sets)):
            return None

        def described(at: AtSite) -> Told:
            text = self._native.text_of(cursor, query)
            bound = isinstance(query, (str, bytes)) and has_parameters(first_of(sets))
            return at.describe(*self._shown(at, text, bound), size)

        return self._begun(record, described, record.spans)

    def script(
        self, record: Record, cursor: Any, query: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Operation | None:
        """Begin several statements in one text, without parameters."""
        return self.statement(record, cursor, query, (query,), {})

    def procedure(self, record: Record, name: Any = "", *args: Any, **kwargs: Any) -> Operation | None:
        """Begin a ``callproc``."""
        words = self.words_of(f"CALL {name}")._replace(operation="CALL")
        return self._begun(record, lambda at: at.describe(words), record.spans)

    def command(self, name: str, record: Record, *args: Any, **kwargs: Any) -> Operation | None:
        """Begin a command that ends or begins a transaction; within something that is recorded, by default."""
        if record.options.transaction_spans == "off":
            return None
        wanted = record.options.transaction_spans == "on" or self._operations.within_recorded()
        key = ("command", name)  # no text of the app's

        def described(at: AtSite) -> Told:
            return at.bare.get(key) or at.keep(at.bare, key, Words(name, operation=name), None)

        return self._begun(record, described, wanted and record.spans)

    def part(self, words: Words, record: Record, *args: Any, **kwargs: Any) -> Operation | None:
        """Begin what is no statement of the app's, a COPY."""
        return self._part(words, record, record.spans)

    def page(self, record: Record, traces: bool) -> Operation | None:
        """Begin to fetch a page of a cursor on the server, with a span or only measured."""
        return self._part(_FETCH, record, traces and record.spans)

    def _part(self, words: Words, record: Record, traces: bool) -> Operation | None:
        key = ("part", words.summary)

        def described(at: AtSite) -> Told:
            return at.bare.get(key) or at.keep(at.bare, key, words, None)

        return self._begun(record, described, traces)

    def _begun(self, record: Record, described: Callable[[AtSite], Told], traces: bool) -> Operation | None:
        if not self.listens():
            return None
        started = time_ns()
        try:
            told = described(record.at or self._at(record))
            return self._begin(told, traces, record.options.metrics, started, record)
        except Exception as error:  # noqa: BLE001 - the app is never broken by its observability
            return _untold(error)

    @contextmanager
    def connect(self, options: Options, site: Callable[[], Site]) -> Iterator[None]:
        """While inside, a connection is made; told of where the option asks for it."""
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
            told = self._operations.at(site()).describe(Words("", operation="CONNECT"))
            return self._begin(told, True, False, started)
        except Exception as error:  # noqa: BLE001 - the app is never broken by its observability
            return _untold(error)

    def _described(self, at: AtSite, cursor: Any, query: Any, bound: bool) -> Told:
        text = self._native.text_of(cursor, query)
        as_written = bound and isinstance(query, (str, bytes))  # a composed text may have values in it
        known, key = at.bound if as_written else at.bare, query if type(query) is str else text
        return at.keep(known, key, *self._shown(at, text, as_written))

    def _shown(self, at: AtSite, text: str, bound: bool) -> tuple[Words, str | None]:
        words = self.words_of(text)
        return words, shown_text(words, self._native.room.cut(text), bound, at.query_text)

    def words_of(self, text: str) -> Words:
        """Return what may be told of a text, read once per text; of long ones only a few are kept."""
        known, most = (self._words, _MOST) if len(text) <= _LONG else (self._long, _MOST_LONG)
        return known.get(text) or kept(known, text, self._native.room.words_of(text), most)

    def _at(self, record: Record) -> AtSite:
        record.at = self._operations.at(record.site(), record.options.metrics_without, record.options.query_text)
        return record.at


def _named(keywords: dict[str, Any]) -> Any:
    """Return the parameters that are given by their name."""
    return next((keywords[name] for name in _PARAMETERS if name in keywords), None)


def _untold(error: Exception) -> Operation | None:
    logger.debug("telemetry failed: %s", type(error).__name__)
    return None
