"""What MariaDB and MySQL spell differently, for tests that run on both."""

from typing import Any

import pytest

from servers import MySQLCluster


def is_mysql(cluster: Any) -> bool:
    return isinstance(cluster, MySQLCluster)


def needs_mariadb(cluster: Any, what: str) -> None:
    """Skip the test on MySQL, which does not have it."""
    if is_mysql(cluster):
        pytest.skip(f"MySQL has no {what}")


def spelled(cluster: Any, text: str) -> str:
    """Return a text of MariaDB's as this database spells it."""
    if not is_mysql(cluster):
        return text
    return text.replace("tx_isolation", "transaction_isolation").replace("tx_read_only", "transaction_read_only")


def create(server: Any, kind: str, name: str, rest: str) -> None:
    """Create a table, procedure, user, ... anew: MySQL has no CREATE OR REPLACE."""
    server.sql(f"DROP {kind} IF EXISTS {name};\nDELIMITER $$\nCREATE {kind} {name} {rest}$$")
