"""Programs that run in a process of their own: the drivers of this one stay patched."""

import json
import os
from pathlib import Path
from typing import Any

from drivers import script

# What else is loaded before it may keep it from being loaded: see ``tests/__main__.py``.
FIRST = """
import contextlib
with contextlib.suppress(ImportError):
    import _mysql_connector
"""
ROOT = Path(__file__).parents[2]
PATHS = os.pathsep.join((str(ROOT), str(ROOT / "tests")))


def module_of(driver: Any) -> str:
    """Return what the program imports to have the driver under test."""
    return type(driver).__module__


def run(program: str, *arguments: Any, **environment: str) -> Any:
    """Run a program that finds its arguments as JSON in ``sys.argv[1]``; return the JSON that it prints."""
    done = script.run(FIRST + program, json.dumps(arguments), PYTHONPATH=PATHS, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def started(program: str, *arguments: Any) -> script.Program:
    """Start one that is talked to line by line."""
    return script.Program(FIRST + program, json.dumps(arguments), PYTHONPATH=PATHS)
