"""The calls that run statements, and those that end transactions.

There are no losses: a plain statement that nobody listens to only has to be known as such.
"""

from __future__ import annotations

import functools
import re
import sqlite3
import sys
from collections.abc import Callable
from typing import Any, Final

from instrumented_wrapper.batches import first_taken
from instrumented_wrapper.drivers.blocking.calls import Calls, ended
from instrumented_wrapper.drivers.blocking.records import Record, record_of
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.statement_cache import UNSEEN, StatementCache
from instrumented_wrapper.drivers.sqlite3.classes import C_CONNECTION, C_CURSOR, Watched
from instrumented_wrapper.drivers.sqlite3.frames import as_from_the_app
from instrumented_wrapper.drivers.sqlite3.native import HAS_AUTOCOMMIT
from instrumented_wrapper.drivers.watching import KEY
from instrumented_wrapper.operations import Operation

__all__ = ["Statements"]

Method = Callable[..., Any]
_connection: Final = C_CURSOR.connection.__get__
_in_transaction: Final = C_CONNECTION.in_transaction.__get__
_NAMES_WARN: Final = (3, 12) <= sys.version_info < (3, 15)  # of named parameters that are given in order; then an error
_NAMED: Final = re.compile(r"[:@$]\w|\?\d")  # in a string it is none: then a call costs a little more


class Statements:
    """Makes the closures."""

    def __init__(self, calls: Calls, spans: QuerySpans) -> None:
        self._calls, self._spans = calls, spans
        self._names = StatementCache[str, bool](lambda sql: _NAMED.search(sql) is not None)

    def execute(self, original: Method) -> Method:
        """``execute``."""
        names, effects, nobody = self._names.known, self._calls.effects.known, self._spans.nobody
        warning = self._warning(original)
        carefully = self._calls.statement(warning, _watched, "sql")

        @functools.wraps(original)
        def execute(self: Any, sql: Any, /, *parameters: Any) -> Any:
            try:
                record: Record | None = _connection(self).__dict__.get(KEY)
                known: Any = effects.get(sql, UNSEEN)
            except (AttributeError, TypeError):  # a cursor of nothing that we made; no text
                return original(self, sql, *parameters)
            if record is None or record.alert or known is not None or (record.operations_wanted and not nobody()):
                return carefully(self, sql, *parameters)
            record.used = True
            if _NAMES_WARN and parameters and type(parameters[0]) is not dict and names.get(sql, True):
                return warning(self, sql, *parameters)
            return original(self, sql, *parameters)

        return execute

    def executemany(self, original: Method) -> Method:
        """``executemany``: no PRAGMA can be given to it. Others may use the connection while the app makes the sets."""
        warning, batch, nobody = self._warning(original), self._spans.batch, self._spans.nobody

        @functools.wraps(original)
        def executemany(self: Any, /, *args: Any) -> Any:
            connection = _watched(self)
            record = None if connection is None else record_of(connection)
            if record is None or record.off:
                return warning(self, *args)
            quiet = len(args) < 1 or not record.operations_wanted or nobody()
            result = ended(None if quiet else batch(record, self, *args[:2]), warning, self, *args)
            record.used = True
            return result

        return first_taken(nobody, executemany)

    def executescript(self, original: Method) -> Method:
        """``executescript``."""
        return self._calls.statement(original, _watched, "sql_script", self._spans.script)

    def _warning(self, original: Method) -> Method:
        """Where a warning may come of parameters that have names, it is of the app's line."""
        if not _NAMES_WARN:
            return original
        names = self._names.value_of

        @functools.wraps(original)
        def warning(self: Any, /, *args: Any) -> Any:
            if len(args) > 1 and type(args[1]) is not dict and isinstance(args[0], str) and names(args[0]):
                return as_from_the_app(original, self, *args)
            return original(self, *args)

        return warning

    def ending(self, original: Method, command: str) -> Method:
        """What ends a transaction; ``__exit__``, which does not call the others, does it by its arguments."""
        begin, nobody = self._begun, self._spans.nobody

        @functools.wraps(original)
        def end(self: Any, /, *args: Any) -> Any:
            record: Record | None = self.__dict__.get(KEY)
            if record is None or record.off:
                return original(self, *args)
            if not record.operations_wanted or nobody():
                result = original(self, *args)
                record.used = False
                return result
            name = command or ("COMMIT" if all(arg is None for arg in args) else "ROLLBACK")
            result = ended(begin(self, record, name), original, self, *args)
            record.used = False
            return result

        return end

    def _begun(self, connection: Any, record: Record, name: str) -> Operation | None:
        """Begin an operation, if something will be sent."""
        return self._spans.command(name, record) if _ends(connection) else None


def _watched(cursor: Any) -> Any:
    """Return the connection of a cursor, where it is one of ours."""
    connection = _connection(cursor)
    return connection if Watched in type(connection).__mro__ else None


def _ends(connection: Any) -> bool:
    """Tell whether a transaction is open that ``commit`` would end; with ``autocommit=True`` it would not."""
    try:
        ours = not HAS_AUTOCOMMIT or C_CONNECTION.autocommit.__get__(connection) is not True
        return ours and bool(_in_transaction(connection))
    except sqlite3.ProgrammingError:  # it is closed, as the app will be told
        return False
