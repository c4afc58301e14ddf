"""Read the address of a MySQL or MariaDB server from the arguments of ``connect``, before a connection exists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instrumented_wrapper.operations import Site


def requested_site(given: Mapping[str, Any]) -> Site:
    """Return the address that the arguments request. Whether it is MySQL or MariaDB is known only after the login."""
    path, database = given.get("unix_socket"), given.get("database") or given.get("db")
    if path:
        return Site("mysql", str(database or ""), str(path), None)
    return Site("mysql", str(database or ""), str(given.get("host") or "localhost"), int(given.get("port") or 3306))
