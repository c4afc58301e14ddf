"""What may be told of a statement: a summary of operations and targets, and its text without any value.

Rules: OpenTelemetry's conventions for database spans ("Generating a summary of the query", "Sanitization of
db.query.text"). Reads any text, broken ones included, and never raises: what it does not know is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from instrumented_wrapper.databases.pieces import Piece, Reading
from instrumented_wrapper.operations import Words

__all__ = ["cut", "words_of"]

LONGEST: Final = 8192  # characters that are read; what comes after them is not told
_LONGEST_SUMMARY: Final = 255  # characters, by the conventions
_CUT: Final = " ..."

_WRITES: Final = frozenset("insert update delete merge values table".split())
_BEFORE_WRITE: Final = frozenset(["", "explain", "analyze", "verbose", "union", "all", "except", "intersect"])
_OBJECTS: Final = frozenset("alter comment create drop refresh".split())
_ALONE: Final = frozenset(
    """abort analyze begin checkpoint close cluster commit deallocate discard do end execute fetch grant import listen
    load lock move notify reassign reindex release reset revoke rollback savepoint security start unlisten vacuum
    """.split()
)
_PREFIXES: Final = frozenset("declare explain prepare".split())  # a query follows
_NAMED: Final = frozenset("call copy show".split())  # a name follows
_BEFORE_TARGETS: Final = frozenset("from into join using".split())
_BEFORE_NAME: Final = frozenset("binary if not exists only concurrently table lateral on".split())
_BEFORE_KIND: Final = frozenset(
    """or replace temp temporary global local unlogged unique recursive materialized event foreign trusted procedural
    default on""".split()
)
_AFTER_TARGETS: Final = frozenset(
    """where group having window order limit offset fetch for union except intersect set returning default overriding
    when""".split()
)
_HOLDERS: Final = frozenset("database function procedure role routine system user".split())  # ALTER ROLE x SET ...
_NAMES: Final = ("word", "quoted", "variable")  # never a string: it is a value
_LITERALS: Final = ("string", "dollar", "number", "digits")
_SHOWN_VALUES: Final = frozenset("characteristics constraints transaction".split())  # words of SQL follow

_OTHER, _TARGET, _LISTED = range(3)  # where a reader is: anywhere; before a table; after one, in a list of them


def cut(text: str) -> str:
    """Return a text as far as it is told."""
    return text if len(text) <= LONGEST else text[:LONGEST] + _CUT


def words_of(text: str, reading: Reading) -> Words:
    """Return what may be told of `text`."""
    pieces = list(reading.pieces_of(text[:LONGEST]))
    if len(text) > LONGEST and pieces:
        pieces.pop()  # it may be half a token
    certain = next((index for index, piece in enumerate(pieces) if reading.is_ambiguous(piece)), len(pieces))
    statements = [_Statement(found, reading) for found in _split(pieces[:certain])]
    parts = [part for statement in statements for part in statement.summary()]
    first = parts[0].lower() if len(statements) == 1 and parts else ""
    target = parts[1] if len(parts) == 2 else ""
    return Words(
        summary=_joined(parts),
        text=_sanitized(text, statements) if certain == len(pieces) else None,
        operation=parts[0] if first in ("call", "copy") else "",
        collection=target if first == "copy" else "",
        procedure=target if first == "call" else "",
    )


def _split(pieces: list[Piece]) -> Iterator[list[Piece]]:
    """Yield the statements, each with the semicolon that ends it."""
    start = 0
    for end, piece in enumerate(pieces, 1):
        if piece.raw == ";" or end == len(pieces):
            yield pieces[start:end]
            start = end


def _joined(parts: list[str]) -> str:
    summary = ""
    for part in parts:
        longer = f"{summary} {part}" if summary else part
        if len(longer) > _LONGEST_SUMMARY:
            break
        summary = longer
    return summary


class _Statement:
    """One statement: its pieces, and those of them that are words, in lower case."""

    def __init__(self, pieces: Sequence[Piece], reading: Reading) -> None:
        self.pieces, self._reading = pieces, reading
        self._words = [piece.raw.lower() if piece.kind == "word" else "" for piece in pieces]
        self._parts: list[str] = []
        self._levels: list[list[int]] = []  # of each open parenthesis: whether a query is in it, and where we are

    def word(self, index: int) -> str:
        """Return the word at `index`, empty where there is none."""
        return self._words[index] if 0 <= index < len(self._words) else ""

    def summary(self) -> list[str]:
        """Return operations and targets in their order."""
        first, more = self.word(0), self._reading
        named = _NAMED | more.named
        if first in _OBJECTS | more.objects:
            self._object()
        elif first == "set":
            self._setting()
        elif first in _ALONE | named | _PREFIXES | more.alone | {"truncate"}:
            self._parts.append(self.pieces[0].raw)
        if first in named:
            self._name(1)
        if first in _PREFIXES | _WRITES | more.writes | {"copy", "select", "truncate", "with", ""}:
            self._queries(_TARGET if first == "truncate" else _OTHER, 1 if first in ("truncate", "copy") else 0)
        return self._parts

    def _object(self) -> None:
        """CREATE, ALTER, DROP: the kind of object, its name, and the query that it is made from."""
        self._parts.append(self.pieces[0].raw)
        kind = next((i for i in range(1, len(self.pieces)) if self.word(i) not in _BEFORE_KIND), 0)
        if not self.word(kind):
            return
        self._parts.append(self.pieces[kind].raw)
        self._name(kind + 1)
        if self.word(kind) in ("table", "view") and self.word(0) == "create" and "as" in self._words:
            self._queries(_OTHER, self._words.index("as"))

    def _setting(self) -> None:
        """SET: the name of the setting, never its value."""
        self._parts.append(self.pieces[0].raw)
        scoped = self.word(1) in ("local", "session") and self.word(2) != "authorization"
        end = self._name(2 if scoped else 1)
        if self.word(end - 1) in ("session", "time"):  # AUTHORIZATION, ZONE
            self._name(end)

    def _name(self, index: int) -> int:
        """Keep the name that comes next, with its schema; return where it ends."""
        while self.word(index) in _BEFORE_NAME:
            index += 1
        start = index
        while index < len(self.pieces) and self.pieces[index].kind in _NAMES:
            index += 2 if self._raw(index + 1) == "." else 1
            if self._raw(index - 1) != ".":
                break
        if index > start:
            self._parts.append("".join(piece.raw for piece in self.pieces[start:index]))
        return max(index, start)

    def _raw(self, index: int) -> str:
        return self.pieces[index].raw if 0 <= index < len(self.pieces) else ""

    def _queries(self, mode: int, index: int) -> None:
        """Keep each query from `index` on, and the tables that it reads or writes."""
        self._levels = [[False, mode]]
        while index < len(self.pieces):
            index = self._step(index)

    def _step(self, index: int) -> int:
        level, word, raw = self._levels[-1], self.word(index), self._raw(index)
        if raw == "(":
            self._levels.append([level[1] == _TARGET, level[1] if level[1] == _TARGET else _OTHER])
            level[1] = _LISTED if level[1] == _TARGET else level[1]
        elif raw == ")":
            self._levels[-1:] = [] if len(self._levels) > 1 else [level]
        elif word == "select" or self._is_write(word, index):
            self._parts.append(raw)
            level[:] = [True, _TARGET if word in ("update", "table") else _OTHER]
        elif word in _BEFORE_TARGETS and level[0] and self._is_clause(index):
            level[1] = _TARGET
        elif word in _AFTER_TARGETS:
            level[1] = _OTHER
        elif raw == "," and level[1] == _LISTED:
            level[1] = _TARGET
        elif level[1] == _TARGET and word not in _BEFORE_NAME and self.pieces[index].kind in _NAMES:
            level[1] = _LISTED
            return self._name(index)
        return index + 1

    def _is_write(self, word: str, index: int) -> bool:
        """Tell whether rows are written, or a table is read as a whole."""
        return (word in _WRITES and self._begins_write(index)) or (word in self._reading.writes and index == 0)

    def _begins_write(self, index: int) -> bool:
        """Tell whether this is an operation, not ``FOR UPDATE``, ``DO UPDATE``, ``THEN DELETE`` or a name."""
        before = self._raw(index - 1)
        if index and self.pieces[index - 1].kind == "quoted":
            return False
        if self.word(index - 1) == "as":
            return self.word(0) in ("create", "prepare")
        values = self._words[index] in ("values", "table") and before == ")"
        return not values and (before in ("(", ")") or (self.word(index - 1) in _BEFORE_WRITE and before != "."))

    def _is_clause(self, index: int) -> bool:
        """Tell whether tables follow: not in ``IS DISTINCT FROM x`` and ``JOIN t USING (x)``."""
        columns = self._words[index] == "using" and self._raw(index + 1) == "(" and self.word(index + 2) != "select"
        return not columns and self.word(index - 1) != "distinct"

    def value_at(self) -> int | None:
        """Return where the value of a SET begins; None where it is none, or has no value to be hidden."""
        held = self.word(0) in ("alter", "create") and not _HOLDERS.isdisjoint(self._words[1:4])
        if "set" not in (self._words if held else self._words[:1]):
            return None
        index = self._words.index("set") + 1
        if self.word(index) in ("local", "session") and self.word(index + 1) != "authorization":
            index += 1
        if self.word(index) in _SHOWN_VALUES:
            return None
        index += 2 if self.word(index) in ("session", "time") else 1
        while self._raw(index) == ".":
            index += 2
        return index + (self._raw(index) in ("=", ":=") or self.word(index) == "to")


# --- the text without values -------------------------------------------------------------------------------------


def _sanitized(text: str, statements: list[_Statement]) -> str:
    """Return `text` with each literal as ``?`` and without comments."""
    shown: list[str] = []
    end = 0
    for statement in statements:
        for start, stop, part in _parts(statement):
            if start > end and shown:
                shown.append("\n" if "\n" in text[end:start] else " ")
            shown.append(part)
            end = stop
    return "".join(shown) + (_CUT if len(text) > LONGEST else "")


def _parts(statement: _Statement) -> Iterator[tuple[int, int, str]]:
    """Yield where each piece is, and what is shown of it."""
    value_at = statement.value_at()
    for index, piece in enumerate(statement.pieces):
        if value_at is not None and index >= value_at and piece.raw != ";":
            last = statement.pieces[-1]
            yield piece.start, last.end, "?;" if last.raw == ";" else "?"  # all of it is the value
            return
        yield piece.start, piece.end, "?" if piece.kind in _LITERALS else piece.raw
