"""The texts that sessions of MySQL and MariaDB are sent about their settings.

Pure. What is asked for comes back in hexadecimal: its characters may be missing in the character set of the session,
which the app may have changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from instrumented_wrapper.databases.mysql.settings import NULLABLE, Bits, Number, canonical
from instrumented_wrapper.databases.mysql.state import HANDLERS, LOCKED, LOCKS
from instrumented_wrapper.server_settings import Assignment

__all__ = [
    "ALWAYS_ASKED",
    "Dialect",
    "answers",
    "assign",
    "clear",
    "defaults",
    "dialect_of",
    "is_outside_its_group",
    "is_read_only",
    "nothing",
    "present",
    "serves",
]

# What is looked at where anything may have been set, and the server does not report it.
ALWAYS_ASKED: Final = (
    "autocommit",
    "read_only",
    "isolation_level",
    "database",
    "role",
    "character_set_client",
    "character_set_results",
    "character_set_connection",
    "collation_connection",
    "time_zone",
    "sql_mode",
    "foreign_key_checks",
    "unique_checks",
    "sql_safe_updates",
    "sql_select_limit",
    "innodb_lock_wait_timeout",
    "lock_wait_timeout",
)
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")
_PLAIN: Final = re.compile(r"[\w +\-:,./%@]*", re.ASCII)
_KINDS: Final[dict[str, type[str]]] = {"n": Number, "x": Bits, "t": str}
_TOO_LONG: Final = "?"  # for `max_allowed_packet`
_LEAST_LAST: Final = ("collation_connection",)  # character_set_connection sets it, too
_CLEARING: Final = {
    LOCKS: "DO RELEASE_ALL_LOCKS()",
    LOCKED: "UNLOCK TABLES",
    HANDLERS: "",
}


class Dialect(NamedTuple):
    """What a server calls the characteristics of transactions."""

    read_only: str = "transaction_read_only"
    isolation_level: str = "transaction_isolation"
    roles: bool = True

    def variable(self, name: str) -> str:
        """Return the system variable of a setting."""
        return {"read_only": self.read_only, "isolation_level": self.isolation_level}.get(name, name)


def dialect_of(version: str) -> Dialect:
    """Return what the server of this version understands (``@@version``)."""
    numbers = _numbers(version)
    mariadb = "mariadb" in version.lower()
    old = numbers < ((11, 1) if mariadb else (5, 7, 20))
    roles = mariadb or numbers >= (8,)
    return Dialect("tx_read_only", "tx_isolation", roles) if old else Dialect(roles=roles)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.removeprefix("5.5.5-"))[:3])


def present(names: Sequence[str], dialect: Dialect) -> str:
    """Ask for the values of settings, in one row."""
    return f"SELECT {', '.join(map(partial(_asked, dialect), names))}"


def _asked(dialect: Dialect, name: str) -> str:
    expression = _expression(name, dialect, "session")
    return _typed(expression) if name.startswith("@") else _armored(expression)


def _typed(variable: str) -> str:
    """Ask for the value of a user variable, with what it is before it: a number, bytes or text."""
    kind = f"IF(COERCIBILITY({variable}) = 5, 'n', IF(CHARSET({variable}) = 'binary', 'x', 't'))"
    value = f"IF(CHARSET({variable}) = 'binary', HEX(CONCAT({variable})), {_armored(variable)})"
    return f"IF({variable} IS NULL, NULL, COALESCE(CONCAT({kind}, {value}), '{_TOO_LONG}'))"


def defaults(names: Sequence[str], dialect: Dialect) -> str:
    """Ask for what a new session begins with, in one row."""
    return f"SELECT {', '.join(_armored(_expression(name, dialect, 'global')) for name in names)}"


def _expression(name: str, dialect: Dialect, scope: str) -> str:
    if name.startswith("@"):
        return f"@{quoted(name[1:])}" if scope == "session" else "NULL"
    if name == "database":
        return "DATABASE()"
    if name == "role":
        return ("CURRENT_ROLE()" if scope == "session" else "NULL") if dialect.roles else "NULL"
    return f"@@{scope}.{quoted(dialect.variable(name))}"


def _armored(expression: str) -> str:
    return f"HEX(CONVERT({expression} USING utf8mb4))"


def quoted(name: str) -> str:
    """Quote an identifier."""
    return "`" + name.replace("`", "``") + "`"


def answers(names: Sequence[str], row: Sequence[str | None]) -> dict[str, str | None]:
    """Return what was asked for, by name; what is too long for an answer is left out."""
    found: dict[str, str | None] = {}
    for name, cell in zip(names, row, strict=True):
        if cell == _TOO_LONG:
            continue
        kind = _KINDS[cell[0]] if cell and name.startswith("@") else str
        value = None if cell is None else bytes.fromhex(cell.lstrip("nxt")).decode(errors="surrogateescape")
        text = None if value is None else kind(value)
        found[name] = text if name.startswith("@") else canonical(name, _role(name, text))[1]
    return found


def _role(name: str, text: str | None) -> str | None:
    return None if name == "role" and (text or "NONE").upper() == "NONE" else text


def assign(assignments: Sequence[Assignment], dialect: Dialect) -> list[str]:
    """Return the statements that give settings: one SET, and what cannot join it."""
    given = sorted(assignments, key=lambda assignment: assignment.name in _LEAST_LAST)
    texts = [f"USE {quoted(a.text)}" for a in given if a.name == "database" and a.text]
    together = [_assignment(a, dialect) for a in given if a.name not in ("database", "role")]
    texts += [f"SET {', '.join(together)}"] if together else []
    roles = [a.text for a in given if a.name == "role"]
    return texts + [f"SET ROLE {_role_list(role)}" for role in roles]


def _role_list(role: str | None) -> str:
    """Write a role, or the list of them that MySQL's CURRENT_ROLE() has answered, which is quoted already."""
    return "NONE" if role is None else role if role.startswith("`") else quoted(role)


