"""What is patched of aiomysql and of asyncmy alike: how they connect, and the methods of a connection that send."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from instrumented_wrapper.batches import first_taken
from instrumented_wrapper.databases.mysql import tracking
from instrumented_wrapper.databases.mysql.connect_arguments import requested_site
from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.engine.adapted_record import Arguments
from instrumented_wrapper.drivers.engine.async_calls import AsyncMethodWrappers, coroutine_function
from instrumented_wrapper.drivers.engine.async_driver import AsyncDriver
from instrumented_wrapper.drivers.engine.async_endings import AsyncEndWrappers
from instrumented_wrapper.drivers.engine.async_record import AsyncRecord
from instrumented_wrapper.drivers.engine.connect_search import connected_async
from instrumented_wrapper.drivers.engine.flow import StatementFlow
from instrumented_wrapper.drivers.engine.partial_execution import in_parts, of_the_rest
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.engine.request import Request
from instrumented_wrapper.drivers.engine.sync_endings import ENDINGS
from instrumented_wrapper.drivers.for_async_mysql import CLIENT_SESSION_TRACK, ForAsyncMySQL
from instrumented_wrapper.drivers.for_mysql import asked_of_mysql, calls_procedure, selects, sets_autocommit, sets_names
from instrumented_wrapper.drivers.for_pymysql import COM_QUERY, querying, shows_reconnect
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.drivers.session_track import TRACKED
from instrumented_wrapper.errors import Address
from instrumented_wrapper.options import CONNECT, Options, take_keywords
from instrumented_wrapper.patching import Patches

Method = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Seams:
    """Patches the connections of one driver, and has what its own file needs to patch the rest.

    Attributes:
        patches: what was patched.
        adapter: the driver.
        driver: what the lifecycle asks of it.
        options: those of the process.
        flows: the lifecycle.
        spans: of operations.
        calls: makes the closures of methods.
    """

    patches: Patches
    adapter: ForAsyncMySQL
    driver: AsyncDriver
    options: Options
    flows: Flows
    spans: QuerySpans
    calls: AsyncMethodWrappers

    @classmethod
    def of(cls, patches: Patches, adapter: ForAsyncMySQL, driver: AsyncDriver, options: Options, flows: Flows) -> Seams:
        """Make it for one driver."""
        spans = QuerySpans(adapter, flows.operations)
        calls = AsyncMethodWrappers(adapter, StatementFlow(adapter, driver, flows, flows.run_async), spans)
        return cls(patches, adapter, driver, options, flows, spans, calls)

    def over(self, name: str, make: Callable[[Method], Method]) -> None:
        """Replace a method of connections by the closure that `make` returns for it."""
        self.patches.close_over(self.adapter.kinds[0], name, make)

    def connections(self, connect: str, read: Callable[[Method], Method] = lambda original: original) -> None:
        """Patch the connections.

        Args:
            connect: the name of the method that connects one.
            read: makes what receives the answer that a method of connections has read, where only a cursor does it.
        """
        calls, spans = self.calls, self.spans
        endings = AsyncEndWrappers(self.adapter, calls, spans)
        self.over("__init__", self._constructing)
        self.over(connect, self._connecting)
        self.over("query", lambda original: coroutine_function(querying(calls.script(read(original), "sql"), original)))
        for name, what in ENDINGS.items():
            self.over(name, functools.partial(endings.ending, call=what))
        self._call("autocommit", effects=sets_autocommit)
        self._call("select_db", effects=selects)
        self._call("set_charset", effects=sets_names)
        self._call("show_warnings", reads_last=True)
        self._call("kill")
        self.over("ping", lambda original: calls.call(_pinging(original), Request.STATEMENT))
        self.over("ping", lambda original: coroutine_function(shows_reconnect(original)))

    def _call(self, name: str, begin: Method | None = None, effects: Any = None, reads_last: bool = False) -> None:
        make = functools.partial(self.calls.call, call=Request.STATEMENT, begin=begin, effects=effects)
        self.over(name, functools.partial(make, reads_last=reads_last))

    def _constructing(self, original: Method) -> Method:
        """``Connection.__init__``: our keywords are taken out."""
        adapter, options = self.adapter, self.options

        @functools.wraps(original)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            adapter.before_construction(self)
            ours = take_keywords(kwargs)
            checked = options.with_keywords(ours, CONNECT) if ours else options
            original(self, *args, **kwargs)
            if (checked := adapter.options_of(self, checked)) is None:  # type: ignore[assignment]
                return
            record = AsyncRecord(adapter, self, checked, Arguments(args, dict(kwargs)))
            record.configuring, record.off = True, True
            self.__dict__[KEY] = record

        return __init__

    def _connecting(self, original: Method) -> Method:
        """The method that connects: from here on the connection is watched; a second time it begins a new session."""
        adapter, flows, spans = self.adapter, self.flows, self.spans

        @functools.wraps(original)
        async def connect(self: Any) -> Any:
            record: AsyncRecord | None = self.__dict__.get(KEY)
            if record is None or adapter.is_open(self):
                return await original(self)
            if record.generation:
                result = await original(self)
                record.session_restarted(self)
                return result
            given, result = adapter.asked_for_by(self), None

            async def attempt(address: Address | None, seconds: float) -> Any:
                nonlocal result
                if address is not None:
                    return await adapter.opened_like(self, record, address)
                result = await original(self)
                return self

            with spans.connect(record.options, functools.partial(requested_site, given)):
                found = await connected_async(
                    adapter, flows, record.options, lambda: asked_of_mysql(given, record.options), attempt
                )
            if found is not self:
                adapter.exchange(self, found)
            record.driver_state = {"charset": self._charset}
            record.configuring = False
            await record.attach_async(self, (adapter.where(self),))
            record.settings_client.keep_reported()
            spans.attend(record, record.options)
            return result

        return connect

    def authenticating(self, original: Method) -> Method:
        """``Connection._request_authentication``: say that we understand what the server reports, where it can."""
        adapter = self.adapter

        @functools.wraps(original)
        async def _request_authentication(self: Any) -> Any:
            known, flags = self.__dict__, getattr(self, adapter.flags)
            ours = KEY in known and not flags & CLIENT_SESSION_TRACK  # an app that tracks is let alone
            wanted = known.pop(TRACKED, None) is not None or ours
            if not (wanted and self.server_capabilities & CLIENT_SESSION_TRACK):
                return await original(self)
            setattr(self, adapter.flags, flags | CLIENT_SESSION_TRACK)
            answer = await original(self)
            adapter.logged_in(self)
            await _track(self)
            return answer

        return _request_authentication


def methods_of_cursors(seams: Seams, connection: str) -> dict[str, Callable[[Method], Method]]:
    """Return what makes the closure of each method of buffered cursors, by name.

    Args:
        seams: of the driver.
        connection: the attribute of a cursor that has its connection.
    """
    calls, spans, connection_of = seams.calls, seams.spans, attrgetter(connection)
    make = functools.partial(calls.statement, connection_of=connection_of, named="query")
    return {
        "execute": make,
        "executemany": lambda original: first_taken(spans.nobody, make(in_parts(original), begin=spans.batch)),
        "callproc": lambda original: calls.call(
            original, Request.STATEMENT, spans.procedure, calls_procedure, connection_of
        ),
        "nextset": functools.partial(_nextset, calls, connection_of),
    }


class _NoOtherSet:
    """What a ``nextset`` within ``execute`` waits for where there is none: no coroutine is made."""

    __slots__ = ()

    def __await__(self) -> Iterator[None]:
        return _NOTHING


_NOTHING: Final[Iterator[None]] = iter(())
_NO_OTHER_SET: Final = _NoOtherSet()


def _nextset(calls: AsyncMethodWrappers, connection_of: Callable[[Any], Any], original: Method) -> Method:
    """``Cursor.nextset``, with which each ``execute`` begins: mostly there is nothing to be read."""
    reading = calls.fetch(of_the_rest(original), connection_of)

    @functools.wraps(original)
    def nextset(self: Any) -> Any:
        result = self._result
        if result is not None and result.has_next:
            return reading(self)
        connection = connection_of(self)
        record = None if connection is None else connection.__dict__.get(KEY)
        is_within = record is not None and record.active_caller is True
        return original(self) if not is_within or (result is not None and result.unbuffered_active) else _NO_OTHER_SET

    return coroutine_function(nextset)


def taking_keywords(original: Method, connected: Method) -> Method:
    """``connect``, which lists its keywords: ours go past it, to ``Connection.__init__``.

    Args:
        original: the driver's.
        connected: connects with all arguments by name; ours are ``instrumented_wrapper``.
    """
    signature = inspect.signature(original)

    @functools.wraps(original)
    def connect(*args: Any, **kwargs: Any) -> Any:
        if not (ours := take_keywords(kwargs)):
            return original(*args, **kwargs)
        given = signature.bind(*args, **kwargs).arguments
        return connected(**given, instrumented_wrapper=ours)

    return connect


def _pinging(original: Method) -> Method:
    """``Connection.ping``: it connects anew by itself, without the session, so not where a loss leads to a switch."""

    @functools.wraps(original)
    async def ping(self: Any, reconnect: bool = True) -> None:
        record: AsyncRecord | None = self.__dict__.get(KEY)
        await original(self, reconnect and not (record is not None and record.switchable))

    return ping


async def _track(connection: Any) -> None:
    """Have the server report what changes, beginning with the character sets."""
    connection.__dict__[TRACKED] = True
    await connection._execute_command(COM_QUERY, tracking.BEGIN)
    await connection._read_ok_packet()
