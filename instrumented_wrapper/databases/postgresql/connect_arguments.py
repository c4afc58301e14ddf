"""What parameters of libpq say of the server, before a connection is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instrumented_wrapper.databases.postgresql import SYSTEM
from instrumented_wrapper.operations import Site

__all__ = ["requested_site"]


def requested_site(given: Mapping[str, Any], environment: Mapping[str, str]) -> Site:
    """Return where a connection is asked for; of several hosts none is named, as libpq chooses later.

    Args:
        given: parameters of libpq, by name.
        environment: where libpq looks for the host and the port that are not given.
    """
    database = str(given.get("dbname") or given.get("user") or "")
    database = "" if "=" in database or "://" in database else database  # a connection string, with its password
    host = str(given.get("host") or given.get("hostaddr") or environment.get("PGHOST") or "")
    port = str(given.get("port") or environment.get("PGPORT") or "")
    host = "" if "," in host else host
    return Site(SYSTEM, database, host, int(port) if host and port.isdigit() else None)
