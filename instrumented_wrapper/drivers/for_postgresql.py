"""What the drivers for PostgreSQL share: where their operations go, and what shows that a server was demoted."""

from __future__ import annotations

from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.drivers.engine import decisions
from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.engine.record import TrackedConnection
from instrumented_wrapper.operations import Site


def site(connection: object, record: Record) -> Site:
    """Return the site, with the first schema of the search path where it is known."""
    system, database, host, port = record.peer()
    search_path = record.search_path(record.reported("search_path"))
    return Site(system, postgresql.namespace(database, search_path), host, port)


def is_demoted(
    record: TrackedConnection, state: str | None, where: str | None, requested_role: str, is_standby: bool
) -> bool:
    """Return True if the server refused as a standby, and the app did not request one.

    A transaction that began before its standby was promoted stays read-only, so what the server was counts, too.

    Args:
        record: the record of the connection.
        state: the SQLSTATE.
        where: the function of the server that raised the error.
        requested_role: the kind of server that the app requests, in libpq's words.
        is_standby: the server reports that it is a standby.
    """
    if not postgresql.needs_primary(state, where, bool(record.asked_read_only)):
        return False
    return (is_standby or bool(record.was_standby)) and decisions.is_demoted(record, requested_role)
