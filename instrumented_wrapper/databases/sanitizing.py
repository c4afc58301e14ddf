"""Remove the values from the text of a statement, and recognise statements that may carry credentials.

A literal is a value, and so is the argument of a SET, PRAGMA, ATTACH or PASSWORD, quoted or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from instrumented_wrapper.databases.lexer import Statement
from instrumented_wrapper.databases.targets import is_scoped

_LITERALS: Final = ("string", "either", "dollar", "number", "digits")
_CONSTANTS: Final = ("true", "false", "null")
_HOLDERS: Final = frozenset("database function procedure role routine system user".split())  # ALTER ROLE x SET ...
_SHOWN_VALUES: Final = frozenset("characteristics constraints transaction".split())  # words of SQL follow
_DEFINES: Final = ("create", "alter", "drop")
# NULL is a word of the grammar there: IS NULL, NOT NULL, SET NULL, ON NULL INPUT
_BEFORE_GRAMMAR: Final = frozenset("is not set on".split())
_ACCOUNTS: Final = frozenset("create alter grant change start clone".split())
_TABLES: Final = frozenset("table view index function procedure trigger".split())
_SECRETS: Final = frozenset("password master_password source_password".split())
_AFTER_SECRET: Final = frozenset("expire history reuse require null random for".split())
_SECRET_MARKS: Final = ("=", "(", ":=")
# operations on rows: what they are given is data, not a credential
_PLAIN: Final = frozenset("select insert update delete merge replace values table with call".split())
_SUSPICIOUS: Final = tuple(
    "passw identified connection options crypt dblink set_config secret hmac api_key apikey".split()
)


def is_plain(statements: Sequence[Statement]) -> bool:
    """Return True if a text may be shown as written where parameters are bound.

    It has a place for a parameter, and no statement of it may carry credentials.
    """
    if not any(piece.kind == "parameter" for statement in statements for piece in statement.pieces):
        return False
    words = " ".join(word for statement in statements for word in statement.words if word)
    plain = all(statement.word(0) in _PLAIN or statement.raw(0) in ("(", ";") for statement in statements)
    return plain and not any(word in words for word in _SUSPICIOUS)


def shown_parts(statement: Statement) -> Iterator[tuple[int, int, str]]:
    """Yield where each piece is, and what is shown of it."""
    pieces, position = statement.pieces, 0
    for start, stop in _values(statement):
        yield from _shown(statement, position, start)
        if start < stop:
            yield pieces[start].start, pieces[stop - 1].end, "?"
        position = stop
    yield from _shown(statement, position, len(pieces))


def _shown(statement: Statement, start: int, stop: int) -> Iterator[tuple[int, int, str]]:
    for index in range(start, stop):
        kind, raw, first, last = statement.pieces[index]
        if kind in _LITERALS or (statement.words[index] in _CONSTANTS and _is_literal(statement, index)):
            yield first, last, "?"
        elif kind == "variable" and raw[1:2] in ("'", '"'):
            yield first, last, "@?"  # the host of an account
        else:
            yield first, last, raw


def _is_literal(statement: Statement, index: int) -> bool:
    """Return True if TRUE, FALSE or NULL is a value there, not a name or a word of the grammar."""
    before = statement.word(index - 1)
    if statement.raw(index - 1) == "." or before == "is" or (before == "not" and statement.word(index - 2) == "is"):
        return False
    return statement.words[index] != "null" or (before not in _BEFORE_GRAMMAR and statement.word(0) not in _DEFINES)


def _values(statement: Statement) -> Iterator[tuple[int, int]]:
    """Yield where values are that need not be literals: from which piece, and up to which."""
    end = len(statement.pieces) - (statement.raw(len(statement.pieces) - 1) == ";")
    if statement.word(0) == "attach":
        yield from _attached(statement, end)
    elif (start := _pragma_value(statement)) is not None:
        closed = statement.raw(start - 1) == "(" and statement.raw(end - 1) == ")"
        yield start, max(start, end - closed)
    elif (start := _setting_value(statement)) is not None or (start := _secret(statement)) is not None:
        yield min(start, end), end  # all of it is the value


def _setting_value(statement: Statement) -> int | None:
    """Return where the value of a SET begins; None for another statement, or if no value has to be hidden."""
    word, raw, words = statement.word, statement.raw, statement.words
    held = word(0) in ("alter", "create") and not _HOLDERS.isdisjoint(words[1:4])
    if "set" not in (words if held else words[:1]):
        return None
    index = words.index("set") + 1
    if index == 1 and is_scoped(statement):
        index += 1
    if word(index) in _SHOWN_VALUES or word(index + 1) in _SHOWN_VALUES:
        return None
    index += 2 if word(index) in ("session", "time") else 1
    while raw(index) == ".":
        index += 2
    return index + (raw(index) in ("=", ":=") or word(index) == "to")


def _pragma_value(statement: Statement) -> int | None:
    """Return where the value of a PRAGMA begins, after ``=`` or ``(``."""
    if "pragma" not in statement.words[:4]:
        return None
    start = statement.words.index("pragma")
    if any(word not in ("explain", "query", "plan") for word in statement.words[:start]):
        return None
    found = (index for index in range(start, len(statement.pieces)) if statement.raw(index) in ("=", "("))
    return next(found, len(statement.pieces) - 1) + 1


def _attached(statement: Statement, end: int) -> Iterator[tuple[int, int]]:
    """ATTACH: only the name of the schema is no value."""
    start = 1 + (statement.word(1) == "database" and statement.word(2) != "as")
    name = _attached_name(statement, end)
    yield start, end if name is None else name - 1
    if name is not None:
        yield name + 1 + (statement.word(name + 1) == "key"), end


def _attached_name(statement: Statement, end: int) -> int | None:
    """Return where the name after the last AS outside parentheses is; None where it is anything but one name."""
    depth, name = 0, None
    for index in range(end):
        depth += {"(": 1, ")": -1}.get(statement.raw(index), 0)
        if statement.word(index) == "as" and depth == 0:
            name = index + 1
    if name is None or statement.kind(name) not in ("word", "quoted"):
        return None
    return name if name + 1 == end or statement.word(name + 1) == "key" else None


def _secret(statement: Statement) -> int | None:
    """Return where a password begins that is no literal: a mistake of the app, and a secret all the same."""
    words = statement.words
    if words[0] not in _ACCOUNTS or not _TABLES.isdisjoint(words[1:5]):
        return None
    for index, word in enumerate(words):
        if word in _SECRETS or (word == "by" and "identified" in words):
            start = index + 1 + (statement.raw(index + 1) in _SECRET_MARKS)
            if statement.kind(start) not in ("string", "parameter", "") and words[start] not in _AFTER_SECRET:
                return start
    return None
