"""All tests, or those that are named: ``python -m tests`` does what ``python -m pytest`` does, and two things more.

The C extension of mysql-connector brings an OpenSSL of its own. Where the system's is older, it can only be loaded
before anything has loaded that one, and pytest does so (``hashlib``).

Where no path is named, the contract suite and all other tests run side by side, each with servers of its own: a test
waits for servers more than it computes. What the contract suite prints follows when both have ended.
"""

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

with contextlib.suppress(ImportError):  # not installed, or not for this machine: its tests are skipped, and say so
    import _mysql_connector  # noqa: F401

import pytest

CONTRACT = ["tests/contract", "-o", "cache_dir=.pytest_cache/contract"]
OTHERS = ["tests", "--ignore=tests/contract", "-o", "cache_dir=.pytest_cache/others"]
PASSED = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)  # of a run of what failed, a part may have none


def names_a_path(arguments: list[str]) -> bool:
    return any(Path(argument.partition("::")[0]).exists() for argument in arguments)


def run_side_by_side(arguments: list[str]) -> int:
    """Run both parts; return 0 if no test of them failed."""
    command = [sys.executable, "-m", "tests"]
    with tempfile.TemporaryFile() as printed:
        contract = subprocess.Popen([*command, *CONTRACT, *arguments], stdout=printed, stderr=subprocess.STDOUT)
        codes = [subprocess.call([*command, *OTHERS, *arguments]), contract.wait()]
        printed.seek(0)
        sys.stdout.buffer.write(printed.read())
    return int(any(code not in PASSED for code in codes))


if names_a_path(sys.argv[1:]):
    sys.exit(pytest.main())
sys.exit(run_side_by_side(sys.argv[1:]))
