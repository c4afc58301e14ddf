"""All tests, or those that are named: ``python -m tests`` does what ``python -m pytest`` does, and two things more.

The C extension of mysql-connector brings an OpenSSL of its own. Where the system's is older, it can only be loaded
before anything has loaded that one, and pytest does so (``hashlib``).

Where no path is named, six parts run side by side, each with servers of its own: three of the contract suite, all that
is about MySQL and MariaDB only, the other single drivers, and all others. A test waits for servers more than it
computes. What all but the last print follows.
"""

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

with contextlib.suppress(ImportError):  # not installed, or not for this machine: its tests are skipped, and say so
    import _mysql_connector  # noqa: F401

import pytest

MARK = 'pytestmark = pytest.mark.databases("mariadb", "mysql")'
FILES = sorted(Path("tests/contract").glob("test_*.py"))
OF_MYSQL = [str(path) for path in FILES if MARK in path.read_text()]
CONTRACT = [str(path) for path in FILES if str(path) not in OF_MYSQL]
PARTS = (
    CONTRACT[::3],
    CONTRACT[1::3],
    CONTRACT[2::3],
    ["tests/drivers/mysql", *OF_MYSQL],
    ["tests/drivers", "--ignore=tests/drivers/mysql"],
    ["tests", "--ignore=tests/contract", "--ignore=tests/drivers"],
)
PASSED = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)  # of a run of what failed, a part may have none


def names_a_path(arguments: list[str]) -> bool:
    return any(Path(argument.partition("::")[0]).exists() for argument in arguments)


def run_side_by_side(arguments: list[str]) -> int:
    """Run all parts, the last one in sight; return 0 if no test failed."""
    *hidden, seen = [
        [sys.executable, "-u", "-m", "tests", *part, "-o", f"cache_dir=.pytest_cache/{number}", *arguments]
        for number, part in enumerate(PARTS)
    ]
    with contextlib.ExitStack() as files:
        outputs = [files.enter_context(tempfile.TemporaryFile()) for _ in hidden]
        running = [subprocess.Popen(command, stdout=to, stderr=to) for command, to in zip(hidden, outputs, strict=True)]
        codes = [subprocess.call(seen), *(part.wait() for part in running)]
        for output in outputs:
            output.seek(0)
            sys.stdout.buffer.write(output.read())
    return int(any(code not in PASSED for code in codes))


if names_a_path(sys.argv[1:]):
    sys.exit(pytest.main())
sys.exit(run_side_by_side(sys.argv[1:]))
