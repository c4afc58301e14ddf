"""What is told of settings on the server: names, where they were set, and no value unless the app says so."""

from __future__ import annotations

import logging

import psycopg
import psycopg_pool
import pytest
from opentelemetry.trace import SpanContext
from recorder import Recorder, attributes

import instrumented_wrapper
from instrumented_wrapper import FailoverSuccessError

SECRET = "hunter2"


def span_of(recorder: Recorder, name: str):
    (span,) = [span for span in recorder.spans if span.name == name]
    return span


def settings_of(span) -> dict[str, tuple[str, str, str]]:
    found = [event.attributes for event in span.events if event.name == "setting"]
    prefix = "instrumented_wrapper." if any("." in name for name in found[0]) else ""
    return {a[prefix + "name"]: tuple(a[prefix + part] for part in ("before", "after", "outcome")) for a in found}


def counted(recorder: Recorder) -> dict[tuple[str, str, str], int]:
    names = [f"instrumented_wrapper.{name}" for name in ("operation", "setting", "outcome")]
    points = recorder.points("instrumented_wrapper.settings")
    return {tuple(point.attributes[name] for name in names): point.value for point in points}


def test_where_a_pristine_value_comes_from(cluster, recorder):
    with psycopg.connect(cluster.primary.dsn(), autocommit=True) as connection:
        connection.execute("SET work_mem = '5MB'")
        connection.execute("SET TIME ZONE 'UTC'")
        connection.execute("SET work_mem = '6MB'")
    fetches = [attributes(span) for span in recorder.spans if span.name == "session_state.pristine_fetch"]
    assert [(told["setting"], told["source"]) for told in fetches] == [("work_mem", "server"), ("timezone", "reported")]
    names = {
        point.attributes["instrumented_wrapper.setting"]
        for point in recorder.points("instrumented_wrapper.pristine_fetch.duration")
    }
    assert names == {"work_mem", "timezone"}


@pytest.mark.parametrize("shown", [False, True])
def test_values_are_hidden_unless_they_are_captured(cluster, recorder, shown):
    options = {"capture_values": shown}
    with psycopg.connect(cluster.primary.dsn(), autocommit=True, instrumented_wrapper=options) as connection:
        connection.execute("SET work_mem = '5MB'")
        connection.execute("SET app.tenant = 'seven'")
        instrumented_wrapper.switch(connection)
        instrumented_wrapper.mark_pristine(connection)
    hidden = ("<hidden>", "<hidden>")
    transfer = settings_of(span_of(recorder, "session_state.transfer"))
    assert transfer["work_mem"] == (*(("4MB", "5MB") if shown else hidden), "restored")
    assert transfer["app.tenant"] == (*(("default", "seven") if shown else hidden), "restored")
    reset = settings_of(span_of(recorder, "session_state.reset"))
    assert reset["work_mem"] == (*(("5MB", "4MB") if shown else hidden), "reset")
    fetch = next(span for span in recorder.spans if span.name == "session_state.pristine_fetch")
    assert attributes(fetch)["pristine_value"] == ("4MB" if shown else "<hidden>")


def test_names_of_the_apps_are_one_series(cluster, recorder):
    with psycopg.connect(cluster.primary.dsn(), autocommit=True) as connection:
        connection.execute("SET app.one = 'x'; SET app.two = 'x'; SET work_mem = '5MB'")
    assert counted(recorder) == {("reset", "custom", "reset"): 2, ("reset", "work_mem", "reset"): 1}


