"""What is kept for connections whatever their driver: where, how their sockets are looked at, and what a fork means."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakValueDictionary

from instrumented_wrapper import pages
from instrumented_wrapper.drivers import Driver

if TYPE_CHECKING:
    from instrumented_wrapper.drivers.engine.record import TrackedConnection

KEY: Final = "_instrumented_wrapper"  # an attribute of the connection; a property where its class has no dict
_A_WHILE: Final = 1000  # milliseconds


class _Watched(Protocol):
    driver_name: str
    connection: Any  # a weak reference
    held: bool
    recording: bool

    def became_foreign(self) -> None:
        """The connection belongs to the parent process."""

    def hold(self) -> None:
        """The connection is not the app's yet."""

    def hand_out(self) -> None:
        """Now it is."""

    def take_reported(self) -> None:
        """Take what the server has reported by itself."""


_live: WeakValueDictionary[int, Any] = WeakValueDictionary()
_held: ContextVar[list[_Watched] | None] = ContextVar("held", default=None)
_opened_by_package: Final[ContextVar[bool]] = ContextVar("opened_by_package", default=False)
_drivers: dict[str, Driver] = {}
checkout_deadline: Final[ContextVar[float | None]] = ContextVar("checkout_deadline", default=None)


@contextmanager
def configuring(until_checkout: bool = False) -> Iterator[None]:
    """While inside, what configures a new connection is its baseline, not a change of the app's.

    `until_checkout`: also afterwards, until `Session.hand_out` is called.
    """
    held: list[_Watched] = []
    token = _held.set(held)
    try:
        yield
    finally:
        _held.reset(token)
        for record in () if until_checkout else held:
            record.hand_out()


@contextmanager
def handed_to_app() -> Iterator[None]:
    """While inside, connections that are being configured are the app's for the moment: what it sets is a change."""
    held = list(_held.get() or ())
    for record in held:
        record.hand_out()
    try:
        yield
    finally:
        for record in held:
            record.take_reported()
            record.hold()


def hand_out(record: _Watched) -> None:
    """A pool hands a connection out: it is the app's now, or that of a framework which goes on to configure it."""
    if record.held:
        record.hand_out()
    if (held := _held.get()) is not None:
        held.append(record)
        record.hold()


@contextmanager
def opened_by_package() -> Iterator[None]:
    """While inside, connections are opened by a package over the driver, which may never give them to the app."""
    token = _opened_by_package.set(True)
    try:
        yield
    finally:
        _opened_by_package.reset(token)


@contextmanager
def checking_out(deadline: float) -> Iterator[None]:
    """While inside, a pool looks for a connection to hand out: a switch meanwhile ends at `deadline` (monotonic)."""
    token = checkout_deadline.set(deadline)
    try:
        yield
    finally:
        checkout_deadline.reset(token)


def watch(record: _Watched) -> None:
    """Tell `record` should this process become a forked child, and hold it where it is not the app's yet."""
    _live[id(record)] = record
    if _opened_by_package.get():
        record.recording = False
    if (held := _held.get()) is not None:
        held.append(record)
        record.hold()


def records() -> list[Any]:
    """Return the records of all connections; any thread may ask, while others connect and close."""
    found = (record() for record in _live.valuerefs())  # these are copied in one step
    return [record for record in found if record is not None]


def watched(driver_name: str) -> list[Any]:
    """Return the records of a driver."""
    return [record for record in records() if record.driver_name == driver_name]


def drop_all(driver_name: str) -> None:
    """Forget every record of a driver: the connections go on, unobserved."""
    for record in watched(driver_name):
        _live.pop(id(record), None)
        if (connection := record.connection()) is not None:
            drop_record(connection)


def keep_record(connection: object, record: Any) -> None:
    """Keep the record of a connection with it."""
    if (own := getattr(connection, "__dict__", None)) is None:
        setattr(connection, KEY, record)
    else:
        own[KEY] = record


def drop_record(connection: object) -> None:
    """Drop the record of a connection, if it has one."""
    if (own := getattr(connection, "__dict__", None)) is not None:
        own.pop(KEY, None)
    elif hasattr(connection, KEY):
        delattr(connection, KEY)


def know(driver: Driver) -> None:
    """Have `tracked` find connections of a driver that is patched."""
    _drivers[driver.name] = driver


def driver_of(record: _Watched) -> Driver:
    """Return the driver of a connection that is tracked."""
    return _drivers[record.driver_name]


def tracked(connection: object) -> tuple[Driver, TrackedConnection] | None:
    """Return the driver of a connection and its session; None if it is not tracked."""
    record = tracked_as(connection)
    return None if record is None else (_drivers[record.driver_name], record)


def tracked_as(connection: object) -> TrackedConnection | None:
    """Return the session of a connection; None if it is not tracked. Cheap."""
    try:
        record: TrackedConnection | None = object.__getattribute__(connection, KEY)
    except AttributeError:
        return None
    return record


def never(timeout: int) -> Any:
    """Poll nothing."""
    return ()


def poll_of(descriptor: int) -> Callable[[int], Any]:
    """Return a function that tells whether something can be read, waiting so many milliseconds."""
    if not hasattr(select, "poll"):  # Windows
        return lambda timeout: select.select([descriptor], [], [], timeout)[0]
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return poll.poll


def wait_for(descriptor: int) -> None:
    """Wait until something can be read; in Python, so that whoever is interrupted need not wait for the server."""
    poll = poll_of(descriptor)
    while not poll(_A_WHILE):
        pass


def _after_fork_in_child() -> None:
    """The sockets are the parent's: neither peek, reset nor fetch here, and never switch."""
    pages.forget_all()
    for record in records():
        record.became_foreign()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
