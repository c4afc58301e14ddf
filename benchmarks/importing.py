"""Measure the start: the import of the package and `instrument()`, each time in a new interpreter.

Both sides import the driver and OpenTelemetry's API first, as the app does anyway.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from benchmarks.table import Added, Row

__all__ = ["import_rows"]

_BEFORE: Final = "import psycopg, opentelemetry.trace, opentelemetry.metrics"
_PACKAGE: Final = "import instrumented_wrapper"
_INSTRUMENT: Final = "instrumented_wrapper.instrument()"
_IMPORT_LIMIT: Final = 0.030


def import_rows(rounds: int) -> Iterator[Row]:
    """Yield the rows; CPU seconds since the start of the interpreter."""
    _seconds(_BEFORE, _PACKAGE, _INSTRUMENT)  # compiles what was not compiled yet
    measured = [_round() for _ in range(rounds)]
    bare, package, instrumented = zip(*measured, strict=True)
    yield Row("import of the package, after psycopg and the API", bare, package, Added(_IMPORT_LIMIT))
    yield Row("instrument(), after that", package, instrumented)


def _round() -> tuple[float, float, float]:
    return _seconds(_BEFORE), _seconds(_BEFORE, _PACKAGE), _seconds(_BEFORE, _PACKAGE, _INSTRUMENT)


def _seconds(*statements: str) -> float:
    program = "\n".join(("import time", *statements, "print(time.process_time())"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)
