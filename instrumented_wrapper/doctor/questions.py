"""Statements of the doctor for each database, and how to read their answers. Pure; the statements change nothing.

The default of a setting is PostgreSQL's built-in one, MySQL's and MariaDB's global value, or that of an empty database
of SQLite in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from instrumented_wrapper.databases.mysql import state as mysql_state
from instrumented_wrapper.databases.postgresql import state as postgresql_state


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a new session that is not at the server's default; `source`: what has set it."""

    name: str
    value: str
    default: str
    source: str


@dataclass(frozen=True, slots=True)
class Questions:
    """The texts for one database.

    Attributes:
        role: returns the kind of server, its version, and the number of the session that answers.
        changed: returns the settings that are not at their default; or two texts, whose answers are compared.
        trial: sets something harmless of this session only, which a switch must carry over.
        lost: what a session may have that no switch carries over, as `.not_restored` names it.
    """

    role: str
    changed: Sequence[str]
    trial: Sequence[str]
    lost: Sequence[str]

    def settings(self, answers: Sequence[Iterable[Sequence[Any]]]) -> list[Setting]:
        """Read the answers to `changed`."""
        if len(answers) == 1:
            return [Setting(*map(_text, row)) for row in answers[0]]
        ours, servers = ({_text(name): _text(value) for name, value in rows} for rows in answers)
        return [
            Setting(name, value, servers[name], "connect")
            for name, value in ours.items()
            if name in servers and value != servers[name]
        ]


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes | bytearray) else str(value)


_OF_SESSION: Final = "'client', 'database', 'user', 'database user', 'session'"
QUESTIONS: Final = {
    "postgresql": Questions(
        "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'standby'"
        " WHEN pg_catalog.current_setting('transaction_read_only') = 'on' THEN 'read-only' ELSE 'writer' END,"
        " pg_catalog.current_setting('server_version'), pg_catalog.pg_backend_pid()",
        (
            "SELECT name, setting, coalesce(boot_val, ''), source FROM pg_catalog.pg_settings"
            f" WHERE source IN ({_OF_SESSION}) AND setting IS DISTINCT FROM boot_val ORDER BY name",
        ),
        ("SET statement_timeout = 61003", "SET instrumented_wrapper.doctor = 'here'"),
        (
            postgresql_state.TEMPORARY,
            postgresql_state.ADVISORY,
            postgresql_state.LISTEN,
            postgresql_state.PREPARED,
            postgresql_state.HELD,
        ),
    ),
    "mysql": Questions(
        "SELECT IF(CONCAT(@@global.read_only) IN ('0', 'OFF'), 'writer', 'read-only'), VERSION(), CONNECTION_ID()",
        ("SHOW SESSION VARIABLES", "SHOW GLOBAL VARIABLES"),
        ("SET SESSION lock_wait_timeout = 61003", "SET @instrumented_wrapper_doctor = 'here'"),
        (
            mysql_state.TEMPORARY,
            mysql_state.LOCKS,
            mysql_state.LOCKED,
            mysql_state.PREPARED,
            mysql_state.HANDLERS,
        ),
    ),
}
# PRAGMAs of a connection; their defaults are those of an empty database in memory.
PRAGMAS: Final = (
    "busy_timeout cache_size foreign_keys journal_mode query_only read_uncommitted recursive_triggers secure_delete"
    " synchronous temp_store"
).split()
