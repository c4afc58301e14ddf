"""``python -m instrumented_wrapper``: what it says of drivers, options and OpenTelemetry, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import psycopg
import pytest

import instrumented_wrapper
from instrumented_wrapper.doctor.overview import missing_exporters
from instrumented_wrapper.supported import entries

ROOT = Path(__file__).parents[1]
VERDICT = "under opentelemetry-instrument"


# Whatever exporters are installed here: the launcher is to look for none.
EXPORTERS = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("INSTRUMENTED_WRAPPER", "OTEL_"))}
    command = [sys.executable, "-m", "instrumented_wrapper"]
    wanted = {**kept, **EXPORTERS, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=wanted, cwd=ROOT, check=False)


def ask(**environment: str) -> tuple[int, str]:
    """Return the exit code and the report; nothing may be complained of."""
    ended = run(**environment)
    assert ended.stderr == ""
    return ended.returncode, ended.stdout


def line(report: str, start: str) -> list[str]:
    """Return the words of the one line that begins so."""
    [found] = [words for words in report.splitlines() if words.strip().startswith(start)]
    return found.strip().removeprefix(start).split()


def test_defaults() -> None:
    code, said = ask()
    assert code == 0
    assert said.startswith(f"instrumented-wrapper {instrumented_wrapper.__version__}, Python ")
    assert line(said, "psycopg ") == [psycopg.__version__, "patched"]
    assert line(said, "failover ") == ["auto", "default"]
    assert line(said, "failover_timeout") == ["60.0", "default"]
    assert line(said, "configured in this process")[0] == "no"


@pytest.mark.parametrize("module", list(entries()))
def test_every_driver_is_found_by_the_name_that_the_app_imports(module: str) -> None:
    try:
        import_module(module)
    except ImportError as error:
        pytest.skip(f"{module} is not installed: {error}")
    _, said = ask()
    number, *done = line(said, f"{module} ")
    assert number[0].isdigit()
    assert done == ["patched"]


def test_options_and_where_they_are_from() -> None:
    hosts = {"INSTRUMENTED_WRAPPER_FAILOVER_HOSTS": "db1:5433,db2", "INSTRUMENTED_WRAPPER_RESET_SCOPE": "session"}
    code, said = ask(**hosts)
    assert code == 0
    assert line(said, "failover_hosts")[0] == "db1:5433,db2"
    assert line(said, "reset_scope")[0] == "session"
    assert "default" not in line(said, "failover_hosts") + line(said, "reset_scope")


def test_lists_are_shown_as_they_are_written() -> None:
    lists = {
        "DRIVERS": "psycopg,sqlite3",
        "METRICS_WITHOUT": "namespace,summary",
        "FAILOVER_HOSTS": "[::1]:5433,::1,a:1",
    }
    code, said = ask(**{f"INSTRUMENTED_WRAPPER_{name}": value for name, value in lists.items()})
    assert code == 0
    assert {name: line(said, f"{name.lower()} ")[0] for name in lists if name != "DRIVERS"} == {
        "METRICS_WITHOUT": "namespace,summary",
        "FAILOVER_HOSTS": "[::1]:5433,::1,a:1",
    }
    assert "psycopg,sqlite3 INSTRUMENTED_WRAPPER_DRIVERS" in said


def test_option_that_cannot_be_used() -> None:
    code, said = ask(INSTRUMENTED_WRAPPER_FAILOVER="perhaps")
    assert code == 1
    assert "NOT USABLE" in said
    assert all(word in said for word in ("INSTRUMENTED_WRAPPER_FAILOVER", "perhaps", "auto"))


def test_switched_off() -> None:
    code, said = ask(INSTRUMENTED_WRAPPER_ENABLED="false")
    assert code == 0
    assert line(said, "psycopg ")[1:] == ["not", "patched"]
    assert "INSTRUMENTED_WRAPPER_ENABLED is false" in said


def test_drivers_that_are_left_out() -> None:
    ended = run(INSTRUMENTED_WRAPPER_DRIVERS="pymysql")
    assert ended.returncode == 0
    assert line(ended.stdout, "psycopg ")[1:] == ["not", "patched"]
    assert line(ended.stdout, "pymysql ")[1:] == ["patched"]


@pytest.mark.parametrize("names", ["*", "instrumented_wrapper", "redis, instrumented_wrapper"])
def test_disabled_for_the_launcher(names: str) -> None:
    code, said = ask(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=names)
    assert code == 0
    assert line(said, f"{VERDICT} ")[:2] == ["NOT", "patched:"]


def test_others_disabled_for_the_launcher() -> None:
    _, said = ask(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="redis")
    assert line(said, f"{VERDICT} ") == ["patched"]


@pytest.mark.parametrize("signal", ["TRACES", "METRICS", "LOGS"])
def test_exporter_that_is_not_installed(signal: str) -> None:
    """The launcher loads nothing then, and says little about it."""
    code, said = ask(**{f"OTEL_{signal}_EXPORTER": "nonsuch"})
    assert code == 0
    assert " ".join(line(said, f"{VERDICT} ")) == "NOT patched: exporter nonsuch is not installed"


@pytest.mark.parametrize(
    ("environment", "missing"),
    [
        ({"OTEL_TRACES_EXPORTER": ""}, []),
        ({"OTEL_TRACES_EXPORTER": "None"}, []),
        ({"OTEL_TRACES_EXPORTER": "console, nonsuch"}, ["nonsuch"]),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, []),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, ["otlp (http/json)"]),
    ],
)
def test_exporters_as_the_sdk_names_them(
    environment: dict[str, str], missing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert list(missing_exporters("traces")) == missing
