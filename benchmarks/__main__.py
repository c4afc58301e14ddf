"""``python -m benchmarks [--quick] [--drivers] [--loop] [--against TREE]``: start servers, compare, print a table.

The result is for people; it is not a gate.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from benchmarks import drivers
from benchmarks.carrying import carrying_rows
from benchmarks.cases import CASES
from benchmarks.failing import failover_rows
from benchmarks.importing import import_rows
from benchmarks.loops import loop_rows
from benchmarks.pairs import Comparison, compare, compare_trees, one_core
from benchmarks.peers import peer_lines
from benchmarks.sides import BARE, SESSION_SDK
from benchmarks.table import BETWEEN_TREES, HEADINGS, Added, Row, line
from benchmarks.wire import wire_lines
from servers import Cluster

US: Final = 1e-6
_STATEMENT: Final = Added(1.5 * US)
_POOL: Final = Added(1 * US)
_CONNECT: Final = Added(100 * US)
_ROW: Final = Added(0.01 * US)  # nothing; this is what can be measured


@dataclass(frozen=True, slots=True)
class Amount:
    """The amount of measuring: rounds, operations, generations."""

    rounds: int
    generations: int
    imports: int
    failovers: int


FULL: Final = Amount(rounds=60, generations=4, imports=12, failovers=6)
QUICK: Final = Amount(rounds=30, generations=2, imports=4, failovers=2)


def comparisons(cluster: Cluster) -> list[Comparison]:
    """Return the comparisons, in the order of the table."""
    one, two = cluster.primary.dsn(), cluster.dsn()
    trusted = cluster.primary.dsn(user="postgres")  # a password's hashing would hide what connect() costs by itself
    return [
        Comparison("SELECT 1 and fetch, bare twice: the noise", "statement", one, 50, kind=BARE),
        Comparison("SELECT 1 and fetch, one host", "statement", one, 50, _STATEMENT),
        Comparison("SELECT 1 and fetch, two hosts (failover on)", "statement", two, 50, _STATEMENT),
        Comparison("  the same, wall", "statement, wall", two, 50, _STATEMENT),
        Comparison("  the same, an SDK configured", "statement", two, 50, _STATEMENT, SESSION_SDK),
        Comparison("connection.execute(SELECT 1), a cursor each", "connection.execute", two, 50, _STATEMENT),
        Comparison("async SELECT 1 and fetch", "async statement", two, 50, _STATEMENT),
        Comparison("one row of 10,000", "rows", two, 1, _ROW),
        Comparison("BEGIN, SELECT, COMMIT (non-autocommit)", "transaction", two, 20, Added(3 * _STATEMENT.limit)),
        Comparison("BEGIN, SELECT, COMMIT (transaction() block)", "block", two, 20, Added(3 * _STATEMENT.limit)),
        Comparison("pool: with pool.connection(), nothing done", "pool block", two, 100, _POOL),
        Comparison("pool: getconn and putconn", "pool methods", two, 100, _POOL),
        Comparison("pool: the same, autocommit changed, back by the app", "pool changed", two, 50),
        Comparison("pool: the same, autocommit changed, reset by us", "pool reset", two, 50),
        Comparison("pool: two settings by SQL, reset by us; bare: they leak, wall", "pool set", two, 20),
        Comparison("SET work_mem = '5MB', not for the first time", "set", two, 50),
        Comparison("conn.autocommit = x", "setting", two, 100),
        Comparison("connect()", "connect", trusted, 2, _CONNECT),
        Comparison("connect() to two hosts", "connect", cluster.dsn(user="postgres"), 2, _CONNECT),
        Comparison("close()", "close", trusted, 2),
    ]


def measure(amount: Amount) -> Iterator[Row | str]:
    """Yield the lines of the table, each when it is measured."""
    with one_core(), Cluster() as cluster:  # the servers stay on that core too, whoever asks them
        one, trusted = cluster.primary.dsn(), cluster.primary.dsn(user="postgres")
        yield from compare(comparisons(cluster), amount.rounds, amount.generations)
        yield from carrying_rows(trusted, amount.rounds)
        yield from wire_lines(cluster)
        yield from import_rows(amount.imports)
        yield ""
        yield from peer_lines(one, trusted, amount.rounds, max(1, amount.generations // 2))
        yield ""
        yield from _of_drivers(cluster, amount)
        yield ""
    with Cluster() as cluster:
        yield from failover_rows(cluster, amount.failovers)


def measure_drivers(amount: Amount) -> Iterator[Row | str]:
    """Yield the lines of the other drivers only."""
    with one_core(), Cluster() as cluster:
        yield from _of_drivers(cluster, amount)


def measure_loops(amount: Amount) -> Iterator[Row | str]:
    """Yield the lines of the event loop alone."""
    yield from loop_rows(amount.failovers)


def measure_trees(amount: Amount, tree: Path) -> Iterator[Row | str]:
    """Yield a line for each operation of each driver, for another work tree and this one."""
    with one_core(), Cluster() as cluster, drivers.comparisons(cluster) as rows:
        yield from compare_trees(rows, tree, amount.rounds, max(1, amount.generations // 2))


def _of_drivers(cluster: Cluster, amount: Amount) -> Iterator[Row | str]:
    with drivers.comparisons(cluster) as others:
        yield from compare(others, amount.rounds, max(1, amount.generations // 2))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a first look, in half a minute")
    parser.add_argument("--drivers", action="store_true", help="only the rows of the drivers besides psycopg")
    parser.add_argument("--loop", action="store_true", help="only how long failovers block an event loop")
    parser.add_argument("--against", type=Path, metavar="TREE", help="a work tree of another commit, instead of bare")
    asked = parser.parse_args()
    amount = QUICK if asked.quick else FULL
    measured = measure_trees(amount, asked.against) if asked.against else None
    chosen = measure_loops if asked.loop else measure_drivers if asked.drivers else measure
    started = time.monotonic()
    implementation = f"psycopg {psycopg.__version__} ({psycopg.pq.__impl__})"
    print(f"{implementation}, Python {platform.python_version()}, {os.cpu_count()} cores; CPU time, except wall")
    print("medians of interleaved rounds; added: between the lower quartiles, as other work on the machine only adds")
    print(line(*(HEADINGS if measured is None else BETWEEN_TREES)), flush=True)
    for row in measured or chosen(amount):
        print(row, flush=True)
    print(f"{len(CASES)} cases in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
