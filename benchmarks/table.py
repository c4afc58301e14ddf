"""Print a comparison as a line. Knows figures and targets, not their sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

__all__ = ["BETWEEN_TREES", "HEADINGS", "Added", "Ratio", "Row", "in_unit", "lower_quartile"]

HEADINGS: Final = ("what", "bare", "with us", "added", "ratio", "target", "")
BETWEEN_TREES: Final = ("what", "before", "now", "added", "ratio", "", "")
_WIDTHS: Final = (58, 11, 11, 11, 7, 13, 5)
_UNITS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


@dataclass(frozen=True, slots=True)
class Added:
    """A target: a maximum of seconds more than bare."""

    limit: float

    def __str__(self) -> str:
        return f"+{in_unit(self.limit)}"


@dataclass(frozen=True, slots=True)
class Ratio:
    """A target: a maximum ratio to bare."""

    limit: float

    def __str__(self) -> str:
        return f"x{self.limit:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """What rounds of both sides measured, in seconds."""

    name: str
    bare: Sequence[float]
    ours: Sequence[float]
    target: Added | Ratio | None = None

    @property
    def added(self) -> float:
        """Return the difference of the lower quartiles, which other load of the machine affects least."""
        return lower_quartile(self.ours) - lower_quartile(self.bare)

    @property
    def ratio(self) -> float:
        """Return the ratio to bare."""
        return median(self.ours) / median(self.bare)

    @property
    def verdict(self) -> str:
        """Return ``ok`` or ``over``, or an empty text if there is no target."""
        if self.target is None:
            return ""
        found = self.added if isinstance(self.target, Added) else self.ratio
        return "ok" if found <= self.target.limit else "over"

    def __str__(self) -> str:
        sign = "+" if self.added >= 0 else "-"
        return line(
            self.name,
            in_unit(median(self.bare)),
            in_unit(median(self.ours)),
            sign + in_unit(abs(self.added)),
            f"{self.ratio:.2f}",
            str(self.target or "-"),
            self.verdict,
        )


def lower_quartile(values: Sequence[float]) -> float:
    """Return the value that a quarter of `values` is below."""
    return sorted(values)[len(values) // 4]


def in_unit(seconds: float) -> str:
    """Return a number of seconds with the unit that reads best."""
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= size), _UNITS[-1])
    return f"{_three_digits(seconds / size)} {unit}"


def _three_digits(value: float) -> str:
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}".removesuffix(".00")


def line(name: str, *cells: str) -> str:
    """Return one line of the table."""
    figures = (cell.rjust(width) for cell, width in zip(cells, _WIDTHS[1:], strict=True))
    return "  ".join((name.ljust(_WIDTHS[0]), *figures)).rstrip()
