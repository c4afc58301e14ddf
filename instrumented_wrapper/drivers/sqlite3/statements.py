"""The calls that run statements, and those that end transactions.

SQLite has no losses: for a plain statement without a listener, only its effects have to be known.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable
from typing import Any, Final

from instrumented_wrapper.batches import first_taken
from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.statement_cache import UNSEEN
from instrumented_wrapper.drivers.engine.sync_calls import MethodWrappers, ended
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.drivers.sqlite3.adapter import HAS_AUTOCOMMIT
from instrumented_wrapper.drivers.sqlite3.classes import C_CONNECTION, C_CURSOR, Watched, WatchedCursor
from instrumented_wrapper.operations import Operation

Method = Callable[..., Any]
_connection: Final = C_CURSOR.connection.__get__
_in_transaction: Final = C_CONNECTION.in_transaction.__get__


class Statements:
    """Makes the closures."""

    def __init__(self, calls: MethodWrappers, spans: QuerySpans) -> None:
        self._calls, self._spans = calls, spans

    def execute(self, original: Method) -> Method:
        """``execute``."""
        effects, nobody = self._calls.effects.known, self._spans.nobody
        carefully = self._calls.statement(original, _watched, "sql")

        @functools.wraps(original)
        def execute(self: Any, sql: Any, /, *parameters: object) -> Any:
            try:
                record: Record | None = _connection(self).__dict__.get(KEY)
                known: Any = effects.get(sql, UNSEEN)
            except (AttributeError, TypeError):  # a cursor of nothing that we made; no text
                return original(self, sql, *parameters)
            if (
                record is None
                or record.needs_slow_path
                or known is not None
                or (record.operations_wanted and not nobody())
            ):
                return carefully(self, sql, *parameters)
            record.used = True
            return original(self, sql, *parameters)

        return execute

    def shortcut(self, original: Method, method: Method) -> Method:
        """``execute`` of a connection: `method` of a plain cursor, whatever a subclass's ``cursor`` does."""
        effects, nobody, make, execute = (
            self._calls.effects.known,
            self._spans.nobody,
            C_CONNECTION.cursor,
            C_CURSOR.execute,
        )

        @functools.wraps(original)
        def shortcut(self: Any, sql: object, /, *parameters: object) -> Any:
            cursor = make(self, WatchedCursor)
            try:
                record = self.__dict__.get(KEY)
            except AttributeError:  # made before sqlite3 was patched
                record = None
            if (
                type(sql) is not str
                or record is None
                or record.needs_slow_path
                or effects.get(sql, UNSEEN) is not None
                or (record.operations_wanted and not nobody())
            ):
                return method(cursor, sql, *parameters)
            record.used = True
            return execute(cursor, sql, *parameters)

        return shortcut

    def executemany(self, original: Method) -> Method:
        """``executemany``: no PRAGMA can be given to it. Others may use the connection while the app makes the sets."""
        batch, nobody = self._spans.batch, self._spans.nobody

        @functools.wraps(original)
        def executemany(self: Any, /, *args: object) -> Any:
            connection = _watched(self)
            record = None if connection is None else record_of(connection)
            if record is None or record.off:
                return original(self, *args)
            quiet = len(args) < 1 or not record.operations_wanted or nobody()
            result = ended(None if quiet else batch(record, self, *args[:2]), original, self, *args)
            record.used = True
            return result

        return first_taken(nobody, executemany)

    def executescript(self, original: Method) -> Method:
        """``executescript``."""
        return self._calls.statement(original, _watched, "sql_script", self._spans.script)

    def ending(self, original: Method, command: str) -> Method:
        """What ends a transaction; ``__exit__``, which does not call the others, does it by its arguments."""
        begin, nobody = self._begun, self._spans.nobody

        @functools.wraps(original)
        def end(self: Any, /, *args: object) -> Any:
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

    def _begun(self, connection: object, record: Record, name: str) -> Operation | None:
        """Begin an operation, if something will be sent."""
        return self._spans.command(name, record) if _ends(connection) else None


def _watched(cursor: object) -> Any:
    """Return the connection of a cursor, where it is one of ours."""
    connection = _connection(cursor)
    return connection if Watched in type(connection).__mro__ else None


def _ends(connection: object) -> bool:
    """Return True if ``commit`` would end an open transaction; with ``autocommit=True`` it would not."""
    try:
        ours = not HAS_AUTOCOMMIT or C_CONNECTION.autocommit.__get__(connection) is not True
        return ours and bool(_in_transaction(connection))
    except sqlite3.ProgrammingError:  # it is closed, as the app will be told
        return False
