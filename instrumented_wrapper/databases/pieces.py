"""A piece of a statement as it is written, and how a database's texts are read into pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

__all__ = ["Piece", "Reading"]


class Piece(NamedTuple):
    """A piece of a statement as it is written, and where.

    `kind` is ``word``, ``quoted``, ``string``, ``dollar``, ``number``, ``digits`` (0x1F, 1_000, or no number at all),
    ``parameter``, ``variable`` or ``mark``.
    """

    kind: str
    raw: str
    start: int
    end: int


class Reading(NamedTuple):
    """How the texts of one database are read.

    Attributes:
        pieces_of: takes a text apart.
        is_ambiguous: tells whether a string may end somewhere else, under a setting of the server's.
        writes: operations on tables, where they begin a statement, besides those of every database.
        alone: operations without a target.
        named: operations that a name follows.
        objects: operations on objects: their kind and name follow.
    """

    pieces_of: Callable[[str], Iterator[Piece]]
    is_ambiguous: Callable[[Piece], bool]
    writes: frozenset[str] = frozenset()
    alone: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()
    objects: frozenset[str] = frozenset()
