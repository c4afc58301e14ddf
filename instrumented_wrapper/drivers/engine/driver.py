"""`Driver`: the lifecycle's view of a driver, implemented over its adapter.

`sync_driver` and `async_driver` add how calls are carried out, bounded and raced.
"""

from __future__ import annotations

import contextlib
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Final
from weakref import ref

from instrumented_wrapper.drivers import Flow, NoAnswer, Probe, Replacement
from instrumented_wrapper.drivers.engine.adapted_record import Record, record_of
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter
from instrumented_wrapper.drivers.engine.closing import closing_for_good
from instrumented_wrapper.drivers.engine.deadlines import silence
from instrumented_wrapper.drivers.engine.race import SILENT, Opening
from instrumented_wrapper.drivers.engine.request import TransactionStatus
from instrumented_wrapper.drivers.engine.search import (
    ANY,
    Contest,
    find,
    target_of,
)
from instrumented_wrapper.drivers.engine.takeover import (
    candidate,
    exchanging,
    make_internal,
    options_of_candidate,
    taking_over,
)
from instrumented_wrapper.drivers.engine.tracked_driver import TrackedDriver
from instrumented_wrapper.drivers.registry import KEY, drop_record, keep_record
from instrumented_wrapper.errors import Address
from instrumented_wrapper.events import ServerAddress
from instrumented_wrapper.failover import Loss
from instrumented_wrapper.plans import Assignment
from instrumented_wrapper.session import Session

_OUT_OF_STEP: Final = "a call on this connection was interrupted before its answer was read: close it"
_QUESTION: Final = "SELECT 1"  # of a probe: any answer will do


