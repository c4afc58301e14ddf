"""Find the driver and its own connection behind what the app holds: proxies, connections of pools and frameworks.

Classes are matched by name (`supported`). No driver is imported, so this also works without instrumentation.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import Any, Final

from instrumented_wrapper.drivers import Driver
from instrumented_wrapper.session import Session
from instrumented_wrapper.supported import driver_names, driver_rooms, holders, thread_calls

logger = logging.getLogger("instrumented_wrapper")
_OF_CONNECTIONS: Final = ("cursor", "commit", "rollback", "close")  # PEP 249


def unwrapped(connection: object) -> Any:
    """Return the driver's own object, where a pool, a framework or another tool has put its own around it."""
    while (held := _held_by(connection)) is not None:
        connection = held
    return connection


def thread_of(connection: object) -> Callable[..., Awaitable[Any]] | None:
    """Return what calls a function in the thread that the driver's connection belongs to; None if it has none.

    Args:
        connection: what the app holds: that of a package which gives asyncio a sync driver, or a proxy around it.
    """
    while connection is not None:
        if (method := _by_class(connection, thread_calls())) is not None:
            return getattr(connection, method)  # type: ignore[no-any-return]
        connection = _held_by(connection)
    return None


def _held_by(connection: object) -> Any:
    attribute = _by_class(connection, holders())
    return getattr(connection, "__wrapped__", None) if attribute is None else getattr(connection, attribute)


def _by_class(connection: object, names: Mapping[str, str]) -> str | None:
    """Return the name that the class of a connection has, or the nearest of its bases."""
    for kind in type(connection).__mro__:
        if (name := names.get(f"{kind.__module__}.{kind.__qualname__}")) is not None:
            return name
    return None


def driver_of(connection: object) -> Driver | None:
    """Return the driver whose connection this is; None for one of a driver that is not

    Raises:
        TypeError: not a connection.
    """
    for name, room in driver_rooms().items():
        driver = _driver_in(room) if name in sys.modules else None
        if driver is not None and driver.owns(connection):
            return driver
    if _is_like_a_connection(connection):
        return None
    raise not_ours(connection)


def not_ours(connection: object) -> TypeError:
    """Return the error of a verb that got no connection of a supported driver."""
    return TypeError(f"not a connection of {', '.join(driver_names())}: {type(connection).__name__}")


def known_session(connection: object, asynchronous: bool) -> tuple[Driver | None, Session | None]:
    """Return the driver and the session behind what the app holds; None where it is not supported, or not tracked.

    Raises:
        TypeError: not a connection, or one of the other kind: sync or async.
    """
    is_in_thread = thread_of(connection) is not None  # what the app holds is async, whatever the driver is
    connection = unwrapped(connection)
    driver = driver_of(connection)
    if driver is None:
        logger.debug("left alone: a connection of a driver that is not supported: %s", type(connection).__qualname__)
        return None, None
    if (is_in_thread or driver.is_async(connection)) is not asynchronous:
        kind, other = ("an async", "without _async") if asynchronous else ("a sync", "ending in _async")
        raise TypeError(f"expected {kind} connection, got {type(connection).__name__}: use the function {other}")
    if (session := driver.session_of(connection)) is None:
        logger.debug("made while nothing was instrumented, and left alone: a connection of %s", driver.name)
    return driver, session


def tracked_session(connection: object, asynchronous: bool) -> tuple[Driver, Session]:
    """Return the same of a connection that has to be tracked.

    Raises:
        TypeError: not a connection of a supported driver, or one of the other kind: sync or async.
        RuntimeError: it was made while nothing was instrumented.
    """
    driver, session = known_session(connection, asynchronous)
    if driver is None:
        raise not_ours(unwrapped(connection))
    if session is None:
        raise RuntimeError("this connection was made while nothing was instrumented: call instrument() before connect")
    return driver, session


def _driver_in(room: str) -> Driver | None:
    try:
        return import_module(room).DRIVER  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001 - not the driver that we know: that was told when it was to be patched
        return None


def _is_like_a_connection(connection: object) -> bool:
    """Return True if it has the methods of a DB-API connection, whatever its driver."""
    try:
        methods = [getattr(connection, name, None) for name in _OF_CONNECTIONS]
    except Exception:  # noqa: BLE001 - a proxy that was closed, and says so in its own way
        return False
    return not isinstance(connection, type) and all(map(callable, methods))
