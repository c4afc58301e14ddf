"""SQLAlchemy's pools: what configures a new connection is the baseline; a return applies ``reset_on_return``.

Dialects (``isolation_level=`` of an engine) and the app's ``connect`` listeners configure each new connection: that is
no change of the app's, and no reset undoes it. The wrapper acts on a return after SQLAlchemy's rollback, its isolation
finalisers and the app's ``checkin`` listeners. No pool keeps a connection whose security state a switch could not
carry, nor one with a lost transaction. SQLAlchemy skips its rollback after a COMMIT that failed, since it takes the
transaction for ended, so the wrapper rolls the driver's connection back at once.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from sqlalchemy.engine import Connection
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, Pool, QueuePool, SingletonThreadPool, StaticPool
from sqlalchemy.pool.base import _ConnectionFairy, _ConnectionRecord
from sqlalchemy.util import await_only

from instrumented_wrapper.drivers import Driver, Flow, Flows
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.drivers.registry import configuring, tracked, tracked_as
from instrumented_wrapper.errors import FailoverError, FailoverSuccessError
from instrumented_wrapper.options import Options
from instrumented_wrapper.owners import thread_of
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.pools import sqlalchemy_metrics
from instrumented_wrapper.pools.baseline import in_doubt, settled
from instrumented_wrapper.pools.in_threads import own
from instrumented_wrapper.pools.returning import OFF, REPORT, must_end, policy, take_back, to_take_back

try:
    from sqlalchemy.util.concurrency import in_greenlet
except ImportError:  # of the first versions of 2.0, and of 1.4

    def in_greenlet() -> bool:
        """Return True if SQLAlchemy runs this within a coroutine of the app."""
        concurrency: Any = import_module("sqlalchemy.util._concurrency_py3k")
        return isinstance(concurrency.getcurrent(), concurrency._AsyncIoGreenlet)


Method = Callable[..., Any]
logger = logging.getLogger("instrumented_wrapper")
_PING: Final = "_do_ping_w_event"  # of ``pool_pre_ping``
_COMMIT: Final = "_commit_impl"  # of a transaction of SQLAlchemy's
_OPTIONS: Final = "_reset_characteristics"  # of ``execution_options()``, at a return
_SET_BY: Final = {  # the driver's settings that an execution option sets
    "isolation_level": ("isolation_level", "autocommit"),
    "postgresql_readonly": ("read_only",),
    "postgresql_deferrable": ("deferrable",),
}
_CONNECT: Final = "_ConnectionRecord__connect"  # calls the creator, then the listeners
PARTS: Final = {
    _ConnectionRecord: f"""{_CONNECT} checkin invalidate driver_connection .fairy_ref ._ConnectionRecord__pool
    __dict__""".split(),
    _ConnectionFairy: "_reset _checkout ._connection_record".split(),
    Pool: "_return_conn ._orig_logging_name ._dialect dispatch".split(),
    QueuePool: ["._max_overflow"],
}
_OTHER: Final = "opentelemetry.instrumentation.sqlalchemy"  # it listens to the pools of the engines that it traces
_REPORTS: Final = ("auto", REPORT)  # what ``reset_on_return`` is where a return may only report
_KEPT: Final = (NullPool, SingletonThreadPool, StaticPool)  # nobody else gets the connection, or everybody shares it
_DROPPED: Final = "_instrumented_wrapper_dropped"  # in the record's ``__dict__``: nobody has closed the app's object


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch what makes a connection and configures it, and what takes it back."""
    patches.close_over(_ConnectionRecord, _CONNECT, functools.partial(_connecting, flows))
    patches.close_over(_ConnectionRecord, "checkin", _dropping)
    patches.close_over(_ConnectionFairy, "_reset", _rolling_back)
    patches.close_over(Pool, "_return_conn", functools.partial(_returning, flows))
    if hasattr(DefaultDialect, _OPTIONS):
        patches.close_over(DefaultDialect, _OPTIONS, _putting_back)
    if hasattr(Connection, _COMMIT):
        patches.close_over(Connection, _COMMIT, _committing)
    if hasattr(DefaultDialect, _PING):
        patches.close_over(DefaultDialect, _PING, _pinging)
    if options.metrics:
        sqlalchemy_metrics.install(patches, flows.pools, _CONNECT)


def _connecting(flows: Flows, original: Method) -> Method:
    @functools.wraps(original)
    def connect(self: Any) -> None:
        with configuring():
            original(self)
            connection = own(held := self.driver_connection)
            if in_doubt(connection):
                _run(flows, held, settled(connection, flows))
        if (session := tracked_as(connection)) is not None and session.options.query_spans != "on":
            _step_back(session, self._ConnectionRecord__pool)

    return connect


def _step_back(session: TrackedConnection, pool: Any) -> None:
    """Leave the spans of statements to OpenTelemetry's instrumentation of SQLAlchemy, where it traces this engine.

    It measures no durations: those are still recorded.
    """
    if any(type(getattr(heard, "__self__", None)).__module__.startswith(_OTHER) for heard in pool.dispatch.checkout):
        session.spans_wanted = False
        session.operations_wanted = session.operations_wanted and session.options.metrics


# --- a return ---------------------------------------------------------------------------------------------------


def _dropping(original: Method) -> Method:
    """``checkin``: mark what the garbage collector returns. There nothing may be sent or recorded."""

    @functools.wraps(original)
    def checkin(self: Any, *args: object, **kwargs: object) -> Any:
        fairy = self.fairy_ref
        if fairy is not None and fairy() is None:
            self.__dict__[_DROPPED] = True
        return original(self, *args, **kwargs)

    return checkin


