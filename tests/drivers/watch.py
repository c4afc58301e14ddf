"""What the servers say of the app, asked by their administrator, past the library under test."""

from __future__ import annotations

import time
from collections.abc import Callable

from servers import Cluster

from .side import dsn

PATIENCE = 15  # seconds; only a test that fails waits so long


def eventually(condition: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Wait until the condition holds; return whether it did in time."""
    end = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < end:
        time.sleep(0.005)
    return bool(holds)


class Watch:
    """The cluster's present primary, and the table of one test."""

    def __init__(self, cluster: Cluster, table: str) -> None:
        self.cluster, self.table = cluster, table

    def sql(self, text: str) -> list[tuple[str | None, ...]]:
        return self.cluster.primary.sql(text, database="app")

    def dsn(self, **extra: object) -> str:
        """Return the app's connection string, the present primary first."""
        return dsn(self.cluster.primary, self.cluster.standby, **extra)

    def words(self) -> list[str | None]:
        """Return what is committed, in the order of writing."""
        return [word for (word,) in self.sql(f"SELECT word FROM {self.table} ORDER BY ctid")]

    def insert(self, word: str) -> str:
        """Return the statement that writes a word."""
        return f"INSERT INTO {self.table} VALUES ('{word}')"

    def sessions(self, name: str = "") -> list[str | None]:
        """Return the app's sessions, of one application_name where it is given."""
        only = f"AND application_name = '{name}'" if name else ""
        return [pid for (pid,) in self.sql(f"SELECT pid FROM pg_stat_activity WHERE usename = 'app' {only}")]

    def end_sessions(self) -> None:
        """End all sessions of the app and wait until they are gone."""
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        assert eventually(lambda: not self.sessions())

    def show(self, pid: int, what: str) -> str | None:
        """Return a column of pg_stat_activity."""
        found = self.sql(f"SELECT {what} FROM pg_stat_activity WHERE pid = {pid}")
        return found[0][0] if found else None

    def sleeping(self) -> bool:
        """Tell whether a session of the app is in pg_sleep."""
        return bool(self.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND usename = 'app'"))
