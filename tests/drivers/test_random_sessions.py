"""Random walks through a session: after each step the server has the values that we say it has.

``WALKS=1000 pytest tests/drivers/test_random_sessions.py`` walks longer; a failure prints its seed and its statements.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from servers import Cluster

from .random_session import SETUP, Walk
from .side import dsn

WALKS = int(os.environ.get("WALKS", "6"))
FIRST = int(os.environ.get("FIRST_WALK", "0"))
STEPS = 60


@pytest.fixture
def superuser(cluster: Cluster) -> Iterator[str]:
    """A role that may set session authorization, and what the walks call."""
    sql = cluster.primary.sql
    if not sql("SELECT 1 FROM pg_roles WHERE rolname = 'walker'"):
        sql("CREATE ROLE walker SUPERUSER LOGIN PASSWORD 'walker'")
        sql("CREATE ROLE walk_tenant")
    sql(SETUP, database="app")
    return dsn(cluster.primary, user="walker", password="walker")


@pytest.mark.parametrize("autocommit", [True, False])
def test_walks(superuser: str, autocommit: bool) -> None:
    for seed in range(FIRST, FIRST + WALKS):
        connection: Any = psycopg.connect(superuser, autocommit=autocommit)
        try:
            walk = Walk(connection, seed)
            walk.log.append(f"seed {seed}")
            for _ in range(STEPS):
                walk.step()
        finally:
            connection.close()
