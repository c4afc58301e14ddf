"""Read ``SET``, ``RESET`` and their variants exactly: which setting gets which text.

The text is the argument that ``set_config`` needs for the same effect. Everything else is uncertain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from instrumented_wrapper.databases.postgresql.tokens import Token, folded, tokens_of
from instrumented_wrapper.statement import DOUBT, RESET_ALL, SET, SET_LOCAL, Placeholder, Step

# Who the session is: set last, for the rights to set the others may go with it, and put back first.
IDENTITY: Final = ("session_authorization", "role")
# Shown as set by the session, but what is set there ends with the transaction, or cannot be read again.
NOT_STATE: Final = ("seed", "transaction_isolation", "transaction_read_only", "transaction_deferrable")
_SETTING_NAME: Final = re.compile(r"[^\W\d][\w$]*(?:\.[^\W\d][\w$]*)*")
# Lists of identifiers: each element is quoted by itself (PostgreSQL's GUC_LIST_QUOTE).
_LISTS: Final = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)
_GREATEST_INTEGER: Final = 2**31 - 1
_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_]*")
RESERVED: Final = frozenset(
    "all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both case cast"
    " char character check coalesce collate collation column concurrently constraint create cross current_catalog"
    " current_date current_role current_schema current_time current_timestamp current_user dec decimal default"
    " deferrable desc distinct do else end except exists extract false fetch float for foreign freeze from full grant"
    " greatest group grouping having ilike in initially inner inout int integer intersect interval into is isnull join"
    " json lateral leading least left like limit localtime localtimestamp national natural nchar none normalize not"
    " notnull null nullif numeric offset on only or order out outer overlaps overlay placing position precision primary"
    " real references returning right row select session_user setof similar smallint some substring symmetric"
    " system_user table tablesample then time timestamp to trailing treat trim true union unique user using values"
    " varchar variadic verbose when where window with xmlattributes".split()
)


class _UnreadableError(Exception):
    """The value is not one of the plain forms."""


def setting_name(text: str) -> str:
    """Return a setting's name in lower case; empty where it does not look like one: it may be a value."""
    return folded(text) if _SETTING_NAME.fullmatch(text) else ""


def is_state(name: str) -> bool:
    """Return True if a setting outlasts the transaction and can be reset."""
    return name not in NOT_STATE


def boolean(text: str) -> bool | None:
    """Parse a boolean as PostgreSQL does, by its first letters; return None for other text."""
    word = text.strip().lower()
    if word and (word == "1" or word == "on" or any(full.startswith(word) for full in ("true", "yes"))):
        return True
    return False if word and (word in ("0", "of", "off") or any(f.startswith(word) for f in ("false", "no"))) else None


def placeholder(text: str, position: int) -> Placeholder:
    """Return the parameter of ``$1``, ``%s`` or ``%(name)s``; `position` is the position of a ``%s``."""
    if text.startswith("$"):
        return Placeholder(int(text[1:]) - 1)
    return Placeholder(text[2:-2] if text.startswith("%(") else position)


def set_steps(statement: Sequence[Token]) -> Iterator[Step]:
    """Read a ``SET``."""
    rest, kind = list(statement[1:]), SET
    words = [token.text if token.kind == "word" else "" for token in rest]
    if words[:1] == ["local"] or (words[:1] == ["session"] and words[1:2] not in (["authorization"], _CHARACTERISTICS)):
        kind = SET_LOCAL if words[0] == "local" else SET
        rest, words = rest[1:], words[1:]
    if words[:1] in (["transaction"], ["constraints"]):
        return
    if words[:2] == ["session", *_CHARACTERISTICS]:
        yield from _characteristics(words)
    else:
        yield from _assignment(rest, words, kind)


_CHARACTERISTICS: Final = ["characteristics"]


def _assignment(rest: list[Token], words: list[str], kind: str) -> Iterator[Step]:
    name, value = _split(rest, words)
    if name in NOT_STATE:
        return
    try:
        text = _value(name, value)
    except _UnreadableError:
        yield Step(DOUBT, name, "SET") if kind == SET else Step(SET_LOCAL, name)
        return
    yield Step(kind, name, text)
    if name == "session_authorization":
        yield Step(kind, "role", None if text is None else "none")


def _split(rest: list[Token], words: list[str]) -> tuple[str, list[Token]]:
    """Return the setting and the tokens of its value."""
    parts, position = _dotted(rest)
    if position < len(rest) and rest[position].text in ("=", "to"):
        return setting_name(".".join(parts)), rest[position + 1 :]
    for spelling, name in _SPELLINGS:
        if words[: len(spelling)] == spelling:
            return name, rest[len(spelling) :]
    return "", []


