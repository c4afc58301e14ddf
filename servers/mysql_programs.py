"""Where MySQL's programs are: in a folder named by the environment, where `make mysql` puts them, or on the machine.

A MariaDB brings programs of the same names, which are not taken. It does not know what the programs are used for.
"""

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from servers import binaries
from servers.guard import Folder

VARIABLE: Final = "INSTRUMENTED_WRAPPER_MYSQL_BIN"
FETCHED: Final = Path(__file__).parents[1] / ".venv" / "mysql"  # by fetch_mysql.sh
OLDEST: Final = (8, 4)
_PLACES: Final = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/libexec:/opt/homebrew/bin:/usr/local/mysql/bin"


@functools.cache
def programs() -> tuple[str, str] | None:
    """Return the paths of `mysqld` and `mysql`, executable by the user that runs servers; None if there are none."""
    return next((found for found in map(_complete, _places()) if found), None)


def missing() -> str:
    """Say that there is no MySQL here, and how to get it."""
    oldest = ".".join(map(str, OLDEST))
    if named := os.environ.get(VARIABLE):
        return f"{VARIABLE} names {named}, which has no mysqld and mysql of MySQL {oldest} or newer that can be run"
    return (
        f"MySQL {oldest} or newer is not installed (a MariaDB does not count): `make mysql` fetches it on Debian, "
        f"or set {VARIABLE} to the folder that has its mysqld and mysql"
    )


def _places() -> Iterator[str]:
    if named := os.environ.get(VARIABLE):
        yield named  # who names a folder wants this one
        return
    yield str(FETCHED / "bin")
    yield os.pathsep.join((os.environ.get("PATH", ""), _PLACES))


def _complete(path: str) -> tuple[str, str] | None:
    server, client = _first(path, "mysqld"), _first(path, "mysql")
    return (server, client) if server and client else None


def _first(path: str, name: str) -> str | None:
    """Return the first of the folders' programs of this name that is MySQL's: a MariaDB may come before it."""
    found = (shutil.which(name, path=folder) for folder in path.split(os.pathsep) if folder)
    return next((program for each in found if each and (program := _runnable(each))), None)


def _runnable(program: str) -> str | None:
    try:
        words = _version(program)
    except PermissionError:  # below somebody's home
        program = str(_copied(FETCHED) / "bin" / Path(program).name) if FETCHED in Path(program).parents else program
        words = _version(program)
    return program if is_mysql(words) else None


def is_mysql(words: str) -> bool:
    """Return True if a program that prints this as its version belongs to a MySQL that is new enough."""
    number = re.search(r"Ver (\d+)\.(\d+)", words)
    return "MariaDB" not in words and number is not None and tuple(map(int, number.groups())) >= OLDEST


def _version(program: str) -> str:
    ended = subprocess.run(
        [program, "--no-defaults", "--version"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd="/",
        env=binaries.environment(),
        check=False,
        **binaries.identity(),
    )
    return "" if ended.returncode else ended.stdout


@functools.cache
def _copied(folder: Path) -> Path:
    """Copy what was fetched to where the user that runs servers can execute it."""
    copy = Folder("mysql-programs-").path
    copy.chmod(0o755)
    shutil.copytree(folder, copy / folder.name, symlinks=True)
    return copy / folder.name
