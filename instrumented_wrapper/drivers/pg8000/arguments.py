"""The arguments of a connection of pg8000: where they lead, and those for another server."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from pg8000.core import CoreConnection

from instrumented_wrapper.drivers.engine.adapted_record import Arguments
from instrumented_wrapper.errors import Address

_PARAMETERS: Final = inspect.signature(CoreConnection.__init__).parameters

_FIRST_PORT: Final = 5432


def arguments_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """Return the arguments of a connection, all of them by name."""
    names = [name for name in _PARAMETERS if name != "self"]
    return Arguments((), {**dict(zip(names, args, strict=False)), **kwargs})


def place_of(given: Mapping[str, Any]) -> Address:
    """Return where arguments lead: the host and port, or the path of the socket."""
    if path := given.get("unix_sock"):
        return (str(path), None)
    return (str(given.get("host") or "localhost"), int(given.get("port") or _FIRST_PORT))


def redirected(given: dict[str, Any], address: Address) -> dict[str, Any]:
    """Return arguments for another server; a host that is a path is that of a socket, or the folder of one."""
    host, port = address
    given |= {"unix_sock": None, "host": host, "port": port or given.get("port") or _FIRST_PORT}
    if host.startswith("/"):
        name = f"/.s.PGSQL.{given['port']}"
        given["unix_sock"] = host if "/.s.PGSQL." in host else f"{host}{name}"
    return given


def in_libpq_words(error: BaseException) -> str:
    """Return the text of a connect error in the words that `answer_to` knows."""
    if "network error" in str(error):
        return "closed"  # also where pg8000 could not say goodbye after it failed
    said = str(error.__cause__ if isinstance(error.__cause__, OSError) else error)
    return "does not support SSL" if "refuses SSL" in said else said
