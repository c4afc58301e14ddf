"""What the arguments of ``connect`` say of a server of MySQL or MariaDB, before a connection is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instrumented_wrapper.operations import Site


def requested_site(given: Mapping[str, Any]) -> Site:
    """Return where a connection is asked for; which of the two databases it is, the server says later."""
    path, database = given.get("unix_socket"), given.get("database") or given.get("db")
    if path:
        return Site("mysql", str(database or ""), str(path), None)
    return Site("mysql", str(database or ""), str(given.get("host") or "localhost"), int(given.get("port") or 3306))
