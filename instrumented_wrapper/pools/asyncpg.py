"""asyncpg.Pool, which resets returned connections itself: what that leaves behind joins its own round trip.

``RESET ALL`` is the pool's, and leaves the role, the session authorization and temporary tables to the next user. It
also removes what the pool's ``init`` has set, as without the wrapper: that is not restored. If the app defines the
reset itself, by ``reset=`` or its own ``get_reset_query``, it runs after our reset.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

from asyncpg import exceptions, pool
from asyncpg.connection import Connection

from instrumented_wrapper import handlers
from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.databases.postgresql.settings import IDENTITY
from instrumented_wrapper.databases.postgresql.state import TEMPORARY, clearing
from instrumented_wrapper.drivers import Driver, Flows
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.drivers.registry import configuring, tracked
from instrumented_wrapper.operations import PoolState
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.pools import metrics
from instrumented_wrapper.pools.metrics import name_by
from instrumented_wrapper.pools.returning import CLOSE, ON, REPORT, is_refused, policy

Method = Callable[..., Any]
logger = logging.getLogger("instrumented_wrapper")
_effects_of: Final = functools.lru_cache(64)(postgresql.scan)  # of what resets: each return comes here
PARTS: Final[dict[Any, list[str]]] = {
    pool.Pool: """_acquire _get_new_connection release get_idle_size get_size get_min_size get_max_size ._closed
    ._holders ._queue""".split(),
    pool.PoolConnectionHolder: ["release", "._con", "._in_use", "._pool"],
    Connection: ["reset", "get_reset_query|_get_reset_query"],
}


class _NotReset(Exception):
    """The pool must discard a connection: its session could not be reset, which is logged."""


@dataclass
class _Return:
    """A connection that its pool is resetting.

    Attributes:
        session: the session of the connection.
        text: the text that the pool sends for it, in one round trip; empty if the app defines the reset itself.
        observed: observes the reset until the text is sent.
        only_rolls_back: the pool sends only a ROLLBACK for now.
    """

    session: TrackedConnection
    text: str = ""
    only_rolls_back: bool = False
    observed: ExitStack = field(default_factory=ExitStack)


_under_way: Final[ContextVar[_Return | None]] = ContextVar("return", default=None)


def _state(queue: Any) -> PoolState | None:
    """Return the present state of the pool that owns a queue of free holders; None for a closed pool."""
    holders = vars(queue)[_HOLDERS]
    own = holders[0]._pool
    if own._closed:
        return None
    idle, size = own.get_idle_size(), own.get_size()
    waiting = sum(not waiter.done() for waiter in queue._getters)
    return PoolState(idle, size - idle, own.get_min_size(), own.get_max_size(), waiting)


def _queue_of(own: Any) -> Any:
    """Return the queue of a pool, whose own class has slots only, and have it know the holders."""
    if own._queue is None:  # nobody has awaited the pool
        return SimpleNamespace()
    vars(own._queue).setdefault(_HOLDERS, own._holders)
    return own._queue


_HOLDERS: Final = "_instrumented_wrapper_holders"
_MEASURED: Final = metrics.MeasuredPool(
    takes="_acquire",
    gives="release",
    connection_of=lambda proxy: getattr(proxy, "_con", None),
    state=_state,
    exhausted=(TimeoutError,),
    keeper=_queue_of,
)


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch the pool."""
    patches.close_over(pool.Pool, "_get_new_connection", _configuring)
    patches.close_over(pool.PoolConnectionHolder, "release", functools.partial(_releasing, flows))
    if options.metrics:
        metrics.install_async(patches, flows.pools, pool.Pool, _MEASURED)
    if hasattr(Connection, "_reset"):
        patches.close_over(Connection, "get_reset_query", functools.partial(_adding, flows))
        patches.close_over(Connection, "_reset", functools.partial(_rolling_back, flows))
    else:  # before 0.30, where the app has no way of its own
        patches.close_over(Connection, "_get_reset_query", functools.partial(_adding, flows))
        patches.close_over(Connection, "reset", functools.partial(_calling_handler, flows))
    patches.close_over(Connection, "reset", functools.partial(_resetting, flows))


