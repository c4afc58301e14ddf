"""Whether a server of MySQL or MariaDB makes the same of two values of a setting. Pure.

A session keeps the text that the app gave, where the server does not report what it has made of it. There is no way
to have the server convert a text without setting it.
"""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Final

from instrumented_wrapper.databases.mysql.values import Value

_ALIASES: Final = {"utf8": "utf8mb3"}
_OF_OTHERS: Final = (
    "pipes_as_concat ansi_quotes ignore_space no_key_options no_table_options no_field_options no_auto_create_user"
    " simultaneous_assignment"
)
# Words of sql_mode that stand for others, and stay in the list: all that a server of either kind adds for them.
_MODES: Final = {
    "ansi": "real_as_float pipes_as_concat ansi_quotes ignore_space only_full_group_by",
    "traditional": "strict_trans_tables strict_all_tables no_zero_in_date no_zero_date error_for_division_by_zero"
    " no_auto_create_user no_engine_substitution",
    **dict.fromkeys(("db2", "maxdb", "mssql", "oracle", "postgresql"), _OF_OTHERS),
}


def is_same(name: str, one: str | None, other: str | None) -> bool:
    """Return True if both values mean the same for the setting `name`."""
    if one == other or one is None or other is None:
        return one == other
    if name.startswith("@"):
        return isinstance(one, Value) and isinstance(other, Value) and _number(one) == _number(other) is not None
    if name == "sql_mode":
        return _modes(one) == _modes(other)
    return _plain(one) == _plain(other)


def _plain(text: str) -> object:
    number = _number(text)
    lowered = text.strip().lower()
    return _ALIASES.get(lowered, lowered) if number is None else number


def _number(text: str) -> Decimal | None:
    with suppress(InvalidOperation):
        return Decimal(str(text).strip())
    return None


def _modes(text: str) -> frozenset[str]:
    """Return the modes of a list, without those that another one stands for."""
    modes = frozenset(text.lower().split(","))
    return modes.difference(*(_MODES[mode].split() for mode in modes & _MODES.keys()))
