"""How long an event loop is blocked in a failover of many connections, with and without us.

Knows the servers and the two sides; what the app does meanwhile is in ``heartbeats.py``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from benchmarks.heartbeats import DRIVERS, SLEEPING
from benchmarks.losses import MOST, TABLE, WAITING
from benchmarks.pairs import workers
from benchmarks.sides import BARE, SWITCHING
from benchmarks.table import Added, Row
from benchmarks.worker import Worker
from servers import Cluster, MariaDBCluster, guard, mariadb
from servers.server import APP

__all__ = ["loop_rows"]

_LIMIT: Final = Added(0.005)
_READY_SECONDS: Final = 60
_HOSTS: Final = "INSTRUMENTED_WRAPPER_FAILOVER_HOSTS"  # drivers of MySQL know one host each
_ACTIVE: Final = f"SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = '{WAITING}'"
_RUNNING: Final = f"SELECT count(*) FROM information_schema.processlist WHERE info = '{SLEEPING}'"


def loop_rows(rounds: int) -> Iterator[Row]:
    """Yield two rows for each async driver: wall time, and CPU time of the loop's thread."""
    with Cluster() as cluster:
        cluster.primary.sql(f"{TABLE}; GRANT INSERT ON written TO app", database="app")
        for driver in DRIVERS[:2]:
            yield from _rows(driver, cluster, _ACTIVE, rounds)
    if mariadb.available():
        with MariaDBCluster() as pair:
            pair.primary.sql(TABLE, database="app")
            for driver in DRIVERS[2:]:
                with _known(pair.hosts()):
                    yield from _rows(driver, pair, _RUNNING, rounds)


@contextmanager
def _known(hosts: str) -> Iterator[None]:
    """While inside, processes that are started know these hosts."""
    os.environ[_HOSTS] = hosts
    try:
        yield
    finally:
        del os.environ[_HOSTS]


def _rows(driver: str, cluster: Any, question: str, rounds: int) -> Iterator[Row]:
    with workers(BARE, SWITCHING) as sides:
        measured = [_round(driver, cluster, question, sides, bool(index % 2)) for index in range(rounds)]
    bare, ours = zip(*measured, strict=True)
    name = f"{driver}: the event loop's longest pause, failover of {MOST}"
    for at, time in enumerate(("wall", "CPU")):
        yield Row(f"{name}, {time}", [pauses[at] for pauses in bare], [pauses[at] for pauses in ours], _LIMIT)


def _round(driver: str, cluster: Any, question: str, sides: list[Worker], turned: bool) -> list[tuple[float, float]]:
    """Run a failover for each side; who goes first changes, so that each meets both directions."""
    order = reversed(sides) if turned else sides
    pauses = {side.kind: _pauses(driver, cluster, question, side) for side in order}
    return [pauses[side.kind] for side in sides]


def _pauses(driver: str, cluster: Any, question: str, side: Worker) -> tuple[float, float]:
    cluster.wait_streaming()
    hosts = [(server.host, server.port) for server in (cluster.primary, cluster.standby)]
    login = {"user": APP["user"], "password": APP["password"], "database": APP["dbname"]}
    side.open("heartbeat", json.dumps({"driver": driver, "hosts": hosts, "login": login}))
    side.start(MOST)

    def is_waiting() -> bool:
        return int(cluster.primary.sql(question, database="app")[0][0] or 0) == MOST

    if not guard.wait_until(is_waiting, _READY_SECONDS):
        raise RuntimeError("the connections did not come to wait")
    cluster.failover()
    wall, processor = side.result()
    cluster.rejoin()
    return wall, processor
