"""Python programs in processes of their own, for what a test must not do to its own process. Knows no driver."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
LIMIT = 300  # seconds: of a program that hangs


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("INSTRUMENTED_WRAPPER", "OTEL_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::ResourceWarning", **extra}


def run(text: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    command = [sys.executable, "-c", dedent(text), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT, env=_environment(environment), cwd=ROOT, check=False
    )


def complete(text: str, *arguments: str, **environment: str) -> str:
    """Run a program that must end well and in silence; return what it said."""
    ended = run(text, *arguments, **environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.strip()


class Program:
    """A program that is talked to line by line."""

    def __init__(self, text: str, *arguments: str, **environment: str) -> None:
        command = [sys.executable, "-u", "-c", dedent(text), *arguments]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(environment),
            cwd=ROOT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()

    def tell(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        """Return the program's next line; fail with what it complained of if there is none."""
        assert self.process.stdout and self.process.stderr
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.stderr.read())
        return line.strip()

    def end(self) -> tuple[int, str]:
        """Return the exit code and what was written to stderr."""
        _, complaints = self.process.communicate(timeout=LIMIT)
        return self.process.returncode, complaints
