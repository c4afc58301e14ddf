"""Run a program for a short time as ``opentelemetry-instrument`` would, and read what its processes report.

Each Python process of it loads `sitecustomize` from the folder beside this file, which writes a report into a folder
that this module makes (`inside`).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from instrumented_wrapper.doctor.findings import Finding, Level
from instrumented_wrapper.doctor.urls import UsageError

FOLDER: Final = "DOCTOR_REPORTS"  # where reports go
ITSELF: Final = "DOCTOR_APP_INSTRUMENTS"  # the program calls instrument() itself
_LAUNCHER: Final = "opentelemetry-instrument"
_SITE: Final = Path(__file__).with_name("site")
_PATIENCE: Final = 5  # seconds between one signal and the next
_START: Final = 30  # seconds that a program may take to begin
_BETWEEN: Final = 0.1  # seconds between two looks at it


@dataclass(slots=True)
class Program:
    """A program that the doctor ran.

    Attributes:
        name: of the program, without its arguments, which may have a password.
        exit_code: None if the doctor stopped it when the time limit passed.
        processes: the report of each of its Python processes.
    """

    name: str
    exit_code: int | None
    processes: list[Mapping[str, Any]] = field(default_factory=list)


def run(command: Sequence[str], seconds: float, by_itself: bool) -> Program:
    """Run a command for a limited number of seconds; its output goes to stderr.

    Raises:
        UsageError: the command cannot be run.
    """
    words = list(command[1:]) if Path(command[0]).name == _LAUNCHER else list(command)
    if not words or words[0].startswith("-"):
        raise UsageError(
            f"give the command without {_LAUNCHER} and its options: the doctor does the same. Set OTEL_..."
        )
    if (program := shutil.which(words[0])) is None:
        raise UsageError(f"{words[0]}: no such program")
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        paths = [str(_SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
        marks = {FOLDER: folder, ITSELF: "1" if by_itself else "", "PYTHONPATH": os.pathsep.join(paths)}
        exit_code = _ended([program, *words[1:]], {**os.environ, **marks}, Path(folder), seconds)
        reports = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]
    return Program(Path(words[0]).name, exit_code, reports)


def _ended(command: list[str], environ: Mapping[str, str], reports: Path, seconds: float) -> int | None:
    """Wait for the end of a program; stop it and its children when the time limit passes."""
    with subprocess.Popen(command, env=environ, stdout=sys.stderr, start_new_session=True) as process:
        try:
            return _waited(process, reports, seconds)
        finally:  # our own end is also the program's
            _stop(process)


def _waited(process: subprocess.Popen[bytes], reports: Path, seconds: float) -> int | None:
    """Return the exit code, or None if the time limit passed; the time starts at the first report."""
    until, has_begun = time.monotonic() + max(seconds, _START), False
    while time.monotonic() < until:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(_BETWEEN)
        if not has_begun and any(reports.glob("*.json")):
            until, has_begun = time.monotonic() + seconds, True
    return None


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt, then kill: an interrupted program still writes its report, a killed one does not."""
    if process.returncode is None:
        _interrupt(process)
    with suppress(ProcessLookupError):  # what it has started, and left
        os.killpg(process.pid, signal.SIGKILL)


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
            return


def judged(program: Program) -> Iterator[Finding]:
    """Return the findings about a program."""
    if program.exit_code:
        yield Finding("broken", "program", program.name, f"ended with exit code {program.exit_code}")
    if not program.processes:
        text = "no Python process reported: it is none, its Python does not have this package, it ignores PYTHONPATH"
        text = f"{text} (-I, -E), or was killed at its start"
        yield Finding("broken", "program", program.name, text)
    elif not any(process["patched"] or not process["active"] for process in program.processes):
        yield Finding("warning", "program", program.name, "imported no supported driver while it ran")
    for process in program.processes:
        yield from _of_process(process)


def _of_process(process: Mapping[str, Any]) -> Iterator[Finding]:
    about = f"{process['name']} ({process['pid']})"
    if not process["active"]:
        yield Finding("broken", "program", about, "nothing is patched in it: instrument() was not called, or failed")
    for module, done in process["patched"].items():
        level: Level = "ok" if done.startswith("patched") else "warning"
        yield Finding(level, "program", about, f"{module}: {done}")
    for module in process["unsupported"]:
        yield Finding("warning", "program", about, f"{module}: imported, and not supported")
    for driver in process["doubled"]:
        spans = "each statement has two spans" if process["query_spans"] == "on" else "ours of statements are left out"
        text = f"{driver}: another instrumentation is active: {spans}"
        yield Finding("warning", "program", about, text)
    for severity, text in process["logged"]:
        yield Finding("broken" if severity == "ERROR" else "warning", "program", about, text)
