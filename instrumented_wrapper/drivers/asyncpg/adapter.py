"""Describe asyncpg to the engine: `AsyncAdapter`. The self-test looks for the private parts that it uses.

asyncpg is in autocommit mode unless SQL begins a transaction, and keeps no setting itself. The record of a connection
is in the dict of its protocol, because its own class has only slots.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

from asyncpg import connect_utils, exceptions, protocol
from asyncpg.connection import Connection

from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.databases.postgresql.connect_errors import answer_to
from instrumented_wrapper.drivers import for_postgresql
from instrumented_wrapper.drivers.asyncpg.channel import AsyncTalking, Channel, has_ended, is_failed, mark_failed, send
from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.adapter import AsyncAdapter, Room
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.registry import KEY, poll_of
from instrumented_wrapper.drivers.server_session import Rows, SettingsClient
from instrumented_wrapper.errors import Address
from instrumented_wrapper.events import ServerAddress

_connect: Final[Any] = connect_utils._connect
_terminate: Final[Any] = Connection.terminate
_is_closed: Final[Any] = Connection.is_closed
_query: Final[Any] = protocol.Protocol.query
# What belongs to the physical connection.
_PHYSICAL: Final = "_protocol _transport _addr _server_version _server_caps _intro_query _reset_query".split()
_TURNS: Final = 5  # of the event loop, until it has read what the server has sent, and its end
_BROKEN: Final = "cannot switch to state"  # an error that came unasked was read: nothing was sent after it
CODECS: Final = "codecs"  # what `record.driver_state` has: by type, in the order in which they were set
ROLE: Final = "target_session_attrs"
_SOCKET_NAME: Final = "/.s.PGSQL."
_ended: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # records of connections that have no protocol any more


class AsyncPG(AsyncAdapter):
    """`AsyncAdapter` for asyncpg."""

    name = "asyncpg"
    room: Room = postgresql
    error: type[Exception] = exceptions.PostgresError
    raises: tuple[type[Exception], ...] = (
        exceptions.PostgresError,
        exceptions.InterfaceError,
        exceptions.InternalClientError,
        OSError,
    )
    operational_error: type[Exception] = exceptions.PostgresConnectionError
    programming_error: type[Exception] = exceptions.InterfaceError
    aliases: Mapping[str, str] = MappingProxyType(  # the contract's names of what only the server keeps
        {
            "read_only": "default_transaction_read_only",
            "isolation_level": "default_transaction_isolation",
            "deferrable": "default_transaction_deferrable",
        }
    )
    kinds: tuple[type[Any], ...] = (Connection,)

    def settings_client(self, connection: Any, record: Record) -> SettingsClient:
        """Talk with PostgreSQL."""
        return AsyncTalking(Channel(record))

    def transaction_status(self, connection: Any, record: Record) -> TransactionStatus:
        """Return the status by the last ReadyForQuery and the outcome of the last statement."""
        pr = connection._protocol
        if pr is None or not pr.is_in_transaction():
            return TransactionStatus.IDLE
        return TransactionStatus.INERROR if is_failed(pr) else TransactionStatus.INTRANS

    def seems_open(self, connection: Any, record: Record) -> bool:
        """Return what asyncpg keeps of the last response."""
        protocol = connection._protocol
        return protocol is not None and bool(protocol.is_in_transaction())

    def begins(self, connection: Any) -> bool:
        """Only BEGIN opens a transaction."""
        return False

    def is_closed(self, connection: Any) -> bool:
        """Return True if the app has closed it, or asyncpg has: that ends what it cannot cancel."""
        if connection._aborted or connection._protocol is None:
            return True
        if not has_ended(connection._protocol):
            return False
        record = record_of(connection)
        return record is None or record.closed_by_app

    def is_lost(self, connection: Any, error: BaseException | None) -> bool:
        """Return True by the state of the protocol, which the event loop updates."""
        pr = connection._protocol
        return pr is not None and has_ended(pr, error)

    def may_have_ended(self, error: BaseException) -> bool:
        """An error that came unasked is read before the end of the session is."""
        return isinstance(error, exceptions.InternalClientError) and _BROKEN in str(error)

    async def is_alive(self, connection: Any) -> bool:
        """Let the event loop read what has come. A protocol that has read an unasked error is of no use any more."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
            if self.is_lost(connection, None):
                return False
        return True

    def socket(self, connection: Any) -> int | None:
        """Return the descriptor of the transport's socket."""
        transport = connection._transport
        sock = None if transport is None or transport.is_closing() else transport.get_extra_info("socket")
        return None if sock is None or sock.fileno() < 0 else int(sock.fileno())

    def poll(self, connection: Any) -> Callable[[int], Any]:
        """Check what the event loop knows, then the socket."""
        pr, descriptor = connection._protocol, self.socket(connection)
        look = None if descriptor is None else poll_of(descriptor)
        if pr is None or look is None:
            return lambda timeout: True
        known = ref(pr)  # which has the record, and that has what is returned here

        def poll(timeout: int) -> Any:
            protocol = known()
            return protocol is None or has_ended(protocol) or look(timeout)

        return poll

    def cutter(self, connection: Any) -> Callable[[], None] | None:
        """Return a function that aborts the transport, so that waiting calls fail."""
        transport = connection._transport
        return None if transport is None else transport.abort

    def peer(self, connection: Any, record: Record) -> ServerAddress:
        host, port = address_of(connection._addr)
        return ServerAddress(postgresql.SYSTEM, str(connection._params.database or ""), host, port)

    site = staticmethod(for_postgresql.site)

    def read(self, connection: Any, setting: str) -> Any:
        """All settings live on the server."""
        raise LookupError(setting)

    def write(self, connection: Any, setting: str, value: Any) -> None:
        """All settings live on the server."""
        raise LookupError(setting)

    async def query(self, connection: Any, text: str) -> Rows:
        """Send a text."""
        return await send(connection, text)

    def text_of(self, cursor: Any, query: Any) -> str:
        return str(query)

    def executed(self, cursor: Any) -> str | None:
        """Return the text of the statement whose rows a cursor reads."""
        return getattr(cursor, "_query", None)

    def exact(self, cursor: Any, query: Any, parameters: Any) -> str | None:
        """Parameters are bound by the server: no text has them."""
        return None

    async def finish(self, connection: Any, command: str) -> None:
        """Send COMMIT or ROLLBACK."""
        await send(connection, command)

    def ended(self, connection: Any, record: Record) -> None:
        """Do nothing: the app's code leaves the block that asyncpg keeps as open."""

    def requested_role(self, record: Record) -> str:
        """Return the app's ``target_session_attrs``, also where it has spelled asyncpg's own default."""
        connection: Any = record.connection()
        wish = getattr(connection._params, "target_session_attrs", None)
        value = str(getattr(wish, "value", wish) or "")
        return "" if value == "any" and not spells_role(record.arguments.keywords) else value

    async def open(self, connection: Any, record: Record, address: Address, role: str, seconds: float) -> Any:
        """Connect to one host with the app's own arguments; asyncpg itself looks for the role."""
        new = await self.open_bare(connection, record, address, role, seconds)
        try:
            for name, args, kwargs in record.driver_state.get(CODECS, {}).values():
                await getattr(new, name)(*args, **kwargs)
            if channels := tuple(connection._listeners):
                await send(new, postgresql.listening(channels))
        except BaseException:
            _terminate(new)
            raise
        return new

    async def open_bare(self, connection: Any, record: Record, address: Address, role: str, seconds: float) -> Any:
        """Connect without codecs and listeners, in the loop that runs."""
        host, port = address
        given = {**record.arguments.keywords, "host": host, "port": port or record.driver_state["port"]}
        if role:
            given[ROLE] = role
        if "loop" in given:
            given["loop"] = asyncio.get_running_loop()
        return await _connect(connection_class=type(connection), **given)

    async def checked(self, connection: Any, role: str, asks: bool) -> bool | None:
        """Send a query: asyncpg knows the kind of server, but an endpoint may accept a login and then serve nobody."""
        if asks:
            await send(connection, "SELECT 1")
        return await self.is_standby(connection)

    def answer(self, error: BaseException) -> tuple[str, str, bool]:
        """Classify by the SQLSTATE, or by the text if there is none."""
        if isinstance(error, exceptions.TargetServerAttributeNotMatched):
            return "wrong_role", "is not the kind of server that is wanted", False
        said = _words_of(error) if isinstance(error, OSError) else str(error)
        return answer_to(said, "read-only or not, as it was", getattr(error, "sqlstate", None) or "")

    def key(self, connection: Any, record: Record) -> tuple[Any, ...]:
        """Return the user and the database of the login; of the password only a hash is kept."""
        params = connection._params
        return (params.user, params.database, hash(str(params.password)))

    def swap(self, connection: Any, other: Any) -> Any:
        """Exchange the protocols, and what belongs to them; what was prepared in the former session is not here."""
        record = connection._protocol.__dict__.pop(KEY)
        for one in (connection, other):
            one._clean_tasks()  # a cancellation of the former statement would reach the new session
        for name in _PHYSICAL:
            if hasattr(connection, name):
                ours = getattr(connection, name)
                setattr(connection, name, getattr(other, name))
                setattr(other, name, ours)
        for one in (connection, other):
            one._protocol.set_connection(one)
            one._stmt_cache.clear()
            one._stmts_to_close.clear()
        connection._protocol.__dict__[KEY] = record
        return other

    async def refuse(self, connection: Any) -> None:
        pr = connection._protocol
        try:
            await _query(pr, postgresql.ABORTED_TRANSACTION, None)
        except exceptions.PostgresError:
            mark_failed(pr, failed=True)
        if not is_failed(pr):
            raise exceptions.PostgresConnectionError("the new session could not be left in an aborted transaction")

    def shut(self, connection: Any, for_good: bool) -> None:
        """End the physical connection without a word."""
        _terminate(connection)
        if connection._protocol is not None:  # before 0.32, asyncpg only forgets one that has ended
            connection._abort()

    async def demoted(self, connection: Any, record: Record, error: BaseException) -> bool:
        """Return True if the server is a standby now and the app did not ask for one."""
        state, where = getattr(error, "sqlstate", None), getattr(error, "server_source_function", None)
        is_standby = bool(await self.is_standby(connection))
        return for_postgresql.is_demoted(record, state, where, self.requested_role(record), is_standby)

    async def is_standby(self, connection: Any) -> bool | None:
        """Return True if the server reports that it is a standby, which PostgreSQL does from 14 on."""
        reported = getattr(connection._protocol.get_settings(), "in_hot_standby", None)
        return None if reported is None else reported == "on"


