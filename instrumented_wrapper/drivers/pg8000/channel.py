"""How PostgreSQL is talked with about settings on a connection of pg8000: simple protocol, all values as text."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final

from pg8000.core import Context, CoreConnection, _flush
from pg8000.exceptions import DatabaseError, Error

from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.engine.deadlines import shut
from instrumented_wrapper.drivers.pg8000.prepared import forget
from instrumented_wrapper.drivers.server_session import Rows
from instrumented_wrapper.errors import Address

LOST: Final = "_instrumented_wrapper_lost"  # in a connection's ``__dict__``: its physical connection has ended
PLACE: Final = "_instrumented_wrapper_place"  # the address of the physical connection
IDLE, FAILED = b"I", b"E"  # as the server reports them
_send: Final[Any] = CoreConnection.send_QUERY
_receive: Final[Any] = CoreConnection.handle_messages
_PROCESS: Final = slice(0, 4)  # of the key for cancel requests


class _Texts(Context):  # type: ignore[misc]
    """The answer to a statement of ours: values stay what the server sent, whatever the app has registered for them."""

    @property
    def input_funcs(self) -> list[Any]:
        """Return a function for each column."""
        return [str] * self._columns

    @input_funcs.setter
    def input_funcs(self, functions: Sequence[Any]) -> None:
        self._columns = len(functions)


def database_of(given: Mapping[str, Any]) -> str:
    """Return the database that arguments lead to, which is called like the user by default."""
    name = given.get("database") or given.get("user") or ""
    return name.decode(errors="replace") if isinstance(name, bytes | bytearray) else str(name)


def fields_of(error: BaseException) -> dict[str, str]:
    """Return the fields of an error of the server; none for another error."""
    fields = error.args[0] if isinstance(error, Error) and error.args else None
    return fields if isinstance(fields, dict) else {}


def with_state(error: BaseException) -> BaseException:
    """Give an error of the server its SQLSTATE as an attribute, which is only in a dictionary otherwise."""
    fields = fields_of(error)
    if fields and not hasattr(error, "sqlstate"):
        error.sqlstate = fields.get("C")  # type: ignore[attr-defined]
    return error


def send(connection: Any, text: str) -> Rows:
    """Send a text past all that is patched, and return the rows of its answers.

    An interruption ends the physical connection: the app's next statement would get this answer for its own.

    Raises:
        Error: pg8000's.
        OSError: the socket's.
    """
    context = _Texts(text)
    try:
        _send(connection, text)
        _flush(connection._sock)
        _receive(connection, context)
    except (Error, OSError) as error:
        if not isinstance(error, DatabaseError):
            connection.__dict__[LOST] = True
        with_state(error)
        raise
    except BaseException:
        connection.__dict__[LOST] = True
        shut(connection._usock.fileno())
        raise
    return context.rows or []


class Channel:
    """A connection of pg8000, talked with."""

    error: type[Exception] = Error

    def __init__(self, record: Record) -> None:
        self.record = record

    def _of(self) -> Any:
        return self.record.connection()

    def send(self, text: str) -> Generator[Any, Any, Rows]:
        """Send a text and return the rows of its answers."""
        yield from ()  # a generator, which never waits
        return send(self._of(), text)

    def is_idle(self) -> bool:
        """Return True if no transaction is open."""
        return self._of()._transaction_status in (IDLE, None)

    def has_failed(self) -> bool:
        """Return True if the transaction that is open has failed."""
        return bool(self._of()._transaction_status == FAILED)

    def is_healthy(self) -> bool:
        """Return True unless the physical connection is known to have ended."""
        connection = self._of()
        return connection._usock is not None and LOST not in connection.__dict__

    def forget_prepared(self) -> None:
        """Have a prepared statement of the app's be prepared anew."""
        forget(self.record)

    def process(self) -> int:
        """Return the process that pg8000 was given at login."""
        return int.from_bytes((self._of()._backend_key_data or b"")[_PROCESS], "big")

    def status(self, name: str) -> str | None:
        """Return a value that the server reports whenever it changes."""
        value: str | None = self._of().parameter_statuses.get(name)
        return value

    def statuses(self, names: Sequence[str]) -> tuple[str | None, ...]:
        """Return several of them."""
        reported = self._of().parameter_statuses
        return tuple([reported.get(name) for name in names])

    def where(self) -> tuple[object, ...]:
        """Return the key of the cache of functions: server and database."""
        place: Address = self._of().__dict__[PLACE]
        return (*place, database_of(self.record.arguments.keywords))
