"""The frequent operations on each driver: session only, with failover on, and with query spans.

The MariaDB server is that of the tests; if it is not installed, its drivers are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from benchmarks import returns
from benchmarks.pairs import Comparison
from benchmarks.sides import OURS, PLAIN, RESOLVING, SWITCHING
from benchmarks.statements import DRIVERS, OPERATIONS
from benchmarks.table import Added
from servers import Cluster, MariaDBCluster, mariadb

__all__ = ["comparisons"]

US: Final = 1e-6
_GOAL: Final = 1.5
_GOALS: Final = {"transaction": 4.5, "iteration": 0.05, "set": 25.0}  # where another one than `_GOAL` makes sense
_OF_SQLITE: Final = 0.4  # times the goal: nothing is sent
_TRACKING: Final = 10  # the server's own session tracking, which is switched on
_WITH_SPANS: Final = {"none": 3, "off": 7, "on": 30, "metrics": 40}
_READ: Final = 120  # a statement of the wrapper's before each COMMIT
_ON_POSTGRESQL: Final = ("psycopg", "psycopg, async", "psycopg2", "asyncpg")


@contextmanager
def comparisons(cluster: Cluster) -> Iterator[list[Comparison]]:
    """Yield the comparisons while a MariaDB server runs."""
    with ExitStack() as stack:
        places = {
            "sqlite3": ":memory:",
            "aiosqlite": ":memory:",
            **dict.fromkeys(_ON_POSTGRESQL, cluster.primary.dsn()),
        }
        primary = cluster.primary
        login = {"user": "app", "password": "app-secret", "database": "app", "ssl_context": False}
        places["pg8000"] = json.dumps({"host": primary.host, "port": primary.port, **login})
        if mariadb.available():
            server = stack.enter_context(MariaDBCluster()).primary
            where = {"host": server.host, "port": server.port, "user": "app", "password": "app-secret"}
            places |= {driver: json.dumps(where) for driver in DRIVERS if driver not in places}
        yield [row for driver, place in places.items() if _is_there(driver) for row in _rows(driver, place)]


def _is_there(driver: str) -> bool:
    module = DRIVERS[driver].module
    if find_spec(driver if module.startswith("benchmarks.") else module.partition(".")[0]) is None:
        return False
    return not driver.endswith("in C") or import_module(module).HAVE_CEXT is True


def _rows(driver: str, place: str) -> Iterator[Comparison]:
    number = 2000 if driver == "sqlite3" else 50
    for name, operation in OPERATIONS.items():
        if name != "execute" or DRIVERS[driver].executes:
            goal = Added(_GOALS.get(name, _GOAL) * (_OF_SQLITE if driver == "sqlite3" else 1) * US)
            yield Comparison(f"{driver}: {operation.name}", f"{driver} {name}", place, number, goal, PLAIN)
            if name in ("statement", "transaction") and driver != "sqlite3":
                yield Comparison(
                    f"{driver}: {operation.name}, failover on", f"{driver} {name}", place, number, goal, SWITCHING
                )
    if driver in (*_ON_POSTGRESQL, "pg8000"):
        name = f"{driver}: {OPERATIONS['transaction'].name}, resolve_commits"
        yield Comparison(name, f"{driver} transaction", place, number, Added(_READ * US), RESOLVING)
    if driver == "pymysql":
        name = f"{driver}: a write, its answer with what has changed, wall"
        yield Comparison(name, "pymysql reported", place, number, Added(_TRACKING * US), PLAIN)
    if driver == "psycopg" and find_spec("django") is not None:
        yield Comparison(
            "Django on psycopg: a clean end of a request", "django end", place, number, Added(1 * US), PLAIN
        )
    if driver in returns.DRIVERS:
        name = f"{driver}: a clean return to SQLAlchemy's pool"
        yield Comparison(name, f"{driver} return", place, number, Added(_GOAL * US), PLAIN)
    for mode, microseconds in _WITH_SPANS.items():
        if not driver.startswith("psycopg,") and driver != "psycopg":  # these are beside the peer, in a table above
            name = f"{driver}: SELECT 1 and fetch, with query spans, {mode}"
            yield Comparison(name, f"{driver} statement", place, number, Added(microseconds * US), f"{OURS}/{mode}")
