"""What a session of MariaDB or MySQL is asked, how it is ended, and the tables and accounts that tests make."""

from __future__ import annotations

import time
from typing import Any

from servers import guard

from .spelling import create

NUMBER = "SELECT CONNECTION_ID()"


def ask(connection: Any, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    cursor.execute(sql, parameters) if parameters else cursor.execute(sql)
    rows = [tuple(map(text, row)) for row in cursor.fetchall()] if cursor.description else []
    cursor.close()
    return rows


def text(cell: Any) -> Any:
    return cell.decode() if isinstance(cell, bytes) else cell


def session(connection: Any) -> int:
    return ask(connection, NUMBER)[0][0]


def end(server: Any, number: int) -> None:
    """End a session; return when it is gone."""
    server.sql(f"KILL {number}")
    left = f"SELECT 1 FROM information_schema.processlist WHERE id = {number}"
    assert guard.wait_until(lambda: not server.sql(left), 60)


def make_table(cluster: Any) -> str:
    name = f"rows_{time.monotonic_ns()}"
    cluster.primary.sql(f"CREATE TABLE {name} (i int)")
    cluster.wait_streaming()
    return name


def other_account(cluster: Any) -> None:
    """Make an account that owns the other database, too."""
    create(cluster.primary, "USER", "other@'%'", "IDENTIFIED BY 'other-secret'")
    cluster.primary.sql("GRANT ALL ON *.* TO other@'%'")
    cluster.wait_streaming()
    for server in cluster.servers:
        server.forget("other", changed=True)
        server.remember("other", "other-secret")
