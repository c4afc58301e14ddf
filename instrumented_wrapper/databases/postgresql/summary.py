"""What may be told of a statement of PostgreSQL."""

from __future__ import annotations

from instrumented_wrapper.databases import summary
from instrumented_wrapper.databases.lexer import LexicalDialect, Piece
from instrumented_wrapper.databases.postgresql.tokens import pieces_of
from instrumented_wrapper.operations import Words


def _is_ambiguous(piece: Piece) -> bool:
    """A backslash before a quote: under ``standard_conforming_strings = off``, and where a string goes on that began
    with E on the line before, the string does not end there. From here on, nothing is certain.
    """  # fmt: skip
    return piece.kind == "string" and piece.raw[0] not in "eE" and "\\'" in piece.raw


READING = LexicalDialect(pieces_of, _is_ambiguous)


def words_of(text: str) -> Words:
    """Return what may be told of `text`."""
    return summary.words_of(text, READING)
