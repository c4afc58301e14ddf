"""`make demo`, as a newcomer runs it: judged by its exit code, its text, its file, and what it leaves behind."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from examples.receiver import Receiver

EXAMPLES = Path(__file__).parent.parent / "examples"
SECONDS = 120
DEAD = "http://127.0.0.1:9"  # the port "discard": nobody listens there


class Demo:
    """One run of a story, with a home, a working and a temporary folder of its own."""

    def __init__(self, story: str = "demo.py", **variables: str) -> None:
        self.text = ""
        self.home = Path(tempfile.mkdtemp(prefix="demo-"))
        self.home.chmod(0o755)  # run by root, the servers are another user's
        self.temporary = self.home / "tmp"
        self.temporary.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "INSTRUMENTED_"))}
        self.process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / story)],
            cwd=self.home,
            env={**kept, "TMPDIR": str(self.temporary), "HOME": str(self.home), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def read_until(self, words: str) -> str:
        """Return the first line with the words."""
        assert self.process.stdout
        line = next((line for line in self.process.stdout if words in line), None)
        assert line, f"the demo never said {words!r}"
        return line

    def finish(self) -> str:
        """Wait for the end; return the rest of the output, also when called again."""
        if not self.text:
            self.text = self.process.communicate(timeout=SECONDS)[0]
        return self.text

    def remains(self) -> list[str]:
        """Temporary files and folders that are there."""
        return [path.name for path in self.temporary.iterdir()]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        shutil.rmtree(self.home, ignore_errors=True)  # what is left is told by the tests


def running(*marks: str) -> list[str]:
    """Command lines of processes that have one of the marks there, or in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line, environment = ((entry / name).read_bytes().decode("latin-1") for name in ("cmdline", "environ"))
        except OSError:  # it ended meanwhile, or is another user's
            continue
        if line and any(mark in line + environment for mark in marks):
            found.append(line.replace("\0", " "))
    return found


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def runs(collector: Receiver) -> Iterator[dict[str, Demo]]:
    """Three runs at the same time: they mostly wait."""
    endpoints = {"TRACES": f"{collector.url}/v1/traces", "METRICS": f"{DEAD}/v1/metrics"}
    demos = {
        "carried": Demo(**{f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT": url for signal, url in endpoints.items()}),
        "not transferred": Demo(INSTRUMENTED_WRAPPER_TRANSFER_SESSION_STATE_ON_SWITCH="false"),
        "not instrumented": Demo(INSTRUMENTED_WRAPPER_ENABLED="false"),
    }
    yield demos
    for demo in demos.values():
        demo.close()


@pytest.fixture(scope="module")
def carried(runs: dict[str, Demo]) -> tuple[Demo, str]:
    return runs["carried"], runs["carried"].finish()


def test_a_carried_session_is_success(carried: tuple[Demo, str]) -> None:
    demo, text = carried
    assert demo.process.returncode == 0, text
    assert "CARRIED: same object, same settings, every order once" in text
    assert "10 of 10 on the new primary: none missing, none twice" in text
    words = [line.split() for line in text.splitlines()]
    assert ["autocommit", "false", "true", "true", "kept"] in words
    assert ["isolation_level", "default", "SERIALIZABLE", "SERIALIZABLE", "kept"] in words
    assert ["app.tenant", "default", "acme", "acme", "kept"] in words


def test_the_demo_shows_progress_and_the_transaction_that_was_lost(carried: tuple[Demo, str]) -> None:
    _, text = carried
    first, last = text.index("order 1 written"), text.index("order 10 written")
    assert text.index("primary on port") < first < text.index("kill -9") < last
    assert "order 5 failed: FailoverSuccessError; rollback(), and again" in text


def test_the_trace_is_drawn_as_a_tree_that_fits_a_terminal(carried: tuple[Demo, str]) -> None:
    _, text = carried
    tree = text[text.index("The trace") : text.index("The metrics")]
    assert "trigger=connection_lost outcome=success transaction=rolled_back" in tree
    assert "└─ session_state.transfer" in tree
    assert "• setting isolation_level: default → SERIALIZABLE, restored" in tree
    assert "├─ session_state.pristine_fetch" in tree
    report = text[text.index("What became") : text.index("demo-trace.json")].splitlines()
    assert max(map(len, report)) <= 80


def test_the_trace_file_is_what_jaeger_opens(carried: tuple[Demo, str]) -> None:
    demo, _ = carried
    traces = json.loads((demo.home / "demo-trace.json").read_text())["data"]
    story = next(trace for trace in traces if any(span["operationName"] == "failover" for span in trace["spans"]))
    spans = {span["spanID"]: span for span in story["spans"]}
    (transfer,) = (span for span in spans.values() if span["operationName"] == "session_state.transfer")
    parent = spans[transfer["references"][0]["spanID"]]
    assert parent["operationName"] == "failover"
    statement = spans[parent["references"][0]["spanID"]]
    assert statement["operationName"] in ("INSERT orders", "SELECT", "COMMIT")
    assert {"key": "span.kind", "type": "string", "value": "client"} in statement["tags"]
    assert parent["startTime"] <= transfer["startTime"]
    assert {"key": "instrumented_wrapper.outcome", "type": "string", "value": "success"} in parent["tags"]
    assert [field["value"] for field in transfer["logs"][0]["fields"] if field["key"] == "event"] == ["setting"]
    assert all(span["traceID"] == story["traceID"] and span["duration"] > 0 for span in spans.values())
    assert story["processes"][parent["processID"]]["serviceName"] == "orders"


def test_the_telemetry_is_sent_on_and_a_dead_endpoint_is_one_line(
    carried: tuple[Demo, str], collector: Receiver
) -> None:
    _, text = carried
    assert {"failover", "session_state.transfer", "session_state.reset"} <= {span.name for span in collector.spans()}
    assert text.count(f"metrics not sent to {DEAD}/v1/metrics: Connection refused") == 1
    assert "Traceback" not in text


def test_a_demo_that_ended_leaves_nothing(carried: tuple[Demo, str]) -> None:
    demo, _ = carried
    assert demo.remains() == []
    assert running(str(demo.temporary)) == []


def test_settings_that_are_not_carried_are_a_failure(runs: dict[str, Demo]) -> None:
    demo = runs["not transferred"]
    text = demo.finish()
    assert demo.process.returncode == 1, text
    assert "NOT CARRIED: settings are lost: autocommit, isolation_level, read_only, deferrable," in text
    assert "NOT CARRIED: the server says read committed, not serializable" in text


def test_an_app_that_is_not_looked_after_is_a_failure(runs: dict[str, Demo]) -> None:
    demo = runs["not instrumented"]
    text = demo.finish()
    assert demo.process.returncode == 1, text
    assert "NOT CARRIED: orders are lost: 5, 6, 7, 8, 9, 10" in text
    assert "instrumented_wrapper" not in (demo.home / "demo-trace.json").read_text()
    assert demo.remains() == []


@pytest.fixture(scope="module")
def tenants() -> Iterator[dict[str, Demo]]:
    """Two runs of the second story at the same time."""
    demos = {
        "stopped": Demo("tenants.py"),
        "not instrumented": Demo("tenants.py", INSTRUMENTED_WRAPPER_ENABLED="false"),
    }
    yield demos
    for demo in demos.values():
        demo.close()


def rows(text: str) -> dict[str, list[str]]:
    """Return the rows of the table, by their names: a cell for each act."""
    lines = [re.split(r" {2,}", line.strip()) for line in text.splitlines()]
    return {name: cells for name, *cells in lines if len(cells) == 3}


def test_a_leaked_tenant_is_seen_then_stopped_then_carried(tenants: dict[str, Demo]) -> None:
    demo = tenants["stopped"]
    text = demo.finish()
    assert demo.process.returncode == 0, text
    assert "STOPPED: no request saw what is another tenant's, through the failover too" in text
    table = rows(text)
    assert table["... shown another tenant's notes"] == ["20", "0", "0"]
    assert table["spans session_state.leak"] == ["22", "0", "0"]
    assert table["spans session_state.reset"][:2] == ["0", "22"]
    assert int(table["spans failover"][2]) > 0
    assert table["notes missing / there twice"] == ["0 / 0"] * 3


def test_the_second_story_names_the_setting_and_the_routes(tenants: dict[str, Demo]) -> None:
    text = tenants["stopped"].finish()
    assert "the spans say: search_path, set in GET / (20), POST / (2)" in text
    assert "changed session state, which its next user inherits: search_path" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100
    assert tenants["stopped"].remains() == []


def test_an_app_of_tenants_that_is_not_looked_after_is_a_failure(tenants: dict[str, Demo]) -> None:
    demo = tenants["not instrumented"]
    text = demo.finish()
    assert demo.process.returncode == 1, text
    assert "NOT STOPPED: with on: 20 requests were shown another tenant's notes" in text
    assert demo.remains() == []


@pytest.mark.parametrize(
    ("story", "number", "moment"),
    [
        ("demo.py", signal.SIGINT, "starting PostgreSQL"),
        ("demo.py", signal.SIGTERM, "order 2 written"),
        ("tenants.py", signal.SIGTERM, "RESET_ON_RETURN=on"),
    ],
)
def test_a_demo_that_is_stopped_leaves_nothing(story: str, number: int, moment: str) -> None:
    demo = Demo(story)
    try:
        demo.read_until(moment)
        began = time.monotonic()
        while not (folders := demo.remains()):  # the first moment when there is something to leave behind
            assert time.monotonic() < began + SECONDS
        os.killpg(demo.process.pid, number)  # as a terminal does: to all of its foreground
        text = demo.finish()
        assert demo.process.returncode == 128 + number, text
        assert "Traceback" not in text
        assert "nothing is left running" in text
        assert demo.remains() == []
        assert running(str(demo.temporary), *folders) == []
        assert [path.name for path in demo.home.iterdir()] == ["tmp"]
    finally:
        demo.close()


def test_the_receiver_takes_compressed_exports() -> None:
    body = ExportTraceServiceRequest()
    body.resource_spans.add().scope_spans.add().spans.add(name="squeezed")
    with Receiver() as receiver:
        zipped = gzip.compress(body.SerializeToString())
        request = urllib.request.Request(f"{receiver.url}/v1/traces", zipped, {"Content-Encoding": "gzip"})
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            assert answer.status == 200
    assert [span.name for span in receiver.spans()] == ["squeezed"]
