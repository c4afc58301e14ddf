"""The part of the doctor that runs inside a program: instrument it as the launcher would, and report.

A report is a file for each process, written whole: at the start, for each driver that is patched, since a process may
be killed or end without Python's exit handlers, and at the end. Nothing here may fail the program.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from instrumented_wrapper.doctor.checks import OTHER_DRIVERS
from instrumented_wrapper.doctor.program import FOLDER, ITSELF
from instrumented_wrapper.doctor.urls import masked
from instrumented_wrapper.instrument import report
from instrumented_wrapper.supported import driver_names
from instrumented_wrapper.telemetry.other_instrumentations import is_instrumented

_LOGGERS: Final = ("instrumented_wrapper", "opentelemetry.instrumentation")
_MOST: Final = 20  # log lines that one process reports


class _Kept(logging.Handler):
    """Collect warnings and errors of some loggers. An error of another instrumentation is a warning here."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        severity = record.levelname if record.name.startswith("instrumented_wrapper") else "WARNING"
        line = severity, masked(record.getMessage())
        if line not in self.lines and len(self.lines) < _MOST:
            self.lines.append(line)


class _Noted(dict[str, str]):
    """What the wrapper did with each module; writes a report after each addition."""

    def __init__(self, done: Mapping[str, str], write: Callable[[], None]) -> None:
        super().__init__(done)
        self._write = write

    def __setitem__(self, module: str, done: str) -> None:
        super().__setitem__(module, done)
        self._write()


def begin() -> None:
    """Instrument this process, unless the program does that itself, and have it report."""
    kept = _Kept()
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(kept)
    if not os.environ.get(ITSELF):
        import_module("opentelemetry.instrumentation.auto_instrumentation").initialize()
    write = partial(_write, kept, Path(os.environ[FOLDER]))
    report().done = _Noted(report().done, write)
    write()
    atexit.register(write)


def _write(kept: _Kept, folder: Path) -> None:
    imported = set(sys.modules)
    state = report()
    active = [name for name in driver_names() if name in imported and is_instrumented(name)]
    facts: dict[str, Any] = {
        "pid": os.getpid(),
        "name": Path(next(iter(getattr(sys, "argv", ())), "") or "python").name,
        "active": state.active,
        "patched": dict(state.done),
        "unsupported": sorted(imported & set(OTHER_DRIVERS.values()) - set(driver_names())),
        "doubled": active if state.options.query_spans != "off" else [],
        "query_spans": state.options.query_spans,
        "logged": kept.lines,
    }
    path = folder / f"{facts['pid']}.json"
    try:
        path.with_suffix(".part").write_text(json.dumps(facts))
        path.with_suffix(".part").rename(path)
    except OSError:  # the doctor has gone, or the program may not write there
        return
