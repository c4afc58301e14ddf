"""The patched methods of psycopg, except the choke point: how a connection is made, changed, used and closed.

Each function here makes one replacement. They keep the record up to date; the order of steps is the lifecycle's.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Generator
from operator import attrgetter
from typing import Any, Final

from psycopg import pq

from instrumented_wrapper import handlers
from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.drivers import Driver, Flow, Flows
from instrumented_wrapper.drivers.psycopg import steps
from instrumented_wrapper.drivers.psycopg.adapter import silence
from instrumented_wrapper.drivers.psycopg.records import KEY, Record, record_of
from instrumented_wrapper.session import Effects

__all__ = [
    "checking",
    "closing",
    "closing_async",
    "commanding",
    "converting",
    "following",
    "mogrifying",
    "resets_on_close",
    "setting",
]

Method = Callable[..., Any]
_OK: Final = int(pq.ConnStatus.OK)
_IN_TRANSACTION: Final = (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)
_UNSEEN: Final = object()
_MEMO_SIZE: Final = 4096
_MEMO_LONGEST: Final = 4096  # characters; longer texts are rarely sent twice
_memo: dict[str | bytes, Effects | None] = {}


# --- statements -------------------------------------------------------------------------------------------------


def effects_of(text: str | bytes) -> Effects | None:
    """Return what a text may do to the session, read once per text."""
    if (known := _memo.get(text, _UNSEEN)) is not _UNSEEN:
        return known  # type: ignore[return-value]
    effects = postgresql.scan(text if isinstance(text, str) else text.decode(errors="replace"))
    if len(text) <= _MEMO_LONGEST:
        if len(_memo) >= _MEMO_SIZE:
            _memo.clear()
        _memo[text] = effects
    return effects


def converting(original: Method) -> Method:
    """``BaseCursor._convert_query``: every statement of the app passes here before it is sent."""
    memo = _memo

    @functools.wraps(original)
    def _convert_query(self: Any, query: Any, params: Any = None) -> Any:
        converted = original(self, query, params)
        text = query if type(query) is str else converted.query
        effects: Any = memo.get(text, _UNSEEN)
        if effects is None:
            return converted
        if effects is _UNSEEN:
            effects = effects_of(text)
        if effects is not None and (record := record_of(self._conn)) is not None:
            steps.note(record, effects)
        return converted

    return _convert_query


def commanding(original: Method) -> Method:
    """``BaseConnection._exec_command``: the statements that psycopg sends by itself (BEGIN, COMMIT, SAVEPOINT)."""
    memo = _memo

    @functools.wraps(original)
    def _exec_command(self: Any, command: Any, *args: Any, **kwargs: Any) -> Any:
        record: Record | None = self.__dict__.get(KEY)
        if record is not None:
            text = command if isinstance(command, (str, bytes)) else command.as_bytes(self)
            effects: Any = memo.get(text, _UNSEEN)
            if effects is _UNSEEN:
                effects = effects_of(text)
            if effects is not None:
                steps.note(record, effects) if record.alert else record.noted.append(effects)
        return original(self, command, *args, **kwargs)

    return _exec_command


def checking(original: Method) -> Method:
    """``BaseConnection._check_connection_ok``: a dead connection that can be replaced may go on to the choke point."""

    @functools.wraps(original)
    def _check_connection_ok(self: Any) -> None:
        if self.pgconn.status == _OK:
            return
        record = record_of(self)
        if not (record is not None and record.switchable and not record.off and not self._closed):
            original(self)

    return _check_connection_ok


def mogrifying(original: Method) -> Method:
    """``ClientCursor.mogrify``: converts a query and sends nothing."""

    @functools.wraps(original)
    def mogrify(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (record := record_of(self._conn)) is None:
            return original(self, *args, **kwargs)
        record.muted = True
        record.refresh()
        try:
            return original(self, *args, **kwargs)
        finally:
            record.muted = False
            record.refresh()

    return mogrify


def following(member: Any) -> property:
    """``BaseCursor._pgconn``: a cursor has the physical connection that its connection has now.

    All of it is C code. What psycopg assigns is kept in its place, for the time after `uninstrument`.
    """
    return property(attrgetter("_conn.pgconn"), member.__set__, member.__delete__)


# --- settings ---------------------------------------------------------------------------------------------------


def setting(name: str, driver: Driver, flows: Flows) -> Callable[[Method], Method]:
    """``BaseConnection._set_<name>_gen``: every way to set it passes here."""

    def make(original: Method) -> Method:
        @functools.wraps(original)
        def _set_gen(self: Any, *args: Any, **kwargs: Any) -> Generator[Any, Any, None]:
            record = record_of(self)
            if record is None or not _is_the_apps_doing(self, record):
                yield from original(self, *args, **kwargs)
                return
            flows.note_change(driver, self, record, name)
            yield from original(self, *args, **kwargs)
            record.changed_to(name, driver.read(self, name))

        return _set_gen

    return make


def _is_the_apps_doing(connection: Any, record: Record) -> bool:
    if not record.recording or record.off:
        return False
    if hasattr(connection, "_pool"):
        return record.handed_out  # before that it is the pool's ``configure`` or ``check``: the baseline
    record.baseline_done = record.baseline_done or not _inside_connect(type(connection))
    return record.baseline_done


def _inside_connect(kind: type[Any]) -> bool:
    """Tell whether a subclass's own ``connect`` is still running: what it sets belongs to the baseline."""
    overrides = {id(_code_of(base.__dict__["connect"])) for base in kind.__mro__ if "connect" in base.__dict__}
    frame = sys._getframe(1)
    while frame is not None:
        if id(frame.f_code) in overrides:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _code_of(method: Any) -> Any:
    function = inspect.unwrap(getattr(method, "__func__", method))
    return getattr(function, "__code__", None)


