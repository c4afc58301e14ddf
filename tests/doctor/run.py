"""Run the doctor as a user does, in a process of its own, and read what it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Nothing of this environment is to be warned of: what the tests install, and where nothing listens.
QUIET = {
    "OTEL_TRACES_EXPORTER": "none",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "psycopg,sqlalchemy",
}


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("INSTRUMENTED_WRAPPER", "OTEL_"))}
    command = [sys.executable, "-m", "instrumented_wrapper", "doctor", *arguments]
    wanted = {**kept, **QUIET, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=wanted, cwd=ROOT, check=False)


def data(*arguments: str, **environment: str) -> dict[str, Any]:
    """Return the doctor's data; its exit code is in them."""
    ended = doctor("--json", *arguments, **environment)
    found: dict[str, Any] = json.loads(ended.stdout)
    assert found["exit_code"] == ended.returncode
    return found


def levels(found: dict[str, Any], check: str) -> list[str]:
    return [finding["level"] for finding in found["findings"] if finding["check"] == check]


def worse(found: dict[str, Any]) -> set[tuple[str, str]]:
    """Return level and check of all that is not well."""
    return {(each["level"], each["check"]) for each in found["findings"] if each["level"] != "ok"}
