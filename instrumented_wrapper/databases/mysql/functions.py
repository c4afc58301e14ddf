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
# Quoted names; strings, and comments that are not executed, hints among them.
_NO_CODE: Final = re.compile(
    r"(`[^`]*+`)|'(?:[^'\\]++|\\.|'')*+'|\"(?:[^\"\\]++|\\.|\"\")*+\""
    r"|/\*(?!M?!).*?(?:\*/|\Z)|(?:--(?=\s|\Z)|\#)[^\n]*+",
    re.DOTALL,
)
# Names with something in parentheses after them: of tables and procedures, of queries of a WITH, and aliases.
_NAME: Final = r"(?:(?:\w++|`[^`]++`)\s*+\.\s*+)?+(?:\w++|`[^`]++`)"
_NOT_CALLED: Final = re.compile(
    rf"\b(?:into|insert|replace|call)(?:\s++(?:low_priority|delayed|high_priority|ignore|into)\b)*+\s++{_NAME}(?=\s*+\()"
    r"|(?<!\w)(?:\w++|`[^`]++`)(?=\s*+\([\w\s,`]*+\)\s*+as\s*+\()"
    r"|\)\s*+(?:as\s++)?+(?:\w++|`[^`]++`)(?=\s*+\()",
    re.IGNORECASE,
)
_CALL: Final = re.compile(r"(\.\s*+)?+(?<!\w)(\w++|`[^`]++`)\s*+\(")
_HARMLESS: Final = words_in(__package__, "harmless_functions.txt")


def calls(text: str) -> frozenset[str]:
    """Return the names of functions that a query may call, and that may be stored ones (lower case)."""
    if not _QUERY.search(text):
        return frozenset()
    if not _called(text):  # what is not called neither, at less cost
        return frozenset()
    return _called(_NOT_CALLED.sub(" ) ", _NO_CODE.sub(r" \1 ", text)))


def _called(text: str) -> frozenset[str]:
    found = ((qualified, name.lower()) for qualified, name in _CALL.findall(text))
    return frozenset(name for qualified, name in found if qualified or name not in _HARMLESS)
