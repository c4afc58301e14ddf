"""A plain psycopg app under ``opentelemetry-instrument``: what is switched on and off, as the app and the wire see it.

Each app runs in a process of its own and ends one of its sessions on the server. Whether it was looked after shows in
what it prints: the connection goes on in another server session, with its setting.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from receiver import Receiver

OLD_LAUNCHER = version("opentelemetry-instrumentation").startswith("0.55")

APP = """
import json, os, select, psycopg

connection = psycopg.connect(os.environ["DSN"])
connection.autocommit = True
before = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
with psycopg.connect(os.environ["DSN"]) as other:
    other.execute("SELECT pg_terminate_backend(%s)", [before])
end = select.poll()
end.register(connection.fileno(), getattr(select, "POLLRDHUP", select.POLLIN))
assert end.poll(20_000)
try:
    after = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
    print(json.dumps({"moved": after != before, "autocommit": connection.autocommit}))
except psycopg.OperationalError as error:
    print(json.dumps({"error": type(error).__name__}))
connection.close()
"""
LOOKED_AFTER = {"moved": True, "autocommit": True}
LEFT_ALONE = {"error": "AdminShutdown"}
BY_HAND = "import instrumented_wrapper; instrumented_wrapper.instrument()\n"
CLIENT = Span.SpanKind.SPAN_KIND_CLIENT
AGENT = str(Path(sys.executable).with_name("opentelemetry-instrument"))


class Ran:
    """What an app printed, and what was written to its log."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        assert done.returncode == 0, done.stderr
        self.told = json.loads(done.stdout.splitlines()[0])
        self.log = done.stderr


def run(cluster, *command: str, app: str = APP, **variables: str) -> Ran:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "INSTRUMENTED_"))}
    quiet = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    quiet["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] = "psycopg,sqlalchemy"  # those of OpenTelemetry, installed here, too
    environment = {**kept, **quiet, "DSN": cluster.dsn(), **variables}
    whole = [*command, sys.executable, "-c", app]
    return Ran(subprocess.run(whole, env=environment, capture_output=True, text=True, timeout=60, check=False))


def test_what_is_sent(cluster):
    with Receiver() as receiver:
        to_us = dict.fromkeys(("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"), "otlp")
        protocol = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        ran = run(cluster, AGENT, **to_us, **protocol)
    assert ran.told == LOOKED_AFTER
    assert ran.log == ""
    spans = {span.name: span for span in receiver.spans}
    session = {"session_state.pristine_fetch", "session_state.transfer", "session_state.reset", "failover"}
    assert set(spans) == session | {"BEGIN", "SELECT"}
    assert spans["session_state.transfer"].parent_span_id == spans["failover"].span_id
    told = {a.key.removeprefix("instrumented_wrapper."): a.value for a in spans["failover"].attributes}
    assert told["trigger"].string_value == "session_ended"
    assert told["outcome"].string_value == "success"
    names = {metric.name for metric in receiver.metrics}
    assert {"instrumented_wrapper.failover.duration", "instrumented_wrapper.settings"} <= names
    assert "password" not in str(receiver.spans)


@pytest.mark.parametrize(("mode", "ours"), [("auto", set()), ("on", {"SELECT", "BEGIN"}), ("off", set())])
def test_beside_the_drivers_other_instrumentation(cluster, mode, ours):
    """OpenTelemetry's own makes a span of each statement: by default, ours are of the session only."""
    with Receiver() as receiver:
        told = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        told |= {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "INSTRUMENTED_WRAPPER_QUERY_SPANS": mode}
        ran = run(cluster, AGENT, **told, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="")
    assert ran.told == LOOKED_AFTER
    assert {span.name for span in receiver.spans_of("instrumented_wrapper") if span.kind == CLIENT} == ours
    assert "failover" in {span.name for span in receiver.spans_of("instrumented_wrapper")}
    assert receiver.spans_of("opentelemetry.instrumentation.psycopg")


@pytest.mark.parametrize("variables", [{}, {"OTEL_SDK_DISABLED": "true"}], ids=["no exporter", "SDK disabled"])
def test_the_session_is_looked_after_whatever_is_exported(cluster, variables):
    ran = run(cluster, AGENT, **variables)
    assert ran.told == LOOKED_AFTER
    assert ran.log == ""


def test_the_session_is_looked_after_without_any_sdk(cluster):
    hidden = "import sys; sys.modules['opentelemetry.sdk'] = None\n"
    ran = run(cluster, app=hidden + BY_HAND + APP)
    assert ran.told == LOOKED_AFTER
    assert ran.log == ""


@pytest.mark.parametrize("disabled", ["requests,instrumented_wrapper", *([] if OLD_LAUNCHER else ["*"])])
def test_disabled_like_any_other_instrumentation(cluster, disabled):
    assert run(cluster, AGENT, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=disabled).told == LEFT_ALONE


def test_disabled_by_our_own_variable(cluster):
    assert run(cluster, AGENT, INSTRUMENTED_WRAPPER_ENABLED="false").told == LEFT_ALONE
    assert run(cluster, app=BY_HAND + APP, INSTRUMENTED_WRAPPER_ENABLED="0").told == LEFT_ALONE


@pytest.mark.parametrize(
    ("variable", "value"),
    [("FAILOVER", "maybe"), ("ENABLED", "x"), ("FAILOVRE", "on")],
)
def test_a_bad_option_is_logged_once_and_the_app_runs_on(cluster, variable, value):
    ran = run(cluster, AGENT, **{f"INSTRUMENTED_WRAPPER_{variable}": value})
    assert ran.told == LEFT_ALONE
    assert len([line for line in ran.log.splitlines() if line.strip()]) == 1, ran.log
    assert f"INSTRUMENTED_WRAPPER_{variable}='{value}'" in ran.log


def test_a_bad_option_raises_where_the_app_instruments_by_hand(cluster):
    tried = f"try:\n    {BY_HAND}except Exception as error:\n    import json; print(json.dumps(type(error).__name__))"
    assert run(cluster, app=tried, INSTRUMENTED_WRAPPER_FAILOVER="maybe").told == "ConfigurationError"


@pytest.mark.skipif(OLD_LAUNCHER, reason="opentelemetry-instrument 0.55 leaves child processes alone")
def test_a_child_process_is_looked_after_too(cluster):
    parent = f"import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', {APP!r}], text=True))"
    assert run(cluster, AGENT, app=parent).told == LOOKED_AFTER


def test_the_entry_point_is_declared():
    from importlib.metadata import entry_points

    (found,) = entry_points(group="opentelemetry_instrumentor", name="instrumented_wrapper")
    instrumentor = found.load()()
    assert instrumentor.instrumentation_dependencies() == ()