def address_of(address: Any) -> Address:
    """Return the host and port of what asyncpg has connected to; of a socket its folder, as libpq has it."""
    if not isinstance(address, str):
        return str(address[0]), int(address[1])
    folder, _, port = address.rpartition(_SOCKET_NAME)
    return folder, int(port) if port.isdigit() else None


def _words_of(error: OSError) -> str:
    """Return the system's words; asyncio has put its own in their place."""
    if "Connect call failed" in str(error):  # also of several addresses, which are one error without a number
        return os.strerror(error.errno) if error.errno else "refused"
    return str(error)


def spells_role(given: Mapping[str, Any]) -> bool:
    """Return True if the app states which kind of server it wants, even if that is the default."""
    in_dsn = ROLE in str(given.get("dsn") or "")
    return in_dsn or given.get(ROLE) is not None or bool(os.environ.get(f"PG{ROLE.upper().replace('_', '')}"))


def kept_with_protocol() -> property:
    """Return the attribute of connections that holds their record, stored with the protocol."""

    def get(connection: Any) -> Any:
        pr = connection._protocol
        found = _ended.get(connection) if pr is None else pr.__dict__.get(KEY)
        if found is None:
            raise AttributeError(KEY)
        return found

    def put(connection: Any, record: Any) -> None:
        connection._protocol.__dict__[KEY] = record

    def drop(connection: Any) -> None:
        _ended.pop(connection, None)
        if connection._protocol is not None:
            connection._protocol.__dict__.pop(KEY, None)

    return property(get, put, drop)


def leaving_record(connection: Any) -> None:
    """Preserve the record of a connection that is about to lose its protocol."""
    pr = connection._protocol
    if pr is not None and (record := pr.__dict__.pop(KEY, None)) is not None:
        _ended[connection] = record


ADAPTER: Final = AsyncPG()
