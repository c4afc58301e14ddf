"""A connect of the app's object to another host than its own, while a server is looked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from instrumented_wrapper.drivers.engine import connect_search
from instrumented_wrapper.errors import Address

_OF_HOST: Final = ("_host", "_port", "_unix_socket", "_connection_timeout")


@contextmanager
def returning(connection: Any) -> Iterator[Callable[[], None]]:
    """While inside, the connection may connect to another host, by calling what this yields.

    The arguments of that host stay only if the search succeeds; the time limit of an attempt does not stay.
    """
    own: dict[str, Any] = {}

    def leave() -> None:
        own.update(own or {name: getattr(connection, name) for name in _OF_HOST})

    try:
        yield leave
    except BaseException:
        connection.__dict__.update(own)
        raise
    if own:
        connection._connection_timeout = own["_connection_timeout"]


def redirected(given: dict[str, Any], address: Address, seconds: float) -> dict[str, Any]:
    """Return the arguments, in this driver's own words, of a connect to another host within so many seconds."""
    timeout = given.get("connection_timeout")
    others = {name: value for name, value in given.items() if name != "connection_timeout"}
    return connect_search.redirected({**others, "connect_timeout": timeout}, address, seconds)
