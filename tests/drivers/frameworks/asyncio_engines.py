"""SQLAlchemy's asyncio engines, each with a pool of one connection to a primary whose standby is known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from servers import Cluster, guard

sqlalchemy = pytest.importorskip("sqlalchemy")
pytest.importorskip("greenlet")
asyncio_of_sqlalchemy = pytest.importorskip("sqlalchemy.ext.asyncio")


@asynccontextmanager
async def asyncio_engine(
    dialect: str, cluster: Any, chosen: str = "auto", ours: Any = None, **given: Any
) -> AsyncIterator[Any]:
    """Make one whose `reset_on_return` is chosen, with options of ours and of SQLAlchemy."""
    server = cluster.primary
    url = sqlalchemy.URL.create(dialect, "app", "app-secret", server.host, server.port, "app")
    hosts = ",".join(f"{each.host}:{each.port}" for each in cluster.servers)
    options = {"failover_hosts": hosts, "reset_on_return": chosen, **(ours or {})}
    one = {"pool_size": 1, "max_overflow": 0, **given}
    made = asyncio_of_sqlalchemy.create_async_engine(url, connect_args={"instrumented_wrapper": options}, **one)
    try:
        yield made
    finally:
        await made.dispose()


async def ask(connection: Any, sql: str) -> Any:
    return (await connection.exec_driver_sql(sql)).scalar()


async def own(connection: Any) -> Any:
    return (await connection.get_raw_connection()).driver_connection


async def end(cluster: Any, number: int) -> None:
    """End a session; return when it is gone."""
    kill, left = f"KILL {number}", f"SELECT 1 FROM information_schema.processlist WHERE id = {number}"
    if isinstance(cluster, Cluster):
        kill = f"SELECT pg_terminate_backend({number})"
        left = f"SELECT 1 FROM pg_stat_activity WHERE pid = {number}"

    def ended() -> None:
        cluster.primary.sql(kill)
        assert guard.wait_until(lambda: not cluster.primary.sql(left), 60)

    await asyncio.to_thread(ended)
