"""Carry a session with many settings to a new physical connection: by a switch, or by an app that sets each one."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.cases import CARRIED
from benchmarks.pairs import workers
from benchmarks.sides import BARE, PLAIN
from benchmarks.table import Row

__all__ = ["carrying_rows"]


def carrying_rows(dsn: str, rounds: int) -> Iterator[Row]:
    """Yield a row for each number of settings."""
    with workers(BARE, PLAIN) as (bare, ours):
        for count in CARRIED:
            bare.open(f"one by one {count}", dsn)
            ours.open(f"switch {count}", dsn)
            pairs = [(bare.round(1), ours.round(1)) for _ in range(rounds + 1)]
            first, second = zip(*pairs[1:], strict=True)  # the first is for warming
            yield Row(f"a new session with {count} settings, wall", first, second)