def _configuring(original: Method) -> Method:
    """``Pool._get_new_connection``: what ``init`` sets is the baseline."""

    @functools.wraps(original)
    async def _get_new_connection(self: Any) -> Any:
        with configuring():
            return await original(self)

    return _get_new_connection


def _releasing(flows: Flows, original: Method) -> Method:
    """``PoolConnectionHolder.release``: no loss starts a switch meanwhile, and what asyncpg sends is its own."""

    @functools.wraps(original)
    async def release(self: Any, timeout: Any) -> None:
        connection = self._con
        if connection is None and self._in_use is None:  # lost since the app has called `Pool.release`, and gone
            return
        found = None if connection is None or self._in_use is None else tracked(connection)
        if found is None:
            await original(self, timeout)
            return
        driver, session = found
        # before 0.32, asyncpg would not take back the place in the pool of what has ended
        ended = session.lost is not None or driver.is_lost(connection)
        if is_refused(session, logger) or ended or (session.changed and policy(session, ON) == CLOSE):
            driver.end(connection)
            return
        async with driver.lock(connection):
            with driver.returning(connection), _alone(session), _under_way_for(session), suppress(_NotReset):
                await original(self, timeout)

    return release


@contextmanager
def _alone(session: Any) -> Iterator[None]:
    before, session.active_caller = session.active_caller, session.caller()
    try:
        yield
    finally:
        session.active_caller = before


@contextmanager
def _under_way_for(session: TrackedConnection) -> Iterator[None]:
    token = _under_way.set(_Return(session))
    try:
        yield
    finally:
        _under_way.reset(token)


def _return_of(connection: Any) -> _Return | None:
    """Return the `_Return` of a connection; None if no pool is resetting it."""
    current = _under_way.get()
    return current if current is not None and current.session.connection() is connection else None


@contextmanager
def _losing(connection: Any, session: TrackedConnection) -> Iterator[None]:
    """While inside, a loss makes the pool discard the connection; with failover on, the app gets no error.

    The same holds if the session had ended before: asyncpg itself raises nothing once it has read that.
    """
    try:
        yield
    except (exceptions.PostgresError, exceptions.InterfaceError, exceptions.InternalClientError, OSError) as error:
        unasked = isinstance(error, exceptions.InternalClientError)  # the server's last words were read before
        if not (unasked or (session.failover and _driver_of(connection).is_lost(connection, error))):
            raise
        logger.info("asyncpg's pool discards a connection that was lost: %s", type(error).__name__)
        raise _NotReset from error


def _rolling_back(flows: Flows, original: Method) -> Method:
    """``Connection._reset``, with which each reset begins: it rolls back.

    The app's own handler, and what the app's own way to reset does not do, come after that.
    """

    @functools.wraps(original)
    async def _reset(self: Any) -> None:
        current = _return_of(self)
        with nullcontext() if current is None else _losing(self, current.session):
            await original(self)
        if current is None:
            return
        current.session.on_server.open.end()
        if (by_app := _is_reset_by_app(self)) or handlers.reset_handler() is not None:
            await _reset_by_us(flows, self, current.session, by_app)

    return _reset


def _calling_handler(flows: Flows, original: Method) -> Method:
    """Run the app's handler in ``Connection.reset`` before 0.30, between its rollback and its reset."""

    @functools.wraps(original)
    async def reset(self: Any, *args: Any, **kwargs: Any) -> None:
        current = _return_of(self)
        if current is not None and handlers.reset_handler() is not None:
            current.only_rolls_back = True
            await original(self, *args, **kwargs)
            current.only_rolls_back = False
            current.session.on_server.open.end()
            await _reset_by_us(flows, self, current.session, by_app=False)
        await original(self, *args, **kwargs)

    return reset


async def _reset_by_us(flows: Flows, connection: Any, session: TrackedConnection, by_app: bool) -> None:
    """Apply ``reset_on_return`` before the app's own reset."""
    chosen = policy(session, ON)
    if chosen == ON:
        flow = flows.reset(_driver_of(connection), connection, session, "pool_return")
        if not await flows.run_async(flow):
            raise _NotReset
    if chosen == REPORT and by_app:
        await _report(flows, connection, session)