def test_what_a_switch_leaves_behind(cluster, recorder):
    with psycopg.connect(cluster.primary.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TEMP TABLE t (a int); LISTEN news; SELECT pg_advisory_lock(9); SET work_mem = '5MB'")
        connection.execute("PREPARE p AS SELECT 1")
        with pytest.raises(FailoverSuccessError) as told:
            instrumented_wrapper.switch(connection)
        left = ("temporary tables", "LISTEN", "advisory locks", "prepared statements")
        assert told.value.not_restored == left
        assert attributes(span_of(recorder, "session_state.transfer"))["not_restored"] == left
    for name in left:
        assert counted(recorder)["transfer", name, "skipped"] == 1
    assert counted(recorder)["transfer", "work_mem", "restored"] == 1


def test_a_reset_links_to_the_requests_that_left_something(cluster, recorder, spans):
    tracer = recorder.tracers.get_tracer("app")
    with psycopg_pool.ConnectionPool(cluster.primary.dsn(), min_size=1, max_size=1) as pool:
        connection = pool.getconn()
        contexts: dict[str, SpanContext] = {}
        for name, text in [
            ("role", "SET app.tenant = 'seven'"),
            ("undone", "SET app.tenant = 'eight'"),
            ("client", ""),
            ("again", "SET work_mem = '5MB'; SET lock_timeout = 7"),
            ("plain", "SELECT 1"),
        ]:
            with tracer.start_as_current_span(name) as span:
                contexts[name] = span.get_span_context()
                if name == "client":
                    connection.read_only = True
                else:
                    connection.execute(text)
            connection.rollback() if name == "undone" else connection.commit()
        with tracer.start_as_current_span("return"):
            pool.putconn(connection)
    reset = span_of(recorder, "session_state.reset")
    linked = [link.context.trace_id for link in reset.links]
    assert linked == [contexts[name].trace_id for name in ("client", "role", "again")], "one for each request"
    statements = {span.context.span_id: span.name for span in (*recorder.spans, *spans.all())}
    links = [statements[link.context.span_id] for link in reset.links]
    assert links == ["client", "SET app.tenant", "SET work_mem SET lock_timeout"]


def test_no_links_without_spans(cluster, recorder):
    with psycopg.connect(cluster.primary.dsn(), autocommit=True, instrumented_wrapper={"traces": False}) as connection:
        connection.execute("SET work_mem = '5MB'")
    assert all(not span.links for span in recorder.spans)


def test_no_value_leaks(cluster, recorder, caplog):
    """Spans, metrics, logs, what is printed of the session, and errors: none has what the app set."""
    caplog.set_level(logging.DEBUG)
    texts = []
    with psycopg.connect(cluster.primary.dsn(), autocommit=True) as connection:
        connection.execute(f"SET app.tenant = '{SECRET}'; SET search_path = {SECRET}")
        connection.execute("SELECT set_config('app.other', %s, false)", [SECRET])
        connection.execute(f"SELECT set_config('app.' || 'third', '{SECRET}', false)")
        connection.execute(f"DO $$ BEGIN SET app.fourth = '{SECRET}'; END $$")
        state = instrumented_wrapper.session_state(connection)
        assert state["app.tenant"].value == SECRET, "the app itself may know"
        texts.append(repr(state))
        with pytest.raises(FailoverSuccessError) as told:
            instrumented_wrapper.switch(connection)
        texts += [str(told.value), repr(told.value), repr(told.value.__dict__)]
    texts += [span.to_json() for span in recorder.spans]
    texts += [metric.to_json() for metric in recorder.metrics().values()]
    texts += [record.getMessage() for record in caplog.records if record.name == "instrumented_wrapper"]
    assert all(SECRET not in text for text in texts)


def test_a_refused_value_is_not_told_either(cluster, recorder):
    cluster.primary.sql(f"CREATE ROLE {SECRET}")
    cluster.primary.sql(f"GRANT {SECRET} TO app")
    connection = psycopg.connect(cluster.primary.dsn(), autocommit=True)
    connection.execute(f"SET ROLE {SECRET}")
    cluster.primary.sql(f"DROP ROLE {SECRET}")
    with pytest.raises(instrumented_wrapper.FailoverFailedError) as told:
        instrumented_wrapper.switch(connection)
    assert "the setting role (22023)" in str(told.value)
    assert SECRET not in str(told.value) + repr(told.value)
    span = span_of(recorder, "session_state.transfer")
    assert span.attributes["error.type"] == "22023"
    assert settings_of(span) == {"role": ("<hidden>", "<hidden>", "failed")}
    assert all(SECRET not in span.to_json() for span in recorder.spans)
    connection.close()


def test_a_failed_reset(cluster, recorder):
    """The session stays as it is; a pool would discard it."""
    cluster.primary.sql("CREATE ROLE leaving")
    cluster.primary.sql("GRANT leaving TO app")
    connection = psycopg.connect(cluster.primary.dsn(), autocommit=True)
    connection.execute("SET ROLE leaving; SET work_mem = '5MB'")
    instrumented_wrapper.mark_pristine(connection)
    connection.execute("RESET ROLE; RESET work_mem")
    cluster.primary.sql("DROP ROLE leaving")
    assert instrumented_wrapper.reset_session(connection) is False
    span = span_of(recorder, "session_state.reset")
    assert (span.status.is_ok, span.attributes["error.type"]) == (False, "22023")
    assert {outcome for _, _, outcome in settings_of(span).values()} == {"failed"}
    connection.close()
