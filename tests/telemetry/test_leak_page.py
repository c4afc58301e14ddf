"""The page on leaks: its commands and its code run, and show and stop what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from receiver import Receiver

orm = pytest.importorskip("sqlalchemy.orm")

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "finding-a-leak.md").read_text()
CODE = dict(re.findall(r"<!-- (\S+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))
REPORT, ON = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
(LOGGED,) = re.findall(r"```text\n(.*?)\n```", PAGE, re.DOTALL)
POOL, SETTINGS = "db.client.connection.pool.name", "instrumented_wrapper.settings"


def url(cluster: Any) -> str:
    return f"postgresql+psycopg://app:app-secret@{cluster.primary.host}:{cluster.primary.port}/app"


def attributes(span: Any) -> dict[str, Any]:
    """Return the attributes of a span as it came over the wire."""
    return {
        told.key: told.value.string_value or [value.string_value for value in told.value.array_value.values]
        for told in span.attributes
    }


def run(cluster: Any, folder: Path, command: str) -> tuple[Receiver, Any]:
    """Run a command of the page beside its `shop.py`; return what was sent, and what the app printed."""
    (folder / "shop.py").write_text(CODE["shop.py"])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "INSTRUMENTED_"))}
    with Receiver() as receiver:
        kept |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
            "DATABASE_URL": url(cluster),
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": receiver.protocol,
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "psycopg,sqlalchemy",
        }
        shell = {"shell": True, "cwd": folder, "env": kept, "timeout": 60}
        done = subprocess.run(command, capture_output=True, text=True, check=False, **shell)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return receiver, done


def linked(receiver: Receiver, name: str) -> tuple[dict[str, Any], list[list[str]]]:
    """Return the attributes of a span, and for each of its links the spans from the request down to the statement."""
    known = {span.span_id: span for span in receiver.spans}
    (span,) = (span for span in receiver.spans if span.name == name)
    ways = []
    for link in span.links:
        at, way = known[link.span_id], []
        while at is not None:
            way.insert(0, at.name)
            at = known.get(at.parent_span_id)
        ways.append(way)
    return attributes(span), ways


def counted(receiver: Receiver) -> set[tuple[str, str]]:
    """Return operations and settings that were counted."""
    points = [
        point
        for metric in receiver.metrics
        if metric.name == "instrumented_wrapper.settings"
        for point in metric.sum.data_points
    ]
    told = [{a.key.rpartition(".")[2]: a.value.string_value for a in point.attributes} for point in points]
    return {(one["operation"], one["setting"]) for one in told}


def test_report_leads_to_the_pool_and_the_route(cluster: Any, tmp_path: Path) -> None:
    receiver, done = run(cluster, tmp_path, REPORT)
    assert done.stdout == "prices are shown to acme\n"
    assert done.stderr.startswith(LOGGED) and done.stderr.count("\n") == 1
    told, ways = linked(receiver, "session_state.leak")
    assert (told[POOL], told[SETTINGS]) == ("orders", ["app.tenant"])
    assert ways == [["GET /orders", "SELECT"]]
    assert counted(receiver) == {("leak", "custom")}


def test_on_stops_it(cluster: Any, tmp_path: Path) -> None:
    receiver, done = run(cluster, tmp_path, ON)
    assert done.stdout.split() == ["prices", "are", "shown", "to"]
    assert done.stderr == ""
    told, ways = linked(receiver, "session_state.reset")
    assert (told["instrumented_wrapper.trigger"], told[SETTINGS]) == ("pool_return", ["app.tenant"])
    assert ways == [["GET /orders", "SELECT"]]
    assert counted(receiver) == {("reset", "custom")}


@pytest.mark.parametrize(
    ("fix", "leaks"),
    [("shop.py", 1), *((name, 0) for name in CODE if name != "shop.py")],
)
def test_each_fix_leaves_nothing(cluster: Any, spans: Any, monkeypatch: Any, fix: str, leaks: int) -> None:
    monkeypatch.setenv("DATABASE_URL", url(cluster))
    names: dict[str, Any] = {"__name__": "shop"}
    exec(compile(CODE["shop.py"], "shop.py", "exec"), names)
    names["Session"] = type("Session", (orm.Session,), {})  # so that a listener is not one of all sessions
    exec(compile(CODE[fix], f"{fix} of the page", "exec"), names)
    spans.clear()
    names["orders"]("acme")
    assert (names["prices"]() or "") == ("acme" if leaks else "")
    assert len(spans.named("session_state.leak")) == leaks
    names["engine"].dispose()