async def _report(flows: Flows, connection: Any, session: TrackedConnection) -> None:
    flow = flows.report_leak(_driver_of(connection), connection, session, name_by(session.site()))
    await flows.run_async(flow)


def _driver_of(connection: Any) -> Driver:
    """Return the driver of a tracked connection."""
    return tracked(connection)[0]  # type: ignore[index]


def _resetting(flows: Flows, original: Method) -> Method:
    """``Connection.reset``, which is all of it where the app has no way of its own."""

    @functools.wraps(original)
    async def reset(self: Any, *args: Any, **kwargs: Any) -> None:
        current = _return_of(self)
        if current is None or _is_reset_by_app(self):
            return await original(self, *args, **kwargs)  # type: ignore[no-any-return]
        with current.observed, _losing(self, current.session):
            await original(self, *args, **kwargs)
        _settle(current.session, current.text)
        if policy(current.session, ON) == REPORT:
            await _report(flows, self, current.session)
        return None

    return reset


def _adding(flows: Flows, original: Method) -> Method:
    """``Connection.get_reset_query``: with what the pool forgets."""

    @functools.wraps(original)
    def get_reset_query(self: Any) -> Any:
        query, current = original(self), _return_of(self)
        if current is None or _is_reset_by_app(self):
            return query
        if current.only_rolls_back:
            return ""
        session = current.session
        session.on_server.open.end()
        if handlers.reset_handler() is None:
            current.observed.enter_context(flows.reset_by_pool(_driver_of(self), self, session, _NotReset))
        added = _forgotten(session) if policy(session, ON) == ON else ()
        current.text = "\n".join([query, *(f"{text};" for text in added)])
        return current.text

    return get_reset_query


def _forgotten(session: TrackedConnection) -> Iterator[str]:
    """Yield what brings back who the session is, and drops its temporary tables."""
    if not session.options.reset_session_state_on_close or session.shared:
        return
    known = session.on_server
    given = {assignment.name: assignment.text for assignment in known.reset_assignments()}
    for name in IDENTITY:
        if name in given or _is_in_doubt(session, name):
            yield _back(name, given.get(name))
    if TEMPORARY in session.residual.kinds and TEMPORARY not in session.residual.baseline:
        yield clearing(TEMPORARY)


def _is_in_doubt(session: TrackedConnection, name: str) -> bool:
    return name in session.on_server.doubts or session.on_server.in_doubt_at_all


def _back(name: str, value: str | None) -> str:
    words = _words_of(name)
    if value is None:
        return f"RESET {words}"
    return "SET ROLE NONE" if value == "none" else f"SET {words} " + '"' + value.replace('"', '""') + '"'


def _words_of(name: str) -> str:
    return name.upper().replace("_", " ")


def _is_reset_by_app(connection: Any) -> bool:
    """Return True if the app defines how the pool resets: by ``reset=``, or by its own ``get_reset_query``."""
    holder = None if connection._proxy is None else connection._proxy._holder
    if holder is not None and getattr(holder._pool, "_reset", None) is not None:
        return True
    own, usual = (getattr(kind, "get_reset_query", None) for kind in (type(connection), Connection))
    return own is not usual


def _settle(session: TrackedConnection, text: str) -> None:
    """Take the session to be as that leaves it; a pool discards a connection whose reset fails."""
    session.in_flight.clear()
    if (effects := _effects_of(text)) is not None:
        session.in_flight.append(effects)
    session.settle(True, certain=True, idle=True)
    known = session.on_server
    survives = postgresql.survives_reset_all
    known.forget([name for name in known.names if known.is_configured(name) and not survives(name)])
    doubtful = [name for name in IDENTITY if _is_in_doubt(session, name) and _words_of(name) not in text]
    known.doubts.clear()
    known.doubts.update(dict.fromkeys(doubtful, "RESET ALL"))
    session.keep_reported()
    session.refresh_changed()
