"""Statements made at random, with a mark in each of their values. Knows no parser: what is accepted, servers decide.

Tables are called ``tbl1``, columns ``col1``, aliases ``al1``, so that a mark is in nothing but a value.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from instrumented_wrapper.databases.lexer import LexicalDialect, split
from instrumented_wrapper.databases.targets import groups_of
from instrumented_wrapper.operations import Words

__all__ = ["Dialect", "Texts", "nothing_shown", "targets_of"]

# What apps put into strings: the mark is in place of {}.
DATA = (
    "{}",
    "O''{}",
    "{}''s",
    "{}; --",
    "/* {} */",
    "{}, (NULL), ",
    "a {} b\nFROM {}",
    '"{}"',
    "$${}$$",
    "`{}`",
    "é{}",
    "",
)


@dataclass(frozen=True)
class Dialect:
    """How a database spells values and names."""

    strings: Sequence[str]  # around a mark
    numbers: Sequence[str]  # around six digits
    names: Sequence[str]  # around a name
    constants: Sequence[str] = ("TRUE", "false", "NULL", "Null")
    functions: Sequence[str] = (
        "coalesce({}, {})",
        "CASE WHEN {} THEN {} END",
        "CAST({} AS char(10))",
        "nullif({}, {})",
    )
    operators: Sequence[str] = (
        "{} = {}",
        "{} <> {}",
        "{} IS NULL",
        "{} IS NOT NULL",
        "({} OR {})",
        "{} AND {}",
        "{} || {}",
    )
    comments: Sequence[str] = ("/* {} */", "-- {}\n", "/* '{} */")
    joins: Sequence[str] = (", ", " JOIN ", " LEFT JOIN ", " CROSS JOIN ")
    rows: str = "({})"
    extras: Sequence[str] = ()


@dataclass
class Texts:
    """A source of statements."""

    dialect: Dialect
    random: random.Random
    marks: list[str] = field(default_factory=list)

    def statement(self) -> str:
        """Return a statement; `marks` has what is in its values."""
        self.marks = []
        made = self._one_of(
            self._select, self._select, self._insert, self._update, self._delete, self._with, self._extra
        )
        return made()

    def soup(self, length: int) -> str:
        """Return tokens in no order."""
        self.marks = []
        words = (
            "SELECT",
            "FROM",
            "tbl1",
            "col1",
            ",",
            "(",
            ")",
            "=",
            ".",
            "VALUES",
            "AS",
            "$1",
            "::",
            "-",
            "+",
            "/",
            "*",
            ";",
        )
        makers = (self._value, self._comment, lambda: self.random.choice(words), lambda: self.random.choice(words))
        spaces = (" ", " ", " ", "\n", "")
        return "".join(self.random.choice(makers)() + self.random.choice(spaces) for _ in range(length))

    def mark(self) -> str:
        """Return six digits that are in no other value."""
        self.marks.append(f"7{self.random.randrange(10_000, 100_000)}")
        return self.marks[-1]

    def _one_of(self, *makers: Callable[[], str]) -> Callable[[], str]:
        return self.random.choice(makers)

    def _chance(self, of: float) -> bool:
        return self.random.random() < of

    def _value(self) -> str:
        kind = self.random.random()
        if kind < 0.15:
            return self.random.choice(self.dialect.constants)
        if kind < 0.4:
            return self.random.choice(self.dialect.numbers).format(self.mark())
        mark = self.mark()
        data = self.random.choice(DATA).format(mark, mark)
        return self.random.choice(self.dialect.strings).replace("{}", data)

    def _comment(self) -> str:
        return self.random.choice(self.dialect.comments).format(self.mark())

    def _space(self) -> str:
        return f" {self._comment()} " if self._chance(0.05) else self.random.choice((" ", " ", "\n"))

    def _name(self, kind: str) -> str:
        return self.random.choice(self.dialect.names).format(f"{kind}{self.random.randrange(1, 6)}")

    def _expression(self, depth: int = 0) -> str:
        kind = self.random.random()
        if depth > 2 or kind < 0.45:
            return self._value()
        if kind < 0.65:
            return self._name("col")
        if kind < 0.72:
            return f"{self._name('col')} IN ({self._list(depth + 1)})"
        if kind < 0.78:
            return f"{self._name('col')} IN ({self._select(depth + 1)})"
        form = self.random.choice((*self.dialect.functions, *self.dialect.operators))
        return "(" + form.format(*(self._expression(depth + 1) for _ in range(2))) + ")"

    def _list(self, depth: int = 0) -> str:
        return ", ".join(self._expression(depth) for _ in range(self.random.randrange(1, 4)))

    def _tables(self, depth: int) -> str:
        found = [self._source(depth) for _ in range(self.random.randrange(1, 4))]
        text = found[0]
        for number, one in enumerate(found[1:]):
            join = self.random.choice(self.dialect.joins)
            text += join + one
            if "JOIN" in join and "CROSS" not in join:
                text += (
                    f" ON {self._expression(2)} = {self._expression(2)}" if number or self._chance(0.9) else " ON 1 = 1"
                )
        return text

    def _source(self, depth: int) -> str:
        alias = f"al{self.random.randrange(1, 10_000)}"
        if depth < 2 and self._chance(0.15):
            return f"({self._select(depth + 1)}) AS {alias}"
        return self._name("tbl") + self.random.choice((f" {alias}", f" AS {alias}"))

    def _select(self, depth: int = 0) -> str:
        space = self._space
        items = self._expression(1) if depth else ", ".join(self._item() for _ in range(self.random.randrange(1, 4)))
        text = f"SELECT{space()}{items}{space()}FROM{space()}{self._tables(depth)}"
        if self._chance(0.6):
            text += f"{space()}WHERE{space()}{self._expression()} = {self._expression(1)}"
        if self._chance(0.2):
            text += f" ORDER BY {self._name('col')}, 1"
        if self._chance(0.2):
            text += f" LIMIT {self.mark()}"
        if depth == 0 and self._chance(0.1):
            first = text.partition(" ORDER")[0].partition(" LIMIT")[0]
            text = f"{first} UNION ALL SELECT {self._value()} FROM {self._name('tbl')}"
        return text

    def _item(self) -> str:
        return self._expression() + self.random.choice(("", f" AS al{self.random.randrange(9)}"))

    def _insert(self) -> str:
        row = self.dialect.rows
        columns = self.random.sample(range(1, 6), 2)
        head = f"INSERT INTO {self._name('tbl')} (col{columns[0]}, col{columns[1]}) "
        if self._chance(0.3):
            return head + f"SELECT {self._expression(1)}, {self._expression(1)} FROM {self._tables(1)}"
        rows = (f"{self._expression(1)}, {self._expression(1)}" for _ in range(self.random.randrange(1, 5)))
        return f"{head}VALUES{self._space()}" + ", ".join(row.format(one) for one in rows)

    def _update(self) -> str:
        given = f"col1 = {self._expression()}, col2 = {self._value()}"
        return f"UPDATE {self._name('tbl')} SET {given} WHERE {self._expression()} = 1"

    def _delete(self) -> str:
        return f"DELETE FROM {self._name('tbl')} WHERE {self._name('col')} IN ({self._list()})"

    def _with(self) -> str:
        return f"WITH al0 AS ({self._select(1)}) {self._select(1)}"

    def _extra(self) -> str:
        if not self.dialect.extras:
            return self._select()
        return self.random.choice(self.dialect.extras).format(
            value=self._value(), string=f"'{self.mark()}'", table=self._name("tbl"), select=self._select(1)
        )


def nothing_shown(words: Words, marks: Sequence[str]) -> bool:
    """Return whether no mark is in anything that is told."""
    told = f"{words.summary} {words.text or ''}"
    return not any(mark in told for mark in marks)


def targets_of(text: str, reading: LexicalDialect) -> set[str]:
    """Return the names of all targets, in lower case and without quotes and schema."""
    groups = [group for one in split(list(reading.pieces_of(text))) for group in groups_of(one, reading)]
    return {name.rpartition(".")[2].removeprefix("U&").strip('`"[]').lower() for group in groups for name in group[1:]}
