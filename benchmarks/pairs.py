"""Run two sides in turn, in many short rounds, so that other load of the machine affects both alike.

Each generation has new processes: its memory layout makes a process some per cent faster or slower
for all its life.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sides import BARE, PLAIN
from benchmarks.table import Added, Row
from benchmarks.worker import Worker

__all__ = ["Comparison", "compare", "compare_trees", "one_core", "workers"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A row to be measured: a case, where, with how many operations per round, by which kind of worker."""

    name: str
    case: str
    dsn: str
    number: int
    target: Added | None = None
    kind: str = PLAIN


@contextmanager
def one_core() -> Iterator[None]:
    """Keep processes that are started inside on one core: moving between cores disturbs more than the whole cost."""
    if not hasattr(os, "sched_setaffinity"):  # not Linux: more noise
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@contextmanager
def workers(*kinds: str) -> Iterator[list[Worker]]:
    """Start a worker of each kind, and end them."""
    started = [Worker(kind) for kind in kinds]
    yield started  # after an error they end with this process
    for worker in started:
        worker.close()


def compare(comparisons: Sequence[Comparison], rounds: int, generations: int) -> Iterator[Row]:
    """Measure all comparisons once per generation; return a row for each."""
    measured: dict[str, list[tuple[float, float]]] = {comparison.name: [] for comparison in comparisons}
    for _ in range(generations):
        for name, pairs in _generation(comparisons, rounds):
            measured[name].extend(pairs)
    for comparison in comparisons:
        bare, ours = zip(*measured[comparison.name], strict=True)
        yield Row(comparison.name, bare, ours, comparison.target)


def compare_trees(comparisons: Sequence[Comparison], tree: Path, rounds: int, generations: int) -> Iterator[Row]:
    """Measure the package of another work tree beside this one's; yield a row for each comparison, as it is known."""
    for comparison in comparisons:
        pairs: list[tuple[float, float]] = []
        for _ in range(generations):
            before, now = Worker(comparison.kind, tree), Worker(comparison.kind)
            pairs += _pairs(comparison, before, now, rounds)
            before.close()
            now.close()
        first, second = zip(*pairs, strict=True)
        yield Row(comparison.name, first, second)


def _generation(comparisons: Iterable[Comparison], rounds: int) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    kinds = tuple(dict.fromkeys(comparison.kind for comparison in comparisons))
    with workers(BARE, BARE, *(kind for kind in kinds if kind != BARE)) as (first, second, *others):
        sides = {worker.kind: worker for worker in (second, *others)}
        for comparison in comparisons:
            yield comparison.name, _pairs(comparison, first, sides[comparison.kind], rounds)


def _pairs(comparison: Comparison, bare: Worker, ours: Worker, rounds: int) -> list[tuple[float, float]]:
    for worker in (bare, ours):
        worker.open(comparison.case, comparison.dsn)
        worker.round(comparison.number)  # warm
    return [_pair(bare, ours, comparison.number, bool(index % 2)) for index in range(rounds)]


def _pair(bare: Worker, ours: Worker, number: int, turned: bool) -> tuple[float, float]:
    """Run a round of each. The first side changes, because the first may warm the server for the second."""
    if turned:
        measured = ours.round(number)
        return bare.round(number), measured
    return bare.round(number), ours.round(number)
