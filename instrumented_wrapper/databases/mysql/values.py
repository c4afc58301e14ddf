"""Typed values of user variables: the query for a value and its type, and the literal that restores both. Pure.

Each value is also its text, which the app sees; `literal` is an expression of the same value and type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final


class Value(str):
    """A value with a known type. It equals its text, and another `Value` only if the types are equal too."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        """Return True for the same text, and for the same text of the same type."""
        same = str.__eq__(self, other) is True
        return same and (not isinstance(other, Value) or self.literal() == other.literal())

    def __ne__(self, other: object) -> bool:
        """Return the opposite."""
        return not self == other

    __hash__ = str.__hash__

    def literal(self) -> str:
        """Return the expression that has this value."""
        return str(self)


class Number(Value):
    """A number as the app has written it, or an integer."""

    __slots__ = ()


class Unsigned(Value):
    """An unsigned integer."""

    __slots__ = ()

    def literal(self) -> str:
        """Return a cast: the literal of a small one is signed."""
        return f"CAST({self} AS UNSIGNED)"


class Decimal(Value):
    """An exact number, also where it has no digits after its point."""

    __slots__ = ()

    def literal(self) -> str:
        """Return it with a point."""
        return str(self) if "." in self else f"{self}."


class Double(Value):
    """A floating-point number."""

    __slots__ = ()

    def literal(self) -> str:
        """Return it with an exponent."""
        return str(self) if "e" in self.lower() else f"{self}e0"


class Bits(Value):
    """Bytes: as far as they are text, and the others escaped."""

    __slots__ = ()

    def literal(self) -> str:
        """Return it in hexadecimal."""
        return f"X'{_hexadecimal(self)}'"


class Unreadable(Value):
    """A value that the server does not give in full: a reset takes it away, and no other session can be given it."""

    __slots__ = ()

    def __new__(cls) -> Unreadable:
        """Show that there is one."""
        return super().__new__(cls, "<unreadable>")

    def __getnewargs__(self) -> tuple[()]:  # type: ignore[override]
        """Return what a copy is made of."""
        return ()


class Text(Value):
    """A text with its collation; without one it has that of the connection."""

    collation: str

    def __new__(cls, text: str, collation: str = "") -> Text:
        """Take the collation along."""
        made = super().__new__(cls, text)
        made.collation = collation
        return made

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        """Return what a copy is made of."""
        return str(self), self.collation

    def literal(self) -> str:
        """Return it converted to its character set."""
        charset = self.collation.partition("_")[0]
        text = f"CONVERT(X'{_hexadecimal(self)}' USING utf8mb4)"
        converted = text if charset == "utf8mb4" else f"CONVERT({text} USING {charset})"
        return f"{converted} COLLATE {self.collation}"


def literal(value: str | None) -> str:
    """Return the expression of a value, whatever ``sql_mode`` and ``character_set_client`` are."""
    if value is None:
        return "NULL"
    return value.literal() if isinstance(value, Value) else text_literal(value)


def text_literal(text: str) -> str:
    """Return the expression of a text."""
    if text.isascii() and "\\" not in text and text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return f"CONVERT(X'{_hexadecimal(text)}' USING utf8mb4)"


def _hexadecimal(text: str) -> str:
    return text.encode(errors="surrogateescape").hex()


_KINDS: Final[dict[str, Callable[[str], str]]] = {"i": Number, "u": Unsigned, "m": Decimal, "d": Double, "x": Bits}


def value_of(cell: str) -> str:
    """Return the value of an answer: the kind, the collation of a text, and the value in hexadecimal."""
    kind, rest = cell[0], cell[1:]
    if kind == "t":
        collation, _, rest = rest.partition(":")
        return Text(_readable(rest), collation)
    return _KINDS[kind](_readable(rest))


def _readable(data: str) -> str:
    return bytes.fromhex(data).decode(errors="surrogateescape")


def kind_of_number(variable: str, mariadb: bool) -> str:
    """Return the query for the type of a value that has no character set.

    MySQL reports the type in JSON. MariaDB does not: a number has the coercibility of numbers (5, in newer versions
    7), a double loses the smallest digit of a decimal, and a decimal's quotient has more digits after its point than
    that of an integer, which has ``div_precision_increment``.
    """
    if not mariadb:
        return (
            f"CASE JSON_TYPE(JSON_EXTRACT(JSON_ARRAY({variable}), _utf8mb4'$[0]')) WHEN 'INTEGER' THEN 'i'"
            " WHEN 'UNSIGNED INTEGER' THEN 'u' WHEN 'DECIMAL' THEN 'm' WHEN 'DOUBLE' THEN 'd' ELSE 'x' END"
        )
    return (
        f"CASE WHEN COERCIBILITY({variable}) <> COERCIBILITY(1) THEN 'x'"
        f" WHEN LENGTH(CONCAT({variable} * 0 + 0.{'0' * 29}1)) < 30 THEN 'd'"
        f" WHEN LENGTH(CONCAT({variable} * 0 / 3)) > LENGTH(CONCAT(1 * 0 / 3)) THEN 'm' ELSE 'i' END"
    )
