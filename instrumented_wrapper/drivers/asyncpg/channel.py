"""How PostgreSQL is talked with about settings on a connection of asyncpg, past all that is patched.

asyncpg drops the rows of a simple query, and its other queries take two round trips and the app's codecs. A COPY brings
the rows as text, in one round trip; only SHOW, which must take no snapshot, is a query of its own.
"""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, Final, TypeVar

from asyncpg import exceptions
from asyncpg.protocol import NO_TIMEOUT, Protocol, Record

from instrumented_wrapper.databases.postgresql import questions
from instrumented_wrapper.databases.postgresql.state import LISTEN
from instrumented_wrapper.drivers import Assigned
from instrumented_wrapper.drivers.engine.adapted_record import Record as Session
from instrumented_wrapper.drivers.server_session import Rows, Values
from instrumented_wrapper.drivers.server_session.postgresql import (
    PostgreSQLSettings,
    assign_settings,
    query_settings,
    resync_settings,
    verify_settings,
)
from instrumented_wrapper.plans import Assignment

Result = TypeVar("Result")
_query: Final[Any] = Protocol.query
_copy_out: Final[Any] = Protocol.copy_out
_prepare: Final[Any] = Protocol.prepare
_bind_execute: Final[Any] = Protocol.bind_execute
FAILED: Final = "_instrumented_wrapper_failed"
_ENDED: Final = "_instrumented_wrapper_ended"
_LAST_WORDS: Final = ("FATAL", "PANIC")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_UNESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v"}


def is_failed(protocol: Any) -> bool:
    """Return True if the open transaction has failed, which asyncpg does not expose."""
    return bool(protocol.__dict__.get(FAILED)) and bool(protocol.is_in_transaction())


def has_ended(protocol: Any, error: BaseException | None = None) -> bool:
    """Return True if the session has ended: asyncpg knows it, or has read the server's last message."""
    if getattr(error, "severity_en", None) in _LAST_WORDS or getattr(error, "severity", None) in _LAST_WORDS:
        protocol.__dict__[_ENDED] = True
    return _ENDED in protocol.__dict__ or not protocol.is_connected()


def mark_failed(protocol: Any, failed: bool) -> None:
    """Record whether the last statement of a transaction has failed."""
    protocol.__dict__[FAILED] = failed


async def send(connection: Any, text: str) -> Rows:
    """Send a text; return the rows of its last query.

    Raises:
        PostgresError: the server refused the text or has gone. The error is without its message, which may contain
            values.
    """
    protocol = connection._protocol
    if protocol is None:
        raise exceptions.ConnectionDoesNotExistError("the connection is closed")
    try:
        if (copying := questions.copied(text)) is None:
            await _query(protocol, text, None)
            return []
        return await _rows(protocol, copying)
    except exceptions.PostgresError as error:
        has_ended(protocol, error)
        raise _without_values(error) from None
    except (exceptions.InterfaceError, exceptions.InternalClientError, OSError) as error:
        if isinstance(error, exceptions.InternalClientError):  # words that came unasked are read: nothing else is
            protocol.__dict__[_ENDED] = True
            _leave_no_future(protocol)
        raise exceptions.ConnectionDoesNotExistError("the connection does not work any more") from error


def _leave_no_future(protocol: Any) -> None:
    """Remove the future of a COPY that asyncpg refuses: asyncio would log its error at the end."""
    for each in gc.get_referents(protocol):
        if asyncio.isfuture(each):
            each.add_done_callback(lambda future: future.cancelled() or future.exception())


async def _rows(protocol: Any, text: str) -> Rows:
    pieces: list[bytes] = []

    async def keep(data: bytes) -> None:
        pieces.append(bytes(data))

    await _copy_out(protocol, text, keep, NO_TIMEOUT)
    lines = b"".join(pieces).decode("utf-8", "surrogateescape").split("\n")[:-1]
    return [[_cell(cell) for cell in line.split("\t")] for line in lines]


def _cell(text: str) -> str | None:
    if text == r"\N":
        return None
    return _ESCAPED.sub(lambda found: _UNESCAPED.get(found[1], found[1]), text) if "\\" in text else text


async def _shown(protocol: Any, text: str) -> str | None:
    state = await _prepare(protocol, "", text, None, ignore_custom_codec=True, record_class=Record)
    state._init_types()
    state._init_codecs()
    rows = await _bind_execute(protocol, state, (), "", 0, False, None)
    return None if rows[0][0] is None else str(rows[0][0])