_SPELLINGS: Final = (
    (["time", "zone"], "timezone"),
    (["names"], "client_encoding"),
    (["schema"], "search_path"),
    (["xml", "option"], "xmloption"),
    (["role"], "role"),
    (["session", "authorization"], "session_authorization"),
)


def _dotted(tokens: Sequence[Token]) -> tuple[list[str], int]:
    """Return the parts of a dotted name at the beginning, and where it ends."""
    parts, position = [], 0
    while position < len(tokens) and tokens[position].kind in ("word", "name"):
        parts.append(tokens[position].text)
        if tokens[position + 1 : position + 2] != [Token("mark", ".")]:
            return parts, position + 1
        position += 2
    return parts, position


def _value(name: str, tokens: Sequence[Token]) -> str | Placeholder | None:
    """Return the text of a value, None for the server's default.

    Raises:
        _UnreadableError: the name or the value cannot be read exactly.
    """
    if not name or (not tokens and name != "client_encoding"):
        raise _UnreadableError
    words = [token.text for token in tokens if token.kind == "word"]
    if not tokens or (len(tokens) == 1 and (words == ["default"] or (name == "timezone" and words == ["local"]))):
        return None
    if len(tokens) == 1 and tokens[0].kind == "parameter" and name not in _LISTS:
        return placeholder(tokens[0].text, 0)
    if name == "timezone" and tokens[-1].kind == "number":
        raise _UnreadableError  # an offset; the server spells it as it likes
    return ", ".join(_element(name, element) for element in _elements(tokens))


def _elements(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    element: list[Token] = []
    for token in tokens:
        if token == Token("mark", ","):
            yield element
            element = []
        else:
            element.append(token)
    yield element


def _element(name: str, tokens: list[Token]) -> str:
    sign = ""
    if len(tokens) == 2 and tokens[0].text in ("+", "-") and tokens[1].kind == "number":
        sign, tokens = tokens[0].text.removeprefix("+"), tokens[1:]
    if len(tokens) != 1 or tokens[0].kind not in ("word", "name", "string", "number"):
        raise _UnreadableError
    text = _number(sign, tokens[0].text) if tokens[0].kind == "number" else tokens[0].text
    is_plain = tokens[0].kind == "number" or (_PLAIN.fullmatch(text) and text not in RESERVED)
    return text if name not in _LISTS or is_plain else '"' + text.replace('"', '""') + '"'


def _number(sign: str, digits: str) -> str:
    """Return a number as the server stores it: an integer by its value, any other number by its text."""
    is_integer = digits.isdecimal() and int(digits) <= _GREATEST_INTEGER
    return str(int(sign + digits)) if is_integer else sign + digits


def _characteristics(words: list[str]) -> Iterator[Step]:
    """``SET SESSION CHARACTERISTICS AS TRANSACTION``: the defaults of the transactions to come."""
    text = " ".join(word or "," for word in words)
    for pattern, name in _MODES:
        if found := re.findall(pattern, text):
            yield Step(SET, name, {"only": "on", "write": "off", "": "on", "not ": "off"}.get(found[-1], found[-1]))


_MODES: Final = (
    (
        r"isolation level (serializable|repeatable read|read committed|read uncommitted)",
        "default_transaction_isolation",
    ),
    (r"(?<!level )read (only|write)\b", "default_transaction_read_only"),
    (r"(not |)deferrable", "default_transaction_deferrable"),
)


def reset_steps(statement: Sequence[Token]) -> Iterator[Step]:
    """Read a ``RESET``."""
    rest = list(statement[1:])
    words = [token.text if token.kind == "word" else "" for token in rest]
    if words == ["all"]:
        yield Step(RESET_ALL)
    elif words[:2] == ["session", "authorization"]:
        yield from (Step(SET, name, None) for name in IDENTITY)
    elif words[:2] == ["time", "zone"]:
        yield Step(SET, "timezone", None)
    elif words[:1] != ["transaction"]:
        name = setting_name(".".join(_dotted(rest)[0]))
        yield Step(SET, name, None) if name else Step(DOUBT, "", "RESET")


def asks_read_only(words: Sequence[str]) -> bool:
    """Return True if a list of transaction modes contains ``READ ONLY``."""
    return "read only" in " ".join(words)


def first_schema(search_path: str) -> str:
    """Return the first schema of a search path; empty if that depends on the role or there is none."""
    first = next(tokens_of(search_path), None)
    named = first is not None and first.kind in ("word", "name", "string") and first.text != "$user"
    return first.text if named and first is not None else ""


def namespace(database: str, search_path: str) -> str:
    """Return what OpenTelemetry calls the namespace: the database and, if known, the first schema of the path."""
    schema = first_schema(search_path)
    return f"{database}|{schema}" if schema else database
