"""What psycopg_pool's pools have, and how long they make the app wait: OpenTelemetry's metrics, on a real server."""

from __future__ import annotations

import gc

import psycopg_pool
import pytest

from ..side import done, dsn, inside

PREFIX = "db.client.connection."
NAME = PREFIX + "pool.name"
BOUNDARIES = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


def points(reader, pool):
    """Return the points of each metric of that pool."""
    data = reader.get_metrics_data()
    metrics = [
        m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name.startswith(PREFIX)
    ]
    found = {
        m.name.removeprefix(PREFIX): [p for p in m.data.data_points if p.attributes[NAME] == pool] for m in metrics
    }
    return {name: these for name, these in found.items() if these}


def numbers(reader, pool):
    """Return the values of what is not a histogram; of the count by state."""
    found = points(reader, pool)
    counts = {p.attributes[PREFIX + "state"]: p.value for p in found.pop("count", [])}
    return counts | {name: these[0].value for name, these in found.items() if hasattr(these[0], "value")}


def timings(reader, pool):
    return {name: these[0] for name, these in points(reader, pool).items() if hasattr(these[0], "sum")}


async def test_what_a_pool_has(side, cluster, request, reader):
    pool = await side.pool(dsn(cluster.primary), name=request.node.name, min_size=1, max_size=2)
    fixed = {"idle.min": 1, "max": 2}
    assert numbers(reader, pool.name) == {**fixed, "idle": 1, "used": 0, "pending_requests": 0}
    async with inside(pool.connection()), inside(pool.connection()):
        assert numbers(reader, pool.name) == {**fixed, "idle": 0, "used": 2, "pending_requests": 0}
        with pytest.raises(psycopg_pool.PoolTimeout):
            await done(pool.getconn(0.01))
    assert numbers(reader, pool.name) == {**fixed, "idle": 2, "used": 0, "pending_requests": 0, "timeouts": 1}
    await done(pool.close())
    assert set(numbers(reader, pool.name)) == {"timeouts"}, "a pool that is closed has nothing"


async def test_the_times_of_a_pool(side, cluster, request, reader):
    pool = await side.pool(dsn(cluster.primary), name=request.node.name)
    for _ in range(3):
        async with inside(pool.connection()) as connection:
            await done(connection.execute("SELECT pg_sleep(0.02)"))
    found = timings(reader, pool.name)
    assert {name: point.count for name, point in found.items()} == {"create_time": 1, "wait_time": 3, "use_time": 3}
    assert found["use_time"].min >= 0.02 > found["wait_time"].max
    assert all(point.explicit_bounds == BOUNDARIES for point in found.values())


async def test_null_pools(side, cluster, request, reader):
    pool = await side.pool(dsn(cluster.primary), null=True, name=request.node.name)
    async with inside(pool.connection()):
        assert numbers(reader, pool.name) == {"idle.min": 0, "max": 1, "idle": 0, "used": 1, "pending_requests": 0}
    assert timings(reader, pool.name)["use_time"].count == 1


def test_a_pool_that_is_gone_is_not_kept(cluster, reader):
    pool = psycopg_pool.ConnectionPool(dsn(cluster.primary), min_size=0, max_size=1, open=False, name="gone")
    pool.open()
    assert numbers(reader, "gone")["idle"] == 0
    pool.close()
    del pool
    gc.collect()
    assert not points(reader, "gone")