class AdaptedDriver(TrackedDriver):
    """`Driver` for one driver. What may wait returns a value where the driver blocks, else an awaitable."""

    _run: Callable[[Flow[Any]], Any]  # carries a flow out
    _race: Any  # the module that connects to several hosts at once
    _record_class: type[Record] = Record

    def __init__(self, adapter: DriverAdapter) -> None:
        self._adapter = adapter
        self.name, self.settings, self.error_number = adapter.name, adapter.settings, adapter.error_number
        self.operational_error, self.raises = adapter.operational_error, adapter.raises

    @property
    def within(self) -> AdaptedDriver:
        """The same: its calls wait for the server wherever they are made."""
        return self

    def loss_attributes(self, cause: BaseException | None) -> Mapping[str, Any]:
        return self._adapter.loss_attributes(cause)

    def owns(self, connection: object) -> bool:
        return isinstance(connection, self._adapter.kinds)

    def session_of(self, connection: object) -> Session | None:
        return record_of(connection)

    def peer(self, connection: object) -> ServerAddress:
        return _record(connection).peer()

    @abstractmethod
    def lock(self, connection: object) -> Any:
        """Return the lock that excludes another switch, for ``with`` or ``async with``."""

    def read(self, connection: object, setting: str) -> Any:
        """Return the value of a setting that the driver stores."""
        return self._adapter.read(connection, setting)

    def write(self, connection: object, setting: str, value: object) -> None:
        with self._internal_call(connection):
            self._adapter.write(connection, setting, value)

    def reported(self, connection: object, names: Sequence[str]) -> dict[str, str]:
        """Return the values that the server has reported."""
        return _record(connection).settings_client.reported(names)

    def apply_reports(self, connection: object, will_resync: bool = False) -> None:
        record = _record(connection)
        record.settings_client.apply_reports()
        if will_resync and self.is_idle(connection):
            record.settings_client.doubt_unreported()

    def query_settings(self, connection: object, names: Sequence[str]) -> Any:
        return self._run(self._internal(connection, lambda record: record.settings_client.query_settings(names)))

    def assign(
        self, connection: object, assignments: Sequence[Assignment], clears: Sequence[str] = (), back: bool = False
    ) -> Any:
        return self._run(
            self._internal(connection, lambda record: record.settings_client.assign(assignments, clears, back))
        )

    def resync(self, connection: object) -> Any:
        return self._run(self._internal(connection, lambda record: record.settings_client.resync()))

    def verify(self, connection: object) -> Any:
        return self._run(self._internal(connection, lambda record: record.settings_client.verify()))

    def query(self, connection: object, text: str) -> Any:
        return self._run(self._internal(connection, lambda record: self._adapter.query(connection, text)))

    def _internal(self, connection: object, call: Callable[[Record], Any]) -> Flow[Any]:
        """Do something that is ours."""
        with self._internal_call(connection) as record:
            if record.out_of_step:  # the answer would be another statement's
                raise self.operational_error(_OUT_OF_STEP)
            return (yield partial(call, record))

    def detect_pooler(self, connection: object, like: object, deadline: float) -> Flow[bool]:
        yield from ()  # a flow, without a step
        return False

    def is_idle(self, connection: object) -> bool:
        adapter, record = self._adapter, _record(connection)
        if adapter.is_closed(connection) or adapter.is_lost(connection, None) or adapter.is_streaming(connection):
            return False
        if record.out_of_step:
            return False
        return adapter.transaction_status(connection, record) == TransactionStatus.IDLE

    def is_lost(self, connection: object, error: BaseException | None = None) -> bool:
        return self._adapter.is_lost(connection, error)

    def is_in_transaction(self, connection: object) -> bool:
        return self._adapter.transaction_status(connection, _record(connection)) in (
            TransactionStatus.INTRANS,
            TransactionStatus.INERROR,
        )

    def is_closed(self, connection: object) -> bool:
        return self._adapter.is_closed(connection)

    def finish_work(self, connection: object) -> Any:
        return self._run(self._finish_work(connection))

    def _finish_work(self, connection: object) -> Flow[None]:
        record = _record(connection)
        status = self._adapter.transaction_status(connection, record)
        if status == TransactionStatus.INERROR:
            raise self._adapter.error("the handler left an aborted transaction")
        if status == TransactionStatus.INTRANS:
            yield from self._internal(connection, lambda record: self._adapter.finish(connection, "COMMIT"))
            record.used = record.begun = False

    def replacement(self, connection: object, loss: Loss, deadline: float) -> Flow[Replacement]:
        """Find a server, together with the other connections that are lost now, and connect to it."""
        adapter, record = self._adapter, _record(connection)
        login = (self.name, *adapter.key(connection, record))
        role, before = adapter.requested_role(record), record.peer()
        target = target_of(record, loss, record.hosts, role, bool(record.was_standby), login, before)
        new, found = yield from find(target, self._contest(connection, record, loss.probe), deadline)
        return candidate(new, _record(new), record, found, adapter.socket(new), deadline)

    def _contest(self, connection: object, record: Record, asks: bool) -> Contest:
        attempt = partial(self._open, connection, record, asks)  # the frame of a closure would keep the connection
        contest: Contest = self._race.contest(Opening(attempt, self._adapter.answer, self._close))
        return contest

    def _open(self, connection: object, record: Record, asks: bool, address: Address, role: str, seconds: float) -> Any:
        """Connect, and dress it as a connection that is ours alone, at the baseline of the app's. May wait."""
        return self._run(self._opened(connection, record, asks, address, role, seconds))

    def _opened(
        self, connection: object, record: Record, asks: bool, address: Address, role: str, seconds: float
    ) -> Flow[Any]:
        adapter = self._adapter
        new = yield partial(adapter.open, connection, record, address, role, seconds)
        try:
            with self._bounded(new, time.monotonic() + seconds):
                is_standby = yield partial(adapter.checked, new, role, asks)
                self._dress(new, connection, record, address)
            _record(new).was_standby = is_standby
        except BaseException:
            self._close(new)
            raise
        return new

    def _dress(self, new: object, connection: object, record: Record, address: Address) -> None:
        adapter = self._adapter
        internal = self._record_class(adapter, new, options_of_candidate(record), record.arguments)
        make_internal(internal, record)
        internal.begin(new, (address,))
        internal.watch(new)
        for setting in adapter.settings:
            adapter.write(new, setting, record.pristine(setting, adapter.read(connection, setting)))

    def _close(self, connection: object) -> None:
        with contextlib.suppress(Exception):  # nobody wants it any more
            self._adapter.shut(connection, for_good=True)

    def open_probe(self, connection: object, address: Address, seconds: float) -> Flow[Probe | None]:
        adapter = self._adapter
        opening = Opening(partial(adapter.open_bare, connection, _record(connection)), adapter.answer, self._close)
        raised: Any = (*adapter.raises, OSError)
        try:
            session = yield partial(self._race.once, opening, address, ANY, seconds)
        except TimeoutError:
            raise NoAnswer from None
        except raised as error:
            if (outcome := adapter.answer(error)[0]) in SILENT:
                raise NoAnswer from None
            if outcome == "failed":  # nobody knows whether the server has said that
                raise
            return None
        return Probe(session, adapter.socket(session))

    def ask_probe(self, probe: Probe, seconds: float) -> Flow[None]:
        deadline = time.monotonic() + seconds
        try:
            with self._bounded(probe.session, deadline):
                yield partial(self._adapter.query, probe.session, _QUESTION)
        except Exception as error:  # noqa: BLE001 - an answer, unless the session was lost
            if time.monotonic() >= deadline or self._adapter.is_lost(probe.session, error):
                raise NoAnswer from None

    def end_probe(self, probe: Probe) -> None:
        self._close(probe.session)

    def abort_transaction(self, replacement: Replacement) -> Any:
        new = replacement.connection
        return self._run(self._internal(new, lambda record: self._adapter.refuse(new)))

    def graft(self, connection: object, replacement: Replacement) -> None:
        record, other = _record(connection), _record(replacement.connection)
        with taking_over(record):
            with _used_by_wrapper(record), _used_by_wrapper(other):
                drop_record(replacement.connection)
                replacement.connection = old = self._adapter.swap(connection, replacement.connection)
            keep_record(old, other)
            other.connection, record.system = ref(old), other.system
            with exchanging(record, other):
                record.track_physical(connection)
                other.track_physical(old)

    def abandon(self, connection: object) -> None:
        record = _record(connection)
        with closing_for_good(record), _used_by_wrapper(record):
            record.abandoned = True
            self._adapter.shut(connection, for_good=True)

    def silence(self, connection: object) -> None:
        if not self._adapter.is_closed(connection):
            silence(self._adapter.socket(connection))

    def end(self, connection: object) -> None:
        self._close(connection)

    def discard(self, replacement: Replacement) -> None:
        self._close(replacement.connection)

    def check_outside_transaction(self, connection: object, verb: str) -> None:
        """Raise where the connection is closed, or a transaction is open, or something is under way."""
        adapter, record = self._adapter, record_of(connection)
        if adapter.is_closed(connection):
            raise adapter.operational_error(f"{verb} needs an open connection")
        if record is not None and not (self.is_idle(connection) or adapter.is_lost(connection, None)):
            state, remedy = "has an open transaction", "commit or roll back"
            if record.out_of_step:
                raise adapter.programming_error(f"{verb} needs a connection that is in step: {_OUT_OF_STEP}")
            if (
                adapter.is_streaming(connection)
                or adapter.transaction_status(connection, record) == TransactionStatus.ACTIVE
            ):
                state, remedy = "has a result that is not read", "fetch all rows or close the cursor"
            raise adapter.programming_error(
                f"{verb} needs a connection outside a transaction; this one {state}: {remedy} first"
            )

    @contextmanager
    def _internal_call(self, connection: object) -> Iterator[Record]:
        """While inside, what is sent is ours; it fails when the time is up that a switch or a reset has."""
        record = _record(connection)
        limit = record.deadline
        with _used_by_wrapper(record), nullcontext() if limit is None else self._bounded(connection, limit):
            yield record


@contextmanager
def _used_by_wrapper(record: Record) -> Iterator[None]:
    with record.use_lock:
        before, record.active_caller = record.active_caller, record.caller()
        try:
            yield
        finally:
            record.active_caller = before


def _record(connection: object) -> Record:
    """Return the record of a tracked connection."""
    record: Record = object.__getattribute__(connection, KEY)
    return record
