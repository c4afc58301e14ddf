"""The command line of the doctor, its outputs, and the programs that it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import instrumented_wrapper
from instrumented_wrapper.doctor import program

from .run import data, doctor, worse

PROGRAM = [sys.executable, "-c"]


def ran(text: str, *arguments: str, **environment: str) -> dict[str, Any]:
    return data("--dsn", "sqlite://", *arguments, "--", *PROGRAM, text, **environment)


def test_the_json_has_the_fields_that_the_page_names() -> None:
    found = data("--dsn", "sqlite://")
    assert list(found) == ["version", "python", "exit_code", "findings", "drivers", "databases", "program"]
    assert found["version"] == instrumented_wrapper.__version__
    assert found["exit_code"] == 0 and found["program"] is None
    assert found["drivers"]["sqlite3"] == {"version": found["python"], "status": "patched"}
    assert {tuple(finding) for finding in found["findings"]} == {("level", "check", "about", "message")}
    [database] = found["databases"]
    assert list(database) == ["url", "database", "driver", "hosts", "settings", "failover"]
    assert (database["database"], database["driver"], database["failover"]) == ("sqlite", "sqlite3", None)


def test_table_says_the_same_as_the_data() -> None:
    wrong = {"INSTRUMENTED_WRAPPER_FAILOVR": "on"}
    printed = doctor("--dsn", "sqlite://", **wrong)
    assert printed.returncode == 2
    assert printed.stdout.isascii() and "\x1b" not in printed.stdout
    words = " ".join(printed.stdout.split())
    for finding in data("--dsn", "sqlite://", **wrong)["findings"]:
        assert finding["level"].upper() in words and finding["message"] in words
    assert words.endswith("exit code 2: something is broken")


def test_table_is_as_wide_as_the_terminal() -> None:
    printed = doctor(COLUMNS="90").stdout
    assert max(map(len, printed.splitlines())) <= 90


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dsn", "oracle://app:hush-hush@db/shop"], "unknown scheme oracle://"),
        (["postgresql://app:hush-hush@db/shop"], "unrecognized arguments: postgresql://***@db/shop"),
        (["--dsn"], "expected one argument"),
        (["--seconds", "0", "--", "true"], "a number of seconds above 0"),
        (["--"], "needs a command"),
        (["--", "no-such-program-here"], "no-such-program-here"),
        (["--", "opentelemetry-instrument", "--traces_exporter", "none", "true"], "without opentelemetry-instrument"),
    ],
)
def test_bad_usage(arguments: list[str], words: str) -> None:
    ended = doctor(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert words in ended.stderr
    assert "hush-hush" not in ended.stderr and "Traceback" not in ended.stderr


def test_unknown_command() -> None:
    command = [sys.executable, "-m", "instrumented_wrapper", "docter"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and "docter" in ended.stderr and "doctor" in ended.stderr


def test_program() -> None:
    found = ran("import sqlite3, pymysql; print('hello')")
    [process] = found["program"]["processes"]
    assert process["active"] is True
    assert process["patched"] == {"sqlite3": "patched", "pymysql": "patched"}
    assert found["program"]["exit_code"] == 0 and found["exit_code"] == 0


def test_program_may_be_given_with_the_launcher() -> None:
    found = data("--dsn", "sqlite://", "--", "opentelemetry-instrument", *PROGRAM, "import sqlite3")
    assert found["program"]["processes"][0]["patched"] == {"sqlite3": "patched"}


def test_program_that_does_not_end_is_stopped() -> None:
    found = ran("import sqlite3, signal; signal.pause()", "--seconds", "1")
    assert found["program"]["exit_code"] is None
    assert found["program"]["processes"][0]["patched"] == {"sqlite3": "patched"}
    assert found["exit_code"] == 0


def test_the_time_of_a_program_begins_with_its_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_START", 10_000)  # seconds that another one may take
    assert program.run([*PROGRAM, "import signal; signal.pause()"], 0.1, by_itself=False).exit_code is None


def test_program_that_instruments_itself() -> None:
    text = "import instrumented_wrapper; instrumented_wrapper.instrument('sqlite3'); import sqlite3, pymysql"
    found = ran(text, "--as-is")
    assert found["program"]["processes"][0]["patched"] == {"sqlite3": "patched"}
    again = ran(text)
    assert any("called again" in finding["message"] for finding in again["findings"])
    assert again["exit_code"] == 1


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_process_that_ends_at_once(end: str) -> None:
    """Workers of a server that forks end so: Python's exit handlers are not run."""
    text = f"""
import os
if os.fork() == 0:
    import sqlite3
    {end}
os.wait()
"""
    patched = [process["patched"] for process in ran(text)["program"]["processes"]]
    assert sorted(patched, key=len) == [{}, {"sqlite3": "patched"}]


def test_its_children_report_too() -> None:
    text = f"import subprocess; subprocess.run([{sys.executable!r}, '-c', 'import sqlite3'])"
    patched = [process["patched"] for process in ran(text)["program"]["processes"]]
    assert sorted(patched, key=len) == [{}, {"sqlite3": "patched"}]


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        ("import sqlite3; raise SystemExit(3)", {}),
        ("import sqlite3", {"OTEL_TRACES_EXPORTER": "nonsuch"}),
        ("import sqlite3", {"INSTRUMENTED_WRAPPER_FAILOVER": "perhaps"}),
    ],
)
def test_program_that_is_broken(text: str, environment: dict[str, str]) -> None:
    found = ran(text, **environment)
    assert ("broken", "program") in worse(found)
    assert found["exit_code"] == 2


def test_program_that_is_not_python() -> None:
    found = data("--dsn", "sqlite://", "--", "echo", "hello")
    assert ("broken", "program") in worse(found)
    assert found["program"] == {"name": "echo", "exit_code": 0, "processes": []}


def test_arguments_of_a_program_are_not_shown(tmp_path: Path) -> None:
    ended = doctor("--json", "--", *PROGRAM, "import sqlite3", "--password", "hush-hush")
    assert json.loads(ended.stdout)["program"]["name"].startswith("python")
    assert "hush-hush" not in ended.stdout + ended.stderr


def test_program_that_clears_its_environment() -> None:
    found = ran("import os; os.environ.clear(); import pymysql")
    assert found["program"]["exit_code"] == 0
    assert found["program"]["processes"][0]["patched"]["pymysql"] == "patched"


def test_double_instrumentation_in_a_program() -> None:
    found = ran("import psycopg", OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="")
    assert any("psycopg: another instrumentation" in finding["message"] for finding in found["findings"])
