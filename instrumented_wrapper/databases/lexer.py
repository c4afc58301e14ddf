"""A piece of a statement as it is written, a statement of them, and how a database's texts are read into pieces."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

_LONG: Final = 1000  # characters; longer texts are mostly data
_NUMBERS: Final = re.compile(r"(?<![\w$.])\d++(?:\.\d++)?")
# The same in parentheses, again and again, as rows without their literals are; with parentheses in it, one level deep.
_ROWS: Final = re.compile(r"(\((?:[^()]++|\([^()]*+\))*+\))(?:\s*+,\s*+\1)++")


class Piece(NamedTuple):
    """A piece of a statement as it is written, and where.

    `kind` is ``word``, ``quoted``, ``string``, ``dollar``, ``number``, ``digits`` (0x1F, 1_000, or no number at all),
    ``parameter``, ``variable``, ``mark``, ``either`` (in quotes that are a name's and a string's: a name only where a
    target is), or ``open`` (a quote that is never closed, to the end of the text).
    """

    kind: str
    raw: str
    start: int
    end: int


class LexicalDialect(NamedTuple):
    """The lexical rules of one database.

    Attributes:
        pieces_of: splits a text into pieces.
        is_ambiguous: returns True if a setting of the server decides where a string ends.
        writes: words that begin a statement on tables, in addition to those that every database has.
        alone: operations without a target.
        named: operations that are followed by a name.
        objects: operations on objects, which are followed by the kind and the name of the object.
    """

    pieces_of: Callable[[str], Iterator[Piece]]
    is_ambiguous: Callable[[Piece], bool]
    writes: frozenset[str] = frozenset()
    alone: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()
    objects: frozenset[str] = frozenset()


class Statement:
    """One statement: its pieces, and those of them that are words, in lower case."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces
        self.words = [piece.raw.lower() if piece.kind == "word" else "" for piece in pieces]

    def word(self, index: int) -> str:
        """Return the word at `index`, or an empty string."""
        return self.words[index] if 0 <= index < len(self.words) else ""

    def raw(self, index: int) -> str:
        """Return the piece at `index` as written, or an empty string."""
        return self.pieces[index].raw if 0 <= index < len(self.pieces) else ""

    def kind(self, index: int) -> str:
        """Return the kind of the piece at `index`, or an empty string."""
        return self.pieces[index].kind if 0 <= index < len(self.pieces) else ""


def split(pieces: Sequence[Piece]) -> Iterator[Statement]:
    """Yield the statements, each with the semicolon that ends it."""
    start = 0
    for end, piece in enumerate(pieces, 1):
        if piece.raw == ";" or end == len(pieces):
            yield Statement(pieces[start:end])
            start = end


def without_data(text: str, strings: re.Pattern[str], uncertain: re.Pattern[str]) -> str:
    """Return a long text without literals and repeated rows: what else is in it takes little time to look through.

    Args:
        text: one or several statements; a short one is returned as it is.
        strings: a string without escapes.
        uncertain: what makes it uncertain where strings end; if it occurs outside `strings`, `text` is returned.
    """
    if len(text) <= _LONG:
        return text
    rest = _ROWS.sub(r"\1", _NUMBERS.sub("0", strings.sub("''", text)))
    return text if uncertain.search(rest) else rest