def _assignment(assignment: Assignment, dialect: Dialect) -> str:
    name, text = assignment
    if name.startswith("@"):
        return f"@{quoted(name[1:])} = {_value(text)}"
    variable = f"@@session.{quoted(dialect.variable(name))}"
    if text is None or (text == "" and name == NULLABLE):
        return f"{variable} = {'DEFAULT' if text is None else 'NULL'}"
    return f"{variable} = {text if _NUMBER.fullmatch(text) else _value(text)}"


def _value(text: str | None) -> str:
    """Write a value, whatever ``sql_mode`` and ``character_set_client`` are."""
    if text is None:
        return "NULL"
    if isinstance(text, Number):
        return str(text)
    if isinstance(text, Bits):
        return f"X'{text.encode(errors='surrogateescape').hex()}'"
    if _PLAIN.fullmatch(text):
        return f"'{text}'"
    return f"CONVERT(X'{text.encode(errors='surrogateescape').hex()}' USING utf8mb4)"


def clear(names: Sequence[str]) -> list[str]:
    """Return the statements that take state away where the session cannot be reset as a whole."""
    return [text for name in names if (text := _CLEARING.get(name, ""))]


def is_read_only() -> str:
    """Ask whether the server takes no writes but from those with special rights."""
    return "SELECT @@global.read_only"


def serves() -> list[str]:
    """Ask the same, and whether the server does anything at all.

    A node of Galera that is not ready answers what is about variables, and refuses everything else (errno 1047).
    """
    return [is_read_only(), nothing()]


def is_outside_its_group(version: str) -> str | None:
    """Ask for a row if the server is configured for a Group Replication that it has not joined since its start.

    Such a member is not read-only, and has not what the group has. Anybody may ask this of MySQL 8.1 or newer, which
    counts consensus; whether a server is a member may only be asked with rights that an app does not have.
    """
    if "mariadb" in version.lower() or _numbers(version) < (8, 1):
        return None
    status = "SELECT 1 FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Gr_last_consensus_end_timestamp'"
    name = "VARIABLE_NAME = 'group_replication_group_name' AND VARIABLE_VALUE <> ''"
    configured = f"EXISTS (SELECT 1 FROM performance_schema.global_variables WHERE {name})"
    return f"{status} AND VARIABLE_VALUE = '' AND {configured}"


def nothing() -> str:
    """Ask for nothing: what a client keeps of the last answer is then of this one."""
    return "DO 0"
