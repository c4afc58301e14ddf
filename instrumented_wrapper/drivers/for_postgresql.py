"""What drivers for PostgreSQL on the engine share: where their operations go."""

from __future__ import annotations

from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.operations import Site


def site(connection: object, record: Record) -> Site:
    """Return the site, with the first schema of the search path where it is known."""
    system, database, host, port = record.peer()
    search_path = record.search_path(record.reported("search_path"))
    return Site(system, postgresql.namespace(database, search_path), host, port)