def _without_values(error: exceptions.PostgresError) -> exceptions.PostgresError:
    state = getattr(error, "sqlstate", None)
    if isinstance(error, exceptions.PostgresConnectionError):
        return error
    made: exceptions.PostgresError = type(error)(f"the server refused what keeps the session ({state})")
    return made


class Channel:
    """A connection of asyncpg; what its generators yield is awaited."""

    error: type[Exception] = exceptions.PostgresError

    def __init__(self, record: Session) -> None:
        self.record = record

    @property
    def _protocol(self) -> Any:
        connection: Any = self.record.connection()
        return None if connection is None else connection._protocol

    def send(self, text: str) -> Generator[Any, Any, Rows]:
        """Send a text, and return the rows of the question that it ends with."""
        rows: Rows = yield send(self.record.connection(), text)
        return rows

    def is_idle(self) -> bool:
        """Return True if no transaction is open."""
        return not self._protocol.is_in_transaction()

    def has_failed(self) -> bool:
        """Return True if the transaction that is open has failed."""
        return is_failed(self._protocol)

    def is_healthy(self) -> bool:
        """Return True unless asyncpg knows that the connection has ended."""
        protocol = self._protocol
        return protocol is not None and not has_ended(protocol)

    def forget_prepared(self) -> None:
        """The server has no prepared statements any more."""
        connection: Any = self.record.connection()
        connection._stmt_cache.clear()
        connection._stmts_to_close.clear()

    def process(self) -> int:
        """Return the process that the server has reported when connecting."""
        return int(self._protocol.get_server_pid())

    def status(self, name: str) -> str | None:
        """Return a value that the server reports whenever it changes."""
        protocol = self._protocol
        return None if protocol is None else getattr(protocol.get_settings(), name, None)

    def statuses(self, names: Sequence[str]) -> tuple[str | None, ...]:
        """Return several of them."""
        protocol = self._protocol
        if protocol is None:
            return (None,) * len(names)
        settings = protocol.get_settings()
        return tuple([getattr(settings, name, None) for name in names])

    def where(self) -> tuple[object, ...]:
        """Return the key of the cache of functions: server and database."""
        connection: Any = self.record.connection()
        return (connection._addr, connection._params.database)

    async def show(self, names: Sequence[str]) -> Values:
        """Query values within the app's transaction, which is not disturbed."""
        known, protocol = self.record.on_server, self._protocol
        defaults = [n for n in names if ("." in n and not known.is_configured(n)) or known.is_masked(n)]
        *steps, undone = questions.showing(names, defaults)
        values: Values = {}
        try:
            await _query(protocol, steps.pop(0), None)
            for text in steps:
                if text.startswith("SHOW"):
                    value = await _shown(protocol, text)
                    name = names[len(values)]
                    values[name] = value or None if "." in name else value
                else:
                    await _query(protocol, text, None)
        finally:
            if not has_ended(protocol):
                await _query(protocol, undone, None)
        return values


class AsyncTalking(PostgreSQLSettings):
    """Talks; what it waits for is awaited."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel, channel.status, channel.statuses, channel.where)
        self._asyncpg = channel

    def query_settings(self, names: Sequence[str]) -> Any:
        """Query the values of settings."""
        if self._asyncpg.is_idle():
            return _driven(query_settings(self._asyncpg, names))
        return self._asyncpg.show(names)

    def assign(self, assignments: Sequence[Assignment], clears: Sequence[str], back: bool) -> Any:
        """Clear state and give settings, in one round trip."""
        return self._assign(_driven(assign_settings(self._asyncpg, assignments, clears, back)))

    async def _assign(self, assigned: Awaitable[Assigned | None]) -> Assigned | None:
        done = await assigned
        connection: Any = self._asyncpg.record.connection()
        if done is not None and LISTEN in done.done and connection is not None:
            connection._listeners.clear()  # as asyncpg's own reset does
        return done

    def resync(self) -> Any:
        """Query everything uncertain and update the session."""
        return _driven(resync_settings(self._asyncpg))

    def verify(self) -> Any:
        """Ask for all that is tracked."""
        return _driven(verify_settings(self._asyncpg))


async def _driven(gen: Generator[Awaitable[Any], Any, Result]) -> Result:
    """Await what a generator yields."""
    step: Callable[[Any], Awaitable[Any]] = gen.send
    given: Any = None
    try:
        while True:
            waited = step(given)
            try:
                step, given = gen.send, await waited
            except Exception as error:  # noqa: BLE001 - the generator decides
                step, given = gen.throw, error
    except StopIteration as end:
        result: Result = end.value
        return result
    finally:
        del given  # or this frame would keep an error, and it this frame
