"""A role that the walks and the tests of security settings connect as."""

from __future__ import annotations

import pytest

from servers import Cluster

from ..side import dsn
from .random_session import SETUP


@pytest.fixture
def superuser(cluster: Cluster) -> str:
    """A role that may set session authorization, and what the walks call."""
    sql = cluster.primary.sql
    if not sql("SELECT 1 FROM pg_roles WHERE rolname = 'walker'"):
        sql("CREATE ROLE walker SUPERUSER LOGIN PASSWORD 'walker'")
        sql("CREATE ROLE walk_tenant")
    sql(SETUP, database="app")
    return dsn(cluster.primary, user="walker", password="walker")
