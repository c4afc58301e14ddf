"""A reset after the request has ended is linked to the request that made it necessary, whatever was left behind."""

from __future__ import annotations

from typing import Any

import psycopg_pool
import pytest
from opentelemetry.sdk.trace import TracerProvider

from ..side import dsn

LEFT = {
    "SET": "SET app.tenant = 'a'",
    "a function": "SELECT set_config('app.tenant', 'x', false)",
    "a block": "DO $$ BEGIN PERFORM set_config('app.tenant', 'x', false); END $$",
    "a temporary table": "CREATE TEMP TABLE mine_1 (a int)",
    "a lock": "SELECT pg_advisory_lock(5)",
    "a lock of a block": "DO $$ BEGIN PERFORM pg_advisory_lock(5); END $$",
    "LISTEN": "LISTEN news",
    "a prepared statement": "PREPARE mine AS SELECT 1",
    "a role": "SET ROLE app",
}


@pytest.mark.parametrize("ends", ["return", "close"])
@pytest.mark.parametrize("left", LEFT)
def test_a_reset_is_linked_to_its_request(cluster: Any, spans: Any, left: str, ends: str) -> None:
    tracer = TracerProvider().get_tracer("app")
    options = {"autocommit": True, "instrumented_wrapper": {"reset_scope": "session"}}
    with psycopg_pool.ConnectionPool(dsn(cluster.primary), min_size=1, max_size=1, kwargs=options) as pool:
        connection = pool.getconn()
        with tracer.start_as_current_span("request") as request:
            connection.execute(LEFT[left])
        if ends == "close":
            connection.close()
        pool.putconn(connection)
    (span,) = spans.named("session_state.reset")
    wanted = request.get_span_context().trace_id
    assert span.parent is None and {link.context.trace_id for link in span.links} == {wanted}
