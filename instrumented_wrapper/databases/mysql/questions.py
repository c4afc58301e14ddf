"""Queries that read and set the settings of a MySQL or MariaDB session. Pure text.

Values are returned in hexadecimal: the character set of the session, which the app can change, may not contain their
characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import Final, NamedTuple

from instrumented_wrapper.databases.mysql.settings import ANEW, NO_ROLE, NULLABLE, SESSION_ONLY, canonical
from instrumented_wrapper.databases.mysql.state import LOCKED, LOCKS, RESOURCE_GROUP
from instrumented_wrapper.databases.mysql.values import Unreadable, kind_of_number, literal, text_literal, value_of
from instrumented_wrapper.plans import Assignment

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
_QUOTED: Final = re.compile(r'"((?:[^"]|"")*)"')
_QUOTED_ROLES: Final = re.compile(r'(?:"(?:[^"]|"")*"@"(?:[^"]|"")*",?)+')
_UNREADABLE: Final = "?"  # too long for `max_allowed_packet`, or no text in its character set
_LEAST_LAST: Final = ("collation_connection",)  # character_set_connection sets it, too
_CLEARING: Final = {
    LOCKS: "DO RELEASE_ALL_LOCKS()",
    LOCKED: "UNLOCK TABLES",
    RESOURCE_GROUP: "SET RESOURCE GROUP USR_default",
}
BY_TEXT_ONLY: Final = (RESOURCE_GROUP,)  # a session that is reset as a whole keeps it


class Dialect(NamedTuple):
    """What a server calls the characteristics of transactions."""

    read_only: str = "transaction_read_only"
    isolation_level: str = "transaction_isolation"
    roles: bool = True
    mariadb: bool = False

    def variable(self, name: str) -> str:
        """Return the system variable of a setting."""
        return {"read_only": self.read_only, "isolation_level": self.isolation_level}.get(name, name)


@cache
def dialect_of(version: str) -> Dialect:
    """Return what the server of this version understands (``@@version``)."""
    numbers = _numbers(version)
    mariadb = "mariadb" in version.lower()
    old = numbers < ((11, 1) if mariadb else (5, 7, 20))
    roles = mariadb or numbers >= (8,)
    names = ("tx_read_only", "tx_isolation") if old else ("transaction_read_only", "transaction_isolation")
    return Dialect(*names, roles, mariadb)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.removeprefix("5.5.5-"))[:3])


def query_settings(names: Sequence[str], dialect: Dialect) -> str:
    """Return the query for the values of settings, as one row."""
    return one_row(map(partial(_asked, dialect), names))


def _asked(dialect: Dialect, name: str) -> str:
    expression = _expression(name, dialect, "session")
    return _typed(expression, dialect) if name.startswith("@") else _armored(expression)


def _typed(variable: str, dialect: Dialect) -> str:
    """Return the query for a user variable: its kind, its value and, for a text, its collation.

    A value that is not valid in its character set is not read: MariaDB converts it to question marks, MySQL to NULL.
    """
    number = f"CONCAT({kind_of_number(variable, dialect.mariadb)}, HEX(CONCAT({variable})))"
    whole = f"CHAR_LENGTH(REPLACE({variable}, '?', '')) = CHAR_LENGTH(REPLACE({_converted(variable)}, '?', ''))"
    text = f"IF({whole}, CONCAT('t', COLLATION({variable}), ':', {_armored(variable)}), NULL)"
    value = f"IF(CHARSET({variable}) = 'binary', {number}, {text})"
    return f"IF({variable} IS NULL, NULL, COALESCE({value}, '{_UNREADABLE}'))"


def user_variables(dialect: Dialect) -> list[str]:
    """Return the query for the names of the session's user variables and for the defaults of a new session."""
    listed = "performance_schema.user_variables_by_thread WHERE THREAD_ID = PS_CURRENT_THREAD_ID()"
    where = "information_schema.USER_VARIABLES" if dialect.mariadb else listed
    names = f"SELECT {_armored('VARIABLE_NAME')} FROM {where} LIMIT {2**64 - 1}"  # see `one_row`
    return [names, one_row([_armored("@@global.init_connect")])]


def text_of(cell: str | None) -> str:
    """Return the text of an answer that is in hexadecimal."""
    return "" if cell is None else bytes.fromhex(cell).decode(errors="surrogateescape")


def defaults(names: Sequence[str], dialect: Dialect) -> str:
    """Return the query for the defaults of a new session, as one row."""
    return one_row(_armored(_expression(name, dialect, "global")) for name in names)


def one_row(expressions: Iterable[str]) -> str:
    """Return the query for values as one row. Its LIMIT overrides the app's ``sql_select_limit``, which may be 0."""
    return f"SELECT {', '.join(expressions)} LIMIT 1"