def _putting_back(original: Method) -> Method:
    """``_reset_characteristics``: what SQLAlchemy puts back is pristine, also where it is a default spelled out."""

    @functools.wraps(original)
    def _reset_characteristics(self: Any, characteristics: Any, dbapi_connection: Any) -> None:
        original(self, characteristics, dbapi_connection)
        connection = own(self.get_driver_connection(dbapi_connection))
        if (found := tracked(connection)) is not None:
            driver, session = found
            names = (name for option in characteristics for name in _SET_BY.get(option, ()))
            session.became_pristine(names, functools.partial(driver.read, connection))

    return _reset_characteristics


def _committing(original: Method) -> Method:
    """``_commit_impl``: SQLAlchemy takes a COMMIT that failed for the end, and offers no way to roll back after it."""

    @functools.wraps(original)
    def _commit_impl(self: Any) -> None:
        try:
            original(self)
        except DBAPIError as error:
            if isinstance(error.orig, FailoverSuccessError) and error.orig.transaction == "rolled_back":
                self.connection.rollback()
            raise

    return _commit_impl


def _rolling_back(original: Method) -> Method:
    """``_ConnectionFairy._reset``: the rollback of a return, and the app's ``reset`` listeners, start no switch."""

    @functools.wraps(original)
    def _reset(self: Any, *args: object, **kwargs: object) -> None:
        session = tracked_as(self.driver_connection)
        if session is None or not session.switchable:
            return original(self, *args, **kwargs)  # type: ignore[no-any-return]
        session.may_switch(returning=True)
        try:
            return original(self, *args, **kwargs)  # type: ignore[no-any-return]
        finally:
            session.may_switch(returning=False)

    return _reset


def _returning(flows: Flows, original: Method) -> Method:
    """``Pool._return_conn``: all that SQLAlchemy and the app do at a return is done."""

    @functools.wraps(original)
    def _return_conn(self: Any, record: Any) -> None:
        dropped = record.__dict__.pop(_DROPPED, False)
        held = record.driver_connection
        session = tracked_as(held)
        # The frequent path, looked at here: each call costs as much as the rest.
        if session is not None and session.options.reset_on_return in _REPORTS and session.is_clean():
            return original(self, record)  # type: ignore[no-any-return]
        connection = own(held)
        found = to_take_back(connection, REPORT)
        if found is None or (isinstance(self, _KEPT) and not must_end(found[1])):
            return original(self, record)  # type: ignore[no-any-return]
        driver, session = found
        fit = False
        try:
            is_awaited = driver.is_async(connection) or thread_of(held) is not None
            if dropped or (is_awaited and not in_greenlet()):
                fit = _may_stay_unseen(driver, connection, session)
            else:
                fit = _taken_back(flows, self, held, found)
        finally:
            _put(original, self, record, fit)
            session.returned = False
        return None

    return _return_conn


def _taken_back(flows: Flows, pool: object, held: object, found: tuple[Driver, TrackedConnection]) -> bool:
    driver, session = found
    connection, chosen = own(held), OFF if isinstance(pool, _KEPT) else policy(session, REPORT)
    flow = take_back(driver, connection, session, flows, logger, chosen, sqlalchemy_metrics.name_of(pool, connection))
    return bool(_run(flows, held, flow))


def _run(flows: Flows, held: object, flow: Flow[Any]) -> Any:
    """Carry out a flow where the driver's connection may be used, of which `held` is the holder, or is it itself."""
    if (call := thread_of(held)) is not None:
        return await_only(call(flows.run, flow))
    found = tracked(connection := own(held))
    if found is not None and found[0].is_async(connection):
        return await_only(flows.run_async(flow))
    return flows.run(flow)


def _may_stay_unseen(driver: Driver, connection: object, session: TrackedConnection) -> bool:
    """Return True if a connection may stay in the pool though nothing can be sent here; otherwise end it."""
    if policy(session, REPORT) in (OFF, REPORT) and not must_end(session):
        return True
    session.returned = True
    driver.abandon(connection)
    return False


def _put(original: Method, pool: object, record: Any, fit: bool) -> None:
    """Give the pool its record back, which connects anew when it is next checked out if it is not fit."""
    try:
        if not fit:
            record.invalidate()
    finally:
        original(pool, record)


def _pinging(original: Method) -> Method:
    """Wrap the check before a checkout: a loss that was repaired is not an error, since nothing was in flight.

    A connection that cannot be used as before is replaced.
    """

    @functools.wraps(original)
    def ping(self: Any, connection: Any) -> bool:
        try:
            if original(self, connection):
                return True
            session = tracked_as(self.get_driver_connection(connection))
            return (
                session is not None and session.switchable and _answers(connection)
            )  # its driver's ping moves nothing
        except FailoverError as error:
            if not isinstance(error, FailoverSuccessError) or error.not_restored:
                return False
        return _answers(connection)

    return ping


def _answers(connection: Any) -> bool:
    """Return True if the connection works as it was, perhaps in another session; nothing of the ping stays in it."""
    try:
        connection.rollback()
        cursor = connection.cursor()
        try:
            cursor.execute("SELECT 1")
            cursor.fetchall()
        finally:
            cursor.close()
        connection.rollback()
    except Exception as error:  # noqa: BLE001 - the pool replaces it, whatever is wrong with it
        logger.debug("a pooled connection is replaced: %s", type(error).__name__)
        return False
    return True
