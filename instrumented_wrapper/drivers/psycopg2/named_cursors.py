"""Named cursors that outlive their transaction (``withhold``), and those whose session was replaced.

A switch cannot carry a cursor. The new session may have another cursor of the same name: its rows are not those of this
one, and closing this one must not close it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, NoReturn

import psycopg2
from psycopg2 import extensions

from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.psycopg2.adapter import ADAPTER
from instrumented_wrapper.drivers.psycopg2.classes import LEFT, C, physical, struct_of
from instrumented_wrapper.errors import again

Method = Callable[..., Any]
_K: Final[Any] = extensions.cursor
_withhold, _query, _name, _connection = (vars(_K)[name].__get__ for name in ("withhold", "query", "name", "connection"))


def declaring(original: Method) -> Method:
    """``execute`` of a named cursor: psycopg2 declares it."""

    @functools.wraps(original)
    def execute(self: Any, *args: object, **kwargs: object) -> Any:
        result = original(self, *args, **kwargs)
        if _withhold(self) and (record := record_of(self.connection)) is not None:
            _sent(record, f"DECLARE {_quoted(self)} CURSOR WITH HOLD FOR SELECT 1")
        return result

    return execute


def closing(watched: Method, original: Method) -> Method:
    """``close``: a cursor that ended with its session closes silently, and starts no switch."""

    @functools.wraps(original)
    def close(self: Any) -> None:
        record = record_of(self.connection)
        if record is None or not _withhold(self) or LEFT in _connection(self).__dict__:
            return watched(self)  # type: ignore[no-any-return]
        with record.use_lock:
            if ADAPTER.transaction_status(self.connection, record) == TransactionStatus.IDLE:
                _close_outside_transaction(self, original)
            else:
                watched(self)
            _sent(record, f"CLOSE {_quoted(self)}")
        return None

    return close


def _close_outside_transaction(cursor: Any, close: Method) -> None:
    try:
        close(cursor)
    except psycopg2.OperationalError:
        if not ADAPTER.is_lost(cursor.connection, None):
            raise
        close(cursor)  # psycopg2 knows by now that the session has ended, and sends nothing


def declared_struct(cursor: Any) -> Any:
    """Return the object whose C struct a named cursor reads from; a cursor that was declared never follows a switch.

    Raises:
        psycopg2.Error: the cursor has ended with its session.
    """
    if LEFT in _connection(cursor).__dict__ and _query(cursor) is not None:
        _refuse(cursor.connection)
    return struct_of(cursor)


def _refuse(connection: object) -> NoReturn:
    record = record_of(connection)
    if record is not None and record.lost is not None:
        C.cursor(physical(connection)).execute("SELECT")  # the server refuses it, as any in an aborted transaction
    if record is not None and record.last_error is not None:
        raise again(record.last_error)
    raise psycopg2.ProgrammingError("named cursor isn't valid anymore")  # as psycopg2 says after a COMMIT


def reading(name: str) -> Method:
    """Return a C method that reads from the session which declared the cursor."""
    method = getattr(_K, name)

    @functools.wraps(method)
    def read(self: Any, *args: object, **kwargs: object) -> Any:
        declared_struct(self)
        return method(self, *args, **kwargs)

    return read


def _quoted(cursor: object) -> str:
    return '"{}"'.format(_name(cursor).replace('"', '""'))


def _sent(record: Record, text: str) -> None:
    """Note a statement that psycopg2 has made by itself, and that the server has answered."""
    if (effects := postgresql.scan(text)) is not None:
        record.in_flight.append(effects)
        record.settle(for_good=False)
