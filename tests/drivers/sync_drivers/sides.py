"""The drivers that block: how each connects, and what its server is asked by its administrator, past the library."""

from __future__ import annotations

import select
from importlib import import_module
from typing import Any

from servers import guard

OF_MYSQL = ("pymysql", "MySQLdb", "mysql.connector", "mysql.connector in C")
KINDS = ("psycopg2", *OF_MYSQL, *(f"{kind} on MySQL" for kind in OF_MYSQL))
MANY = 10  # seconds; only a test that fails waits so long
_ACCOUNT = {"user": "app", "password": "app-secret"}


class Side:
    """One driver."""

    def __init__(self, kind: str) -> None:
        """Load it.

        Raises:
            ImportError: it is not there.
        """
        kind, _, mysql = kind.partition(" on ")
        self.kind, self.is_postgresql = kind, kind == "psycopg2"
        self.servers = "running_cluster" if self.is_postgresql else f"running_{mysql.lower() or 'mariadb'}"
        if kind.endswith("in C"):
            import_module("_mysql_connector")
        self.driver: Any = import_module(kind.split()[0])

    @property
    def moved_by(self) -> str:
        """A statement that changes a setting, which a switch then carries."""
        return "SET TimeZone = 'Europe/Paris'" if self.is_postgresql else "SET time_zone = '+02:00'"

    @property
    def carried(self) -> bytes:
        """What goes over the wire when it is carried."""
        return b"Europe/Paris" if self.is_postgresql else b"+02:00"

    def connect(self, *hosts: Any, autocommit: bool = True, options: Any = None, **keywords: Any) -> Any:
        """Connect to the first of the hosts; the others are known."""
        several = ",".join(f"{host.host}:{host.port}" for host in hosts)
        given = {"failover": "on", "failover_timeout": MANY, **({"failover_hosts": several} if len(hosts) > 1 else {})}
        where = {"host": hosts[0].host, "port": hosts[0].port, **_ACCOUNT, **keywords}
        where["instrumented_wrapper"] = {**given, **(options or {})}
        if self.is_postgresql:
            connection = self.driver.connect(dbname="app", **where)
            connection.autocommit = autocommit
            return connection
        variant = {"use_pure": not self.kind.endswith("in C")} if self.kind.startswith("mysql.connector") else {}
        return self.driver.connect(database="app", autocommit=autocommit, **variant, **where)

    @staticmethod
    def run(connection: Any, text: str) -> list[tuple[Any, ...]]:
        """Run a statement on a cursor of its own."""
        cursor = connection.cursor()
        cursor.execute(text)
        rows = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        cursor.close()
        return rows

    def sessions(self, server: Any) -> list[str]:
        """Return the app's sessions."""
        if self.is_postgresql:
            found = server.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'app'")
        else:
            text = "SELECT id FROM information_schema.processlist WHERE user IN ('app', 'unauthenticated user')"
            found = server.sql(text, "")
        return [str(number) for (number,) in found]

    def end_sessions(self, server: Any) -> None:
        """End them; return when they are gone."""
        for number in self.sessions(server):
            server.sql(f"SELECT pg_terminate_backend({number})" if self.is_postgresql else f"KILL {number}")
        assert self.none_left(server)

    def none_left(self, server: Any) -> bool:
        """Tell whether the app comes to have no session."""
        return guard.wait_until(lambda: not self.sessions(server), MANY)

    def has_ended(self, connection: Any) -> bool:
        """Wait until the end of the physical connection has come to the socket."""
        descriptor = connection.fileno() if hasattr(connection, "fileno") else connection._sock.fileno()
        return bool(select.select([descriptor], [], [], MANY)[0])
