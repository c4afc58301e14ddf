"""What may be told of a statement of MySQL."""

from __future__ import annotations

from instrumented_wrapper.databases import summary
from instrumented_wrapper.databases.mysql.tokens import pieces_of
from instrumented_wrapper.databases.pieces import Piece, Reading
from instrumented_wrapper.databases.summary import cut
from instrumented_wrapper.operations import Words

__all__ = ["cut", "words_of"]


def _is_ambiguous(piece: Piece) -> bool:
    """Under NO_BACKSLASH_ESCAPES a string ends at a quote after a backslash: from here on, nothing is certain."""
    return piece.kind == "string" and ("\\'" in piece.raw or '\\"' in piece.raw)


_READING = Reading(
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
    """Return what may be told of `text`."""
    return summary.words_of(text, _READING)
