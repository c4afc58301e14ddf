"""Kill the primary, promote the standby, and measure the time until the app writes again, bare and instrumented.

Knows the servers and the two sides; ``losses.py`` has what the app does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.herd import HERD
from benchmarks.losses import LOSSES, MOST, TABLE, WAITING
from benchmarks.pairs import workers
from benchmarks.sides import BARE, PLAIN
from benchmarks.table import Ratio, Row
from benchmarks.worker import Worker
from servers import Cluster, guard

__all__ = ["failover_rows"]

_LIMIT = Ratio(1.1)
_NO_LATER = Ratio(1.0)
_READY_SECONDS = 20


def failover_rows(cluster: Cluster, rounds: int) -> Iterator[Row]:
    """Yield a row for one connection of each driver, for many, and for a pool; the cluster is healthy in the end."""
    cluster.primary.sql(f"{TABLE}; GRANT INSERT ON written TO app", database="app")
    for case in LOSSES:
        with _opened(cluster, case) as sides:
            yield _row(f"SIGKILL and promotion to the first write ({case})", cluster, sides, 1, rounds)
    with _opened(cluster, "losses") as sides:
        yield _row(f"the same, {MOST} connections, to the last one's", cluster, sides, MOST, max(1, rounds // 2))
    with _opened(cluster, "herd") as sides:
        measured = [[_ended(cluster, side) for side in sides] for _ in range(rounds)]
        bare, ours = zip(*measured, strict=True)
        yield Row(f"{HERD} sessions of a pool are ended, until all are back, wall", bare, ours, _NO_LATER)


@contextmanager
def _opened(cluster: Cluster, case: str) -> Iterator[list[Worker]]:
    with workers(BARE, PLAIN) as sides:
        for side in sides:
            side.open(case, cluster.dsn())
        yield sides


def _ended(cluster: Cluster, side: Worker) -> float:
    """Return the seconds from the end of the sessions to the last answer; the server stays."""
    side.start(HERD)
    _wait_for(cluster, HERD)
    ended = time.monotonic()
    cluster.primary.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = '{WAITING}'")
    return float(side.result()) - ended


def _row(name: str, cluster: Cluster, sides: list[Worker], number: int, rounds: int) -> Row:
    measured = [_round(cluster, sides, number, bool(index % 2)) for index in range(rounds)]
    bare, ours = zip(*measured, strict=True)
    return Row(f"{name}, wall", bare, ours, _LIMIT)


def _round(cluster: Cluster, sides: list[Worker], number: int, turned: bool) -> list[float]:
    """Run a failover for each side. The first side changes, so that each meets both directions."""
    order = reversed(sides) if turned else sides
    seconds = {side.kind: _seconds(cluster, side, number) for side in order}
    return [seconds[side.kind] for side in sides]


def _seconds(cluster: Cluster, side: Worker, number: int) -> float:
    """Return the seconds from the kill to the write; the clock is the machine's, so that two processes share it."""
    cluster.wait_streaming()
    side.start(number)
    _wait_for(cluster, number)
    killed = time.monotonic()
    cluster.failover()
    written = float(side.result())
    cluster.rejoin()
    return written - killed


def _wait_for(cluster: Cluster, number: int) -> None:
    if not guard.wait_until(lambda: _waiting(cluster) == number, _READY_SECONDS):
        raise RuntimeError("the connections did not come to wait")


def _waiting(cluster: Cluster) -> int:
    """Return how many of the app's connections wait in their statement."""
    found = cluster.primary.sql(f"SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = '{WAITING}'")
    return int(found[0][0] or 0)