def _expression(name: str, dialect: Dialect, scope: str) -> str:
    if name.startswith("@"):
        return f"@{quoted(name[1:])}" if scope == "session" else "NULL"
    if name == "database":
        return "DATABASE()"
    if name == "role":
        return f"COALESCE(CURRENT_ROLE(), '{NO_ROLE}')" if dialect.roles and scope == "session" else "NULL"
    if name in SESSION_ONLY and scope == "global":
        default = SESSION_ONLY[name]
        return "NULL" if default is None else f"'{default}'"
    return f"@@{scope}.{quoted(dialect.variable(name))}"


def _armored(expression: str) -> str:
    return f"HEX({_converted(expression)})"


def _converted(expression: str) -> str:
    return f"CONVERT({expression} USING utf8mb4)"


def quoted(name: str) -> str:
    """Quote an identifier."""
    return "`" + name.replace("`", "``") + "`"


def answers(names: Sequence[str], row: Sequence[str | None]) -> dict[str, str | None]:
    """Return the values of a row by name."""
    found: dict[str, str | None] = {}
    for name, cell in zip(names, row, strict=True):
        if cell == _UNREADABLE:
            found[name] = Unreadable()
        elif name.startswith("@"):
            found[name] = None if cell is None else value_of(cell)
        else:
            text = None if cell is None else text_of(cell)
            found[name] = _roles(text) if name == "role" else canonical(name, text)[1]
    return found


def _roles(text: str | None) -> str | None:
    """Return roles as MySQL shows them; it quotes them in the other way under ANSI_QUOTES."""
    if text is None or not _QUOTED_ROLES.fullmatch(text):
        return text
    return _QUOTED.sub(lambda match: quoted(match[1].replace('""', '"')), text)


def assign(assignments: Sequence[Assignment], dialect: Dialect) -> dict[str, tuple[str, ...]]:
    """Return the statements that apply settings, each with the names that it sets: one SET, and what cannot join it.

    The role comes first, since the right to use a database may depend on it. A setting that no statement can apply is
    in none of them.
    """
    given = sorted(assignments, key=lambda assignment: assignment.name in _LEAST_LAST)
    texts = {f"SET ROLE {_role_list(a.text, dialect)}": (a.name,) for a in given if a.name == "role"}
    texts |= {f"USE {quoted(a.text)}": (a.name,) for a in given if a.name == "database" and a.text}
    others = [a for a in given if a.name not in ("database", "role") and not isinstance(a.text, Unreadable)]
    together = ", ".join(_assignment(a, dialect) for a in others)
    return texts | ({f"SET {together}": tuple(a.name for a in others)} if others else {})


def _role_list(role: str | None, dialect: Dialect) -> str:
    """Write a role, or the list of them that MySQL's CURRENT_ROLE() has answered, which is quoted already."""
    if role is None:
        return NO_ROLE if dialect.mariadb else "DEFAULT"
    return role if role == NO_ROLE or role.startswith("`") else quoted(role)


def _assignment(assignment: Assignment, dialect: Dialect) -> str:
    name, text = assignment
    if name.startswith("@"):
        return f"@{quoted(name[1:])} = {literal(text)}"
    variable = f"@@session.{quoted(dialect.variable(name))}"
    if text is None or text == ANEW or (text == "" and name == NULLABLE):
        return f"{variable} = {'NULL' if text == '' else 'DEFAULT'}"
    return f"{variable} = {text if _NUMBER.fullmatch(text) else text_literal(text)}"


def clear(names: Sequence[str]) -> dict[str, str]:
    """Return the statements that take state away, by its name, where the session is not reset as a whole."""
    return {name: _CLEARING[name] for name in names if name in _CLEARING}


def is_read_only() -> str:
    """Return the query whether the server refuses writes of users without special privileges."""
    return one_row(["@@global.read_only"])


def serves() -> list[str]:
    """Return the query of `is_read_only`, which also fails on a server that does not execute statements.

    A node of Galera that is not ready answers queries about variables and refuses everything else (errno 1047).
    """
    return [is_read_only(), nothing()]


def is_outside_its_group(version: str) -> str | None:
    """Return a query that has a row if the server is configured for Group Replication and has not joined since its
    start.

    Such a member is not read-only and lacks the data of the group. The query needs MySQL 8.1 or newer, which counts
    consensus; the membership itself can be read only with privileges that an app does not have.
    """
    if "mariadb" in version.lower() or _numbers(version) < (8, 1):
        return None
    status = "SELECT 1 FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Gr_last_consensus_end_timestamp'"
    name = "VARIABLE_NAME = 'group_replication_group_name' AND VARIABLE_VALUE <> ''"
    configured = f"EXISTS (SELECT 1 FROM performance_schema.global_variables WHERE {name})"
    return f"{status} AND VARIABLE_VALUE = '' AND {configured} LIMIT 1"


def nothing() -> str:
    """Return a statement without effect; its response replaces the last response in the client's memory."""
    return "DO 0"
