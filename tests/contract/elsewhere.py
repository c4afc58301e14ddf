"""Programs that run in a process of their own: the drivers of this one stay patched."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

# What else is loaded before it may keep it from being loaded: see ``tests/__main__.py``.
FIRST = """
import contextlib
with contextlib.suppress(ImportError):
    import _mysql_connector
"""
ROOT = Path(__file__).parents[2]


def module_of(driver: Any) -> str:
    """Return what the program imports to have the driver under test."""
    return type(driver).__module__


def run(program: str, *arguments: Any, **environment: str) -> Any:
    """Run a program that finds its arguments as JSON in ``sys.argv[1]``; return the JSON that it prints."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    done = subprocess.run(
        [sys.executable, "-c", FIRST + program, json.dumps(arguments)],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
