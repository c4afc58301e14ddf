"""The operations of a statement, each with the tables, objects or settings that it is about.

Follows the grammar as far as names of targets go. A value, an alias, a column or a variable is never a target, so that
the number of summaries does not grow with the app's data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from instrumented_wrapper.databases.lexer import LexicalDialect, Statement

Groups = list[list[str]]  # an operation and its targets each

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
_BEFORE_TARGETS: Final = frozenset("from into join using straight_join".split())
_BEFORE_NAME: Final = frozenset("binary if not exists only concurrently table lateral on".split())
_MODIFIERS: Final = frozenset("low_priority high_priority delayed quick ignore".split())  # of INSERT, UPDATE, DELETE
_INSTEAD: Final = frozenset("rollback abort fail ignore replace".split())  # INSERT OR ... (SQLite)
_BEFORE_INTO_NAME: Final = frozenset("temp temporary unlogged table".split())  # SELECT INTO ...
_NO_TABLES: Final = frozenset("outfile dumpfile".split())  # SELECT INTO ... 'file'
_BEFORE_KIND: Final = frozenset(
    """or replace temp temporary global local unlogged unique recursive materialized event foreign trusted procedural
    default on virtual fulltext spatial aggregate constraint online offline force""".split()
)
_BEFORE_LATE_KIND: Final = frozenset("definer algorithm sql".split())  # CREATE DEFINER = x VIEW (MySQL)
_LATE_KINDS: Final = frozenset("view function procedure trigger event".split())
_AFTER_TARGETS: Final = frozenset(
    """where group having window order limit offset fetch for union except intersect set returning default overriding
    when values conflict duplicate lock procedure update""".split()
)
_CLAUSES: Final = _WRITES | _BEFORE_TARGETS | _AFTER_TARGETS | {"select", "replace"}  # the words that change the mode
_SEPARATORS: Final = ("(", ")", ",")
_SCOPES: Final = frozenset("local session global persist persist_only".split())
_NAMES: Final = ("word", "quoted", "either")  # never a string: it is a value

# A name that an app makes up each time: of it only the rest is shown.
_MANY_DIGITS: Final = 6  # of a clock or a counter, not of a year or a version
_GENERATED: Final = re.compile(r"\d{6,}|(?<![0-9A-Za-z])(?=(?:[A-Za-z]*\d){3})(?=\d*[A-Za-z])[0-9A-Za-z]{8,}")
_WORD_AND_NUMBER: Final = re.compile(r"([A-Za-z]+)(\d+)")
_TEMPORARY: Final = re.compile(r"(?:^|[^A-Za-z])te?mp(?:orary)?(?![A-Za-z])", re.IGNORECASE)

_OTHER, _TARGET = range(2)  # where a reader is: anywhere; before the name of a target


def groups_of(statement: Statement, reading: LexicalDialect) -> Groups:
    """Return the operations in their order, each with its targets."""
    return _Reader(statement, reading).read()


def is_scoped(statement: Statement) -> bool:
    """Return True if a SET has its scope before the name (``SET LOCAL x``)."""
    return statement.word(1) in _SCOPES and statement.word(2) not in ("authorization", "transaction", "characteristics")


@dataclass(slots=True)
class _Level:
    """State of the reader within one pair of parentheses.

    Attributes:
        query: the first word of the query in it, or an empty string.
        mode: True if a target comes next.
        listed: True if a comma is followed by another target.
    """

    query: str = ""
    mode: int = _OTHER
    listed: bool = False


class _Reader:
    def __init__(self, statement: Statement, reading: LexicalDialect) -> None:
        self._statement, self._reading = statement, reading
        self._word, self._raw = statement.word, statement.raw
        self._groups: Groups = []
        self._levels: list[_Level] = []

    def read(self) -> Groups:
        first, more = self._word(0), self._reading
        named = _NAMED | more.named
        if first in _OBJECTS | more.objects:
            self._object()
        elif first == "set":
            self._setting()
        elif first in _ALONE | named | _PREFIXES | more.alone | {"truncate"}:
            self._groups.append([self._raw(0)])
        if first in named:
            self._name(1)
        if first == "truncate":
            self._queries(1, _Level(mode=_TARGET, listed=True))
        elif first in _PREFIXES | _WRITES | more.writes | {"select", "with", ""}:
            self._queries(0, _Level())
        elif first == "copy" and self._raw(1) == "(":
            self._queries(1, _Level())
        return self._groups

    def _object(self) -> None:
        """CREATE, ALTER, DROP: the kind of object, its name, and the query that it is made from."""
        self._groups.append([self._raw(0)])
        words = self._statement.words
        kind = next((i for i in range(1, len(words)) if words[i] not in _BEFORE_KIND), 0)
        if self._word(kind) in _BEFORE_LATE_KIND:
            kind = next((i for i in range(kind, len(words)) if words[i] in _LATE_KINDS), 0)
        if not self._word(kind):
            return
        self._groups[-1].append(self._raw(kind))
        end = self._name(kind + 1)
        if self._word(kind) in ("table", "view") and self._word(0) == "create":
            self._queries(end, _Level())

    def _setting(self) -> None:
        """SET: the name of the setting, never its value."""
        self._groups.append([self._raw(0)])
        end = self._name(2 if is_scoped(self._statement) else 1, (*_NAMES, "variable"))
        if self._word(end - 1) in ("session", "time"):  # AUTHORIZATION, ZONE
            self._name(end)

    def _name(self, index: int, kinds: tuple[str, ...] = _NAMES) -> int:
        """Record the name that comes next, with its schema; return the index of its end."""
        kind, raw = self._statement.kind, self._raw
        while self._word(index) in _BEFORE_NAME:
            index += 1
        if kind(index) not in kinds:
            return index
        end = index + 1
        while raw(end) == "." and kind(end + 1) in _NAMES:
            end += 2
        self._groups[-1].append(_lasting("".join(piece.raw for piece in self._statement.pieces[index:end])))
        return end

    def _queries(self, index: int, level: _Level) -> None:
        """Record each query from `index` on, and the tables that it reads or writes."""
        self._levels = [level]
        pieces, words = self._statement.pieces, self._statement.words
        while index < len(pieces):
            matters = words[index] in _CLAUSES or pieces[index].raw in _SEPARATORS or self._levels[-1].mode == _TARGET
            index = self._step(index) if matters else index + 1

    def _step(self, index: int) -> int:
        level, word, raw = self._levels[-1], self._word(index), self._raw(index)
        if raw == "(":
            self._open(level)
        elif raw == ")":
            self._levels[-1:] = [] if len(self._levels) > 1 else [level]
        elif raw == ",":
            level.mode = _TARGET if level.listed else _OTHER
        elif word == "select" or self._is_write(word, index):
            self._operation(level, word, raw)
        elif word in _BEFORE_TARGETS and self._is_clause(level, word, index):
            return self._clause(level, word, index)
        elif word in _AFTER_TARGETS:
            level.mode, level.listed = _OTHER, False
        elif level.mode == _TARGET:
            return self._target(level, word, index)
        return index + 1

    def _open(self, level: _Level) -> None:
        """In parentheses are tables, or a query, where a table may be."""
        tables = level.mode == _TARGET
        self._levels.append(_Level("from", _TARGET, True) if tables else _Level())
        level.mode = _OTHER

    def _operation(self, level: _Level, word: str, raw: str) -> None:
        self._groups.append([raw])
        level.query = word
        level.mode = _OTHER if word in ("select", "merge", "values") else _TARGET
        level.listed = word in ("update", "delete")

    def _clause(self, level: _Level, word: str, index: int) -> int:
        """FROM, INTO, JOIN, USING: tables follow."""
        level.mode = _TARGET
        level.listed = word not in ("into", "join", "straight_join") or (word != "into" and level.listed)
        index += 1
        if word == "into":
            while self._word(index) in _BEFORE_INTO_NAME and self._statement.kind(index + 1) in _NAMES:
                index += 1
            level.mode = _OTHER if self._word(index) in _NO_TABLES else _TARGET
        return index

    def _target(self, level: _Level, word: str, index: int) -> int:
        """Record the name of a table, if there is one."""
        kind = self._statement.kind
        if word == "or" and self._word(index + 1) in _INSTEAD:
            return index + 2
        if word in _MODIFIERS and kind(index + 1) in _NAMES:
            return index + 1
        if word in _BEFORE_NAME or (word == "rows" and self._word(index + 1) == "from"):
            return index + 1
        level.mode = _OTHER
        if kind(index) not in _NAMES:
            return index + 1
        return self._name(index)

    def _is_write(self, word: str, index: int) -> bool:
        """Return True if rows are written, or a table is read as a whole."""
        return (word in _WRITES and self._begins_write(word, index)) or (word in self._reading.writes and index == 0)

    def _begins_write(self, word: str, index: int) -> bool:
        """Return True if this is an operation, not ``FOR UPDATE``, ``DO UPDATE``, ``THEN DELETE`` or a name."""
        before, last = self._raw(index - 1), self._word(index - 1)
        if index and self._statement.kind(index - 1) in ("quoted", "either"):
            return False
        if word == "values" and any(level.query for level in self._levels):
            return False  # rows of an INSERT, a FROM or a UNION
        if last == "as":
            return self._word(0) in ("create", "prepare")
        if self._word(0) in ("explain", "desc", "describe") and len(self._groups) == 1 and before not in (".", "("):
            return True
        values = word in ("values", "table") and before == ")"
        return not values and (before in ("(", ")") or (last in _BEFORE_WRITE and before != "."))

    def _is_clause(self, level: _Level, word: str, index: int) -> bool:
        """Return True if tables follow: not in ``IS DISTINCT FROM x`` and ``JOIN t USING (x)``."""
        if word == "using":
            return level.query in ("delete", "merge") and not self._lists_columns(level, index)
        if word == "straight_join":
            return level.listed
        distinct = self._word(index - 1) == "distinct" and self._word(index - 2) in ("is", "not")
        return bool(level.query) and not distinct

    def _lists_columns(self, level: _Level, index: int) -> bool:
        """Return True if this is the USING of a JOIN, not that of DELETE and MERGE."""
        return level.query == "delete" and self._raw(index + 1) == "(" and self._word(index + 2) != "select"


def _lasting(name: str) -> str:
    """Return a name without what is made up each time it is used."""
    if _TEMPORARY.search(name):
        return re.sub(r"\d+", "?", _GENERATED.sub("?", name))
    return _GENERATED.sub(_kept_part, name) if any(map(str.isdigit, name)) else name


def _kept_part(match: re.Match[str]) -> str:
    parts = _WORD_AND_NUMBER.fullmatch(match[0])
    if parts is None:
        return "?"
    return match[0] if len(parts[2]) < _MANY_DIGITS else f"{parts[1]}?"
