"""Summarise a statement of MySQL without its values."""

from __future__ import annotations

from typing import Final

from instrumented_wrapper.databases import summary
from instrumented_wrapper.databases.lexer import LexicalDialect, Piece
from instrumented_wrapper.databases.mysql.tokens import pieces_of
from instrumented_wrapper.operations import Words

_QUOTED: Final = ("string", "variable", "quoted", "comment", "dollar")


def _is_ambiguous(piece: Piece) -> bool:
    """Return True if the meaning of the text is uncertain from this point on.

    Under NO_BACKSLASH_ESCAPES a string ends at a quote after a backslash. A versioned comment (``/*!999999 ... */``) is
    executed or ignored depending on the server, so a string in it that contains the end of a comment has two readings.
    """
    if piece.kind not in _QUOTED:
        return False
    return "*/" in piece.raw or ("\\" in piece.raw and f"\\{piece.raw[-1]}" in piece.raw)


READING = LexicalDialect(
    pieces_of,
    _is_ambiguous,
    writes=frozenset({"replace"}),
    alone=frozenset(
        """binlog cache change check checksum desc describe flush handler help install kill optimize purge repair
        resignal restart shutdown signal stop unlock uninstall xa get""".split()
    ),
    named=frozenset({"use"}),
    objects=frozenset({"rename"}),
)


def words_of(text: str) -> Words:
    """Return the summary and the sanitized form of `text`."""
    return summary.words_of(text, READING)