# --- the end ----------------------------------------------------------------------------------------------------


def closing(driver: Driver, flows: Flows) -> Callable[[Method], Method]:
    """``Connection.close``."""

    def make(original: Method) -> Method:
        @functools.wraps(original)
        def close(self: Any) -> None:
            record = record_of(self)
            if record is None or _goes_to_pool(self):
                return original(self)  # type: ignore[no-any-return]
            if flow := _last_steps(driver, flows, self, record):
                flows.run(flow)
            return original(self)  # type: ignore[no-any-return]

        return close

    return make


def closing_async(driver: Driver, flows: Flows) -> Callable[[Method], Method]:
    """``AsyncConnection.close``."""

    def make(original: Method) -> Method:
        @functools.wraps(original)
        async def close(self: Any) -> None:
            record = record_of(self)
            if record is None or _goes_to_pool(self):
                return await original(self)  # type: ignore[no-any-return]
            if flow := _last_steps(driver, flows, self, record):
                await flows.run_async(flow)
            return await original(self)  # type: ignore[no-any-return]

        return close

    return make


def _goes_to_pool(connection: Any) -> bool:
    pool = getattr(connection, "_pool", None)
    return bool(pool and getattr(pool, "close_returns", False) and not connection.closed)


def _last_steps(driver: Driver, flows: Flows, connection: Any, record: Record) -> Flow[bool] | None:
    """From now on it stays closed. Returns the reset, where there is one to do."""
    with record.mutex:
        record.closed_by_app = True
        record.refresh()
    if record.foreign:
        if not connection.closed:
            silence(connection)
        return None
    wanted = resets_on_close(record) and not record.returned and _may_reset(driver, connection)
    return flows.reset(driver, connection, record, "close") if wanted else None


def _may_reset(driver: Driver, connection: Any) -> bool:
    """With a transaction open only the app's own handler may do something; with a statement under way nobody."""
    in_transaction = connection.pgconn.transaction_status in _IN_TRANSACTION
    return driver.is_idle(connection) or (in_transaction and handlers.reset_handler() is not None)


def resets_on_close(record: Record) -> bool:
    """Tell whether there may be something to reset."""
    wanted = record.options.reset_session_state_on_close and not (record.off or record.internal)
    return wanted and (record.changed or handlers.reset_handler() is not None)
