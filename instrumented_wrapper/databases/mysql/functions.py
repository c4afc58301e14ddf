"""Functions of MySQL and MariaDB that set nothing. Pure.

Which others a text calls matters where the server does not report at once what they set: to the rows of a query MySQL
adds nothing. The list is what MySQL 9.7 takes in ``SELECT name()`` without looking for a stored function, keywords
included, and what MariaDB's manual has besides; a name that is missing costs a question.
"""

from __future__ import annotations

import re
from typing import Final

from instrumented_wrapper.databases.word_lists import words_in

_QUERY: Final = re.compile(
    r"(?:\A|;)(?:[\s(]|/\*.{0,200}?\*/|(?:--|\#)[^\n]{0,200}+\n)*+(?:/\*M?!\d*\s*)?"
    r"(?:select|with|values|table|explain|analyze|desc(?:ribe)?|call|do|set|insert|replace|update|delete)\b",
    re.IGNORECASE | re.DOTALL,
)
# Strings; tables and procedures with something in parentheses after their names.
_OTHERS: Final = re.compile(
    r"'(?:[^'\\]|\\.|'')*+'|\"(?:[^\"\\]|\\.|\"\")*+\""
    r"|\b(?:into|insert|replace|call)\s++(?:(?:\w++|`[^`]++`)\s*+\.\s*+)?(?:\w++|`[^`]++`)(?=\s*+\()",
    re.IGNORECASE | re.DOTALL,
)
_CALL: Final = re.compile(r"(\.\s*+)?+(?<!\w)(\w++|`[^`]++`)\s*+\(")
_HARMLESS: Final = words_in(__package__, "harmless_functions.txt")


def calls(text: str) -> frozenset[str]:
    """Return the names of functions that a query may call, and that may be stored ones (lower case)."""
    if not _QUERY.search(text):
        return frozenset()
    return _called(_OTHERS.sub(" ", text)) if _called(text) else frozenset()


def _called(text: str) -> frozenset[str]:
    found = ((qualified, name.lower()) for qualified, name in _CALL.findall(text))
    return frozenset(name for qualified, name in found if qualified or name not in _HARMLESS)
