"""Summarise a statement: its operations and targets, and its text without values.

The rules are those of OpenTelemetry's database conventions ("Generating a summary of the query", "Sanitization of
db.query.text"). Any text is accepted, broken ones too, and nothing is raised: unknown parts are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from instrumented_wrapper.databases.lexer import LexicalDialect, Piece, Statement, split
from instrumented_wrapper.databases.sanitizing import is_plain, shown_parts
from instrumented_wrapper.databases.targets import Groups, groups_of
from instrumented_wrapper.operations import Words

LONGEST: Final = 8192  # characters that are read; what comes after them is not told
_LONGEST_SUMMARY: Final = 255  # characters, by the conventions
_CUT: Final = " ..."
_BODIES: Final = frozenset("function procedure trigger event".split())
_STRINGS: Final = ("string", "either", "dollar")
_QUOTES: Final = "'\"`$_"
# Types that a string may follow without a space: their name is read as what the string is.
_TYPES: Final = frozenset("date time timestamp timestamptz interval".split())


_WORDS: Final = ("word", "number", "digits")
_BETWEEN_STRINGS: Final = frozenset(
    """and or xor not like ilike rlike regexp glob match similar in is between as then else when end from where join on
    using having order by limit union intersect except select values set collate escape uescape div mod over filter
    returning into default comment identified until password key charset character set references check separator
    terminated enclosed escaped language""".split()
)


def cut(text: str) -> str:
    """Truncate a text to the length that telemetry records."""
    return text if len(text) <= LONGEST else text[:LONGEST] + _CUT


def words_of(text: str, reading: LexicalDialect) -> Words:
    """Return the summary and the sanitized form of `text`."""
    pieces = list(reading.pieces_of(text[:LONGEST]))
    if len(text) > LONGEST and pieces:
        pieces.pop()  # it may be half a token
    certain = _certain(text, pieces, reading)
    statements = list(split(pieces[:certain]))
    groups = _groups(statements, reading)
    first = groups[0][0].lower() if len(statements) == 1 and groups else ""
    target = groups[0][1] if len(groups) == 1 and len(groups[0]) == 2 else ""
    known = certain == len(pieces)
    return Words(
        summary=_joined(groups),
        text=_sanitized(text, statements) if known else None,
        operation=groups[0][0] if first in ("call", "copy") else "",
        collection=target if first == "copy" else "",
        procedure=target if first == "call" else "",
        showable=known and is_plain(statements),
    )


def _certain(text: str, pieces: Sequence[Piece], reading: LexicalDialect) -> int:
    """Return how many pieces are what they seem to be.

    One apostrophe too many turns a text inside out: what was data is read as SQL. Then strings are next to words, or
    the last one never ends, and nothing is certain from the first string on. No database has a backslash outside them.
    """
    first, previous = len(pieces), -1
    for index, piece in enumerate(pieces):
        if piece.kind in _STRINGS or (piece.kind == "variable" and piece.raw[1:2] in ("'", '"')):
            first = min(first, index)
            prose = previous >= 0 and _is_prose(pieces[previous + 1 : index])
            if prose or _touches(text, pieces, index) or reading.is_ambiguous(piece):
                return first
            previous = index
        elif piece.kind == "open" or piece.raw == "\\" or reading.is_ambiguous(piece):
            return min(first, index)
    return len(pieces)


def _touches(text: str, pieces: Sequence[Piece], index: int) -> bool:
    """Return True if a string has a word right before or after it."""
    kind, _, start, end = pieces[index]
    if end < len(text) and _is_of_a_word(text[end]):
        return True
    return (
        start > 0
        and kind != "variable"
        and _is_of_a_word(text[start - 1])
        and pieces[index - 1].raw.lower() not in _TYPES
    )


def _is_prose(between: Sequence[Piece]) -> bool:
    """Return True if only words stand between two strings, and no keyword of SQL: ``'rock ' n ' roll'``."""
    if not between or any(piece.kind not in _WORDS for piece in between):
        return False
    return _BETWEEN_STRINGS.isdisjoint(piece.raw.lower() for piece in between)


def _is_of_a_word(character: str) -> bool:
    return character.isalnum() or character in _QUOTES or character >= "\x80"


def _groups(statements: Sequence[Statement], reading: LexicalDialect) -> Groups:
    groups: Groups = []
    for statement in statements:
        groups += groups_of(statement, reading)
        if statement.word(0) == "create" and "begin" in statement.words and not _BODIES.isdisjoint(statement.words):
            break  # what follows is its body
    return groups


def _joined(groups: Groups) -> str:
    """Join operations and targets. What is repeated is there once: a batch has as many as the app has rows."""
    summary = ""
    for group in dict.fromkeys(tuple(dict.fromkeys(group)) for group in groups):
        for part in group:
            longer = f"{summary} {part}" if summary else part
            if len(longer) > _LONGEST_SUMMARY:
                return summary
            summary = longer
    return summary


def _sanitized(text: str, statements: Sequence[Statement]) -> str:
    """Return `text` with each literal as ``?`` and without comments."""
    shown: list[str] = []
    end = 0
    for statement in statements:
        for start, stop, part in shown_parts(statement):
            if start > end and shown:
                shown.append("\n" if "\n" in text[end:start] else " ")
            shown.append(part)
            end = stop
    return "".join(shown) + (_CUT if len(text) > LONGEST else "")
