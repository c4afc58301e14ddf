"""What is kept for connections whatever their driver: where, how their sockets are looked at, and what a fork means."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Protocol
from weakref import WeakSet

from instrumented_wrapper import pages

__all__ = [
    "KEY",
    "drop_all",
    "holding",
    "missing_in",
    "never",
    "poll_of",
    "unwrapped",
    "wait_for",
    "watch",
    "watched",
]

KEY: Final = "_instrumented_wrapper"  # in the connection's own ``__dict__``
_A_WHILE: Final = 1000  # milliseconds


class _Watched(Protocol):
    driver_name: str
    connection: Any  # a weak reference

    def became_foreign(self) -> None:
        """The connection belongs to the parent process."""

    def hold(self) -> None:
        """The connection is not the app's yet."""

    def hand_out(self) -> None:
        """Now it is."""


_live: WeakSet[Any] = WeakSet()
_held: ContextVar[list[_Watched] | None] = ContextVar("held", default=None)


@contextmanager
def holding() -> Iterator[None]:
    """While inside, connections that are made are not the app's yet: what configures them is the baseline."""
    held: list[_Watched] = []
    token = _held.set(held)
    try:
        yield
    finally:
        _held.reset(token)
        for record in held:
            record.hand_out()


def watch(record: _Watched) -> None:
    """Tell `record` should this process become a forked child, and hold it where it is not the app's yet."""
    _live.add(record)
    if (held := _held.get()) is not None:
        held.append(record)
        record.hold()


def watched(driver_name: str) -> list[Any]:
    """Return the records of a driver."""
    return [record for record in list(_live) if record.driver_name == driver_name]


def drop_all(driver_name: str) -> None:
    """Forget every record of a driver: the connections go on, unobserved."""
    for record in watched(driver_name):
        _live.discard(record)
        if (connection := record.connection()) is not None:
            connection.__dict__.pop(KEY, None)


def missing_in(connection: Any) -> tuple[str, ...]:
    """Return the security state that a switch could not carry and the app has not set again."""
    record: Any = getattr(connection, "__dict__", {}).get(KEY)
    return () if record is None or record.refusal.error is None else tuple(record.on_server.missing)


def unwrapped(connection: Any) -> Any:
    """Return the driver's own object, where a pool or another tool has put a proxy around it."""
    while hasattr(connection, "__wrapped__"):
        connection = connection.__wrapped__
    return connection


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
    for record in list(_live):
        record.became_foreign()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
