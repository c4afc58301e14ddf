"""Compare the package with its peer and with the floor: without an SDK, sampler off, on, and on with metrics.

All sides of a row run in turn in the same rounds, so that other load of the machine affects all of them alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.pairs import workers
from benchmarks.sides import BARE, FLOOR, MODES, OURS, PEER
from benchmarks.table import in_unit, lower_quartile

__all__ = ["peer_lines"]

US: Final = 1e-6
GOALS: Final = {"none": 3 * US, "off": 7 * US, "on": 30 * US, "metrics": 40 * US}  # added per statement
_SIDES: Final = (BARE, FLOOR, PEER, OURS)


@dataclass(frozen=True, slots=True)
class Contest:
    """A case that all sides run; `goals` bound the time that the package may add."""

    name: str
    case: str
    number: int
    is_statement: bool = True


CONTESTS: Final = (
    Contest("SELECT 1 and fetch", "statement", 50),
    Contest("  the same, wall", "statement, wall", 50),
    Contest("async SELECT 1 and fetch", "async statement", 50),
    Contest("connect()", "connect", 2, is_statement=False),
    Contest("pool: with pool.connection()", "pool block", 50, is_statement=False),
)
_WIDTHS: Final = (30, 18, 9, 10, 10, 10, 7, 5)


def peer_lines(dsn: str, trusted: str, rounds: int, generations: int) -> Iterator[str]:
    """Yield a table: what each side adds to bare psycopg."""
    yield _line("added to bare psycopg", "SDK", "bare", "the floor", "the peer", "ours", "goal", "")
    for mode, words in MODES.items():
        kinds = tuple(side if side == BARE else f"{side}/{mode}" for side in _SIDES)
        for contest, measured in _measured(kinds, dsn, trusted, rounds, generations):
            yield _row(contest, mode, words, measured)


def _measured(
    kinds: tuple[str, ...], dsn: str, trusted: str, rounds: int, generations: int
) -> Iterator[tuple[Contest, list[list[float]]]]:
    measured: dict[Contest, list[list[float]]] = {contest: [[] for _ in kinds] for contest in CONTESTS}
    for _ in range(generations):
        with workers(*kinds) as sides:
            for contest in CONTESTS:
                for side in sides:
                    side.open(contest.case, trusted if contest.case == "connect" else dsn)
                    side.round(contest.number)  # warm
                for number in range(rounds):
                    for turn in range(len(sides)):  # who goes first changes
                        place = (number + turn) % len(sides)
                        measured[contest][place].append(sides[place].round(contest.number))
    yield from measured.items()


def _row(contest: Contest, mode: str, words: str, measured: list[list[float]]) -> str:
    bare, *others = measured
    added = [lower_quartile(side) - lower_quartile(bare) for side in others]
    goal = GOALS[mode] if contest.is_statement else None
    verdict = "" if goal is None else "ok" if added[-1] <= goal else "over"
    signed = (f"{'+' if seconds >= 0 else '-'}{in_unit(abs(seconds))}" for seconds in added)
    return _line(contest.name, words, in_unit(median(bare)), *signed, in_unit(goal) if goal else "", verdict)


def _line(name: str, *cells: str) -> str:
    figures = (cell.rjust(width) for cell, width in zip(cells, _WIDTHS[1:], strict=True))
    return "  ".join((name.ljust(_WIDTHS[0]), *figures)).rstrip()
