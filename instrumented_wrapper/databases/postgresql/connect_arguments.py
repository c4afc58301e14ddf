"""Read the address of a server from libpq's parameters, before a connection exists.

`given` maps parameter names to values; `environment` holds libpq's defaults for the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from instrumented_wrapper.databases.postgresql import SYSTEM
from instrumented_wrapper.operations import Site

_OF_ONE_SERVER: Final = ("host", "hostaddr", "port", "target_session_attrs", "load_balance_hosts")


def hosts_of(given: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[tuple[str, int | None], ...]:
    """Return the requested hosts in order; empty if libpq chooses its default."""
    host, port = _where(given, environment)
    hosts, ports = host.split(",") if host else [], port.split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return tuple((name, _number(port)) for name, port in zip(hosts, ports, strict=False))


def requested_role(given: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Return the requested kind of server (``target_session_attrs``), or an empty string."""
    return str(given.get("target_session_attrs") or environment.get("PGTARGETSESSIONATTRS") or "")


def requested_site(given: Mapping[str, Any], environment: Mapping[str, str]) -> Site:
    """Return the requested address; without a host if several are given, since libpq chooses later."""
    database = str(given.get("dbname") or given.get("user") or "")
    database = "" if "=" in database or "://" in database else database  # a connection string, with its password
    host, port = _where(given, environment)
    host = "" if "," in host else host
    return Site(SYSTEM, database, host, _number(port) if host else None)


def _where(given: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[str, str]:
    host = given.get("host") or given.get("hostaddr") or environment.get("PGHOST") or ""
    return str(host), str(given.get("port") or environment.get("PGPORT") or "")


def timeout_for(given: Mapping[str, Any], environment: Mapping[str, str], seconds: float) -> int:
    """Return the ``connect_timeout`` of an attempt that has so many seconds: the app's own where that is shorter."""
    most = max(2, math.ceil(seconds))  # libpq takes less than 2 for 2
    own = str(given.get("connect_timeout") or environment.get("PGCONNECT_TIMEOUT") or "")
    return min(most, _number(own) or most)


def _number(text: str) -> int | None:
    """Return a number, or None for text that is not a number: libpq reports that to the app."""
    return int(text) if text.strip().isdecimal() else None


def parameters_for(given: Mapping[str, Any], address: tuple[str, int | None], role: str) -> dict[str, Any]:
    """Return parameters of libpq for one server and role, and what else is `given`."""
    host, port = address
    common = str(given.get("port") or "")
    chosen = {"host": host, "port": port or ("" if "," in common else common), "target_session_attrs": role}
    others = {name: value for name, value in given.items() if name not in _OF_ONE_SERVER}
    return {**others, **{name: value for name, value in chosen.items() if value}}
