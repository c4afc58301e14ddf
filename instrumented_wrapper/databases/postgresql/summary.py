"""Summarise a statement of PostgreSQL without its values."""

from __future__ import annotations

from instrumented_wrapper.databases import summary
from instrumented_wrapper.databases.lexer import LexicalDialect, Piece
from instrumented_wrapper.databases.postgresql.tokens import pieces_of
from instrumented_wrapper.operations import Words


def _is_ambiguous(piece: Piece) -> bool:
    """Return True at a backslash before a quote, from which on the meaning of the text is uncertain.

    Under ``standard_conforming_strings = off``, and in a string that continues one that began with E on the line
    before, the string does not end there.
    """
    return piece.kind == "string" and piece.raw[0] not in "eE" and "\\'" in piece.raw


READING = LexicalDialect(pieces_of, _is_ambiguous)


def words_of(text: str) -> Words:
    """Return the summary and the sanitized form of `text`."""
    return summary.words_of(text, READING)
