"""What is told of real connections, and what is not; the session is looked after all the same."""

from __future__ import annotations

import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from recorder import attributes

from instrumented_wrapper import SessionStateTransferHandlers, session_state, switch


def a_day(cluster, **keywords) -> None:
    """Change a setting, move to another server session, close; the server says that the session was carried."""
    connection = psycopg.connect(cluster.dsn(), **keywords)
    connection.read_only = True
    before = connection.execute("SELECT pg_backend_pid()").fetchone()
    connection.rollback()
    switch(connection)
    after = connection.execute("SELECT pg_backend_pid(), current_setting('transaction_read_only')").fetchone()
    assert after[0] != before[0]
    assert after[1] == "on"
    connection.rollback()
    connection.close()
    assert session_state(connection)["read_only"].is_pristine


def test_a_day_in_spans(cluster, recorder):
    with recorder.tracers.get_tracer("app").start_as_current_span("request"):
        a_day(cluster)
    request = next(span for span in recorder.spans if span.name == "request")
    ids = {span.context.span_id: span for span in recorder.spans}
    tree = [(span.name, ids[span.parent.span_id].name) for span in recorder.spans if span is not request]
    assert tree == [
        ("session_state.pristine_fetch", "request"),
        ("session_state.pristine_fetch", "session_state.transfer"),
        ("session_state.transfer", "failover"),
        ("session_state.reset", "failover"),
        ("failover", "request"),
        ("session_state.reset", "request"),
    ]
    triggers = [attributes(span)["trigger"] for span in recorder.spans if span.name == "session_state.reset"]
    assert triggers == ["switch", "close"]


@pytest.mark.parametrize(("traces", "metrics"), [(False, True), (True, False), (False, False)])
def test_switched_off_for_one_connection(cluster, recorder, traces, metrics):
    a_day(cluster, instrumented_wrapper={"traces": traces, "metrics": metrics})
    assert bool(recorder.spans) == traces
    assert bool(recorder.metrics()) == metrics


def test_a_days_work_under_suppression_records_nothing(cluster, recorder):
    with suppress_instrumentation():
        a_day(cluster)
    assert recorder.spans == []
    assert recorder.metrics() == {}


def test_a_handler_sees_the_span_that_it_is_part_of(cluster, recorder):
    """What the app's handler does shows below the reset, and its own error says nothing but its class."""
    seen = []

    def handler(state, connection):
        seen.append(trace.get_current_span())
        raise LookupError("hunter2")

    SessionStateTransferHandlers.set_reset_session_state_on_close_func(handler)
    psycopg.connect(cluster.dsn(), autocommit=True).close()
    span = recorder.span
    assert span.name == "session_state.reset"
    assert seen[0].get_span_context().span_id == span.context.span_id
    assert span.attributes["error.type"] == "LookupError"
    assert "hunter2" not in span.to_json()


def test_no_secret_of_the_connection_is_told(cluster, recorder):
    a_day(cluster, application_name="hunter2")
    told = "".join(span.to_json() for span in recorder.spans)
    assert "hunter2" not in told
    assert "password" not in told


def test_nothing_is_told_where_nothing_was_changed(cluster, recorder):
    with psycopg.connect(cluster.dsn()) as connection:
        connection.execute("SELECT 1")
    assert recorder.spans == []
    assert recorder.metrics() == {}
