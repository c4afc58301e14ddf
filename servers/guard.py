"""A temporary folder that goes, with every server running in it, when the process that made it goes.

A small guard process waits on a pipe. Its other end is closed by the kernel however the owner ends (return, Ctrl-C,
SIGTERM, SIGKILL), on Linux and macOS alike, and the guard then stops what runs in the folder and removes the folder.
PR_SET_PDEATHSIG would do less: it fires when the *thread* that started the server ends, it leaves the children of a
frozen server behind, and it exists on Linux only.

This file is also the script of the guard process, so it needs nothing but the standard library. It knows how
the programs that are run name their processes and what is left behind after SIGKILL; it does not know clusters or
their roles.
"""

import atexit
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

# The last one is the loader that runs a program with libraries which come with it.
TOOLS = ("postgres", "initdb", "pg_", "pgbouncer", "mariadb", "mysqld", "patroni", "etcd", "haproxy", "ld-linux")
POLL = 0.01


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Let signals wait, where this is the only thread. The guard inherits this: it ends when its pipe does."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Folder:
    """A temporary folder with a guard."""

    def __init__(self, prefix: str) -> None:
        """Create the folder and start its guard."""
        self._owner = os.getpid()
        quiet = subprocess.DEVNULL
        command = [sys.executable, "-I", "-S", __file__]
        with _signals_held():  # between the folder and its guard, nobody would remove it
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=_parent()))
            self._guard = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True, cwd="/"
            )
            self._tell(f"{self.path}\n")
            atexit.register(self.close)

    def close(self) -> None:
        """Stop everything in the folder and remove it; once, and never from a forked child."""
        if os.getpid() != self._owner or self._guard.returncode is not None:
            return
        atexit.unregister(self.close)
        self._tell("end\n")
        if self._guard.wait():
            clean(self.path)
        with contextlib.suppress(BrokenPipeError):  # as above
            cast(IO[bytes], self._guard.stdin).close()

    def _tell(self, line: str) -> None:
        pipe = cast(IO[bytes], self._guard.stdin)
        # A guard that was killed can't be told; close() sees its exit code and cleans up itself.
        with contextlib.suppress(BrokenPipeError):
            pipe.write(line.encode())
            pipe.flush()


def _parent() -> str:
    """Return a folder for temporary files that another user can reach too; short, for it becomes part of names."""
    shared = [path for path in (tempfile.gettempdir(), "/tmp", "/var/tmp") if _reachable(Path(path))]
    return shared[0] if shared else tempfile.gettempdir()


def _reachable(folder: Path) -> bool:
    return all(path.is_dir() and path.stat().st_mode & 0o001 for path in (folder, *folder.parents))


def marked(marker: str) -> list[int]:
    """Return the processes of ours whose command line (or title) contains the marker; no zombies."""
    return [pid for pid, line in _processes() if marker in line and _is_tool(line)]


def _is_tool(line: str) -> bool:
    first, second, *_ = (word.rpartition("/")[2] for word in (*line.split(maxsplit=2), "", ""))
    return (second if first.startswith("python") else first).startswith(TOOLS)


def _processes() -> Iterator[tuple[int, str]]:
    if not Path("/proc/self/cmdline").exists():
        yield from _processes_of_ps()
        return
    for entry in os.scandir("/proc"):
        # A process may end while it is looked at; hidepid mounts refuse those of others.
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(entry.name), Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode("latin-1")


def _processes_of_ps() -> Iterator[tuple[int, str]]:
    answer = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,command="], capture_output=True, text=True, check=True)
    for line in answer.stdout.splitlines():
        pid, _, command = line.strip().partition(" ")
        yield int(pid), command


def send(number: int, *pids: int) -> None:
    """Send a signal to processes, of which some may be gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def wait_until(condition: Callable[[], object], seconds: float) -> bool:
    """Wait until the condition holds; return False when it doesn't in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(POLL)
    return True


def kill(marker: str, seconds: float = 10) -> bool:
    """SIGKILL all marked processes until none is left, and their sockets are closed."""
    killed: set[int] = set()

    def gone() -> bool:
        killed.update(pids := _killed(marker))
        return not pids and not any(map(_is_ending, killed))

    return wait_until(gone, seconds)


def _is_ending(pid: int) -> bool:
    """Return True if a process that has no command line any more may still have files and sockets open."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # it is gone, or this system has no such files
        return False
    return state not in "ZX"


def _killed(marker: str) -> list[int]:
    for pid in (pids := marked(marker)):
        kill_group(pid)
    return pids


def kill_group(pid: int) -> None:
    """SIGKILL a process, and its group where it leads one: initdb's children do not carry the marker."""
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)


def clean(folder: Path) -> None:
    """Stop all servers in the folder and remove it."""
    pids = marked(folder.name)
    send(signal.SIGCONT, *pids)
    # "Immediate" shutdown first: a server that is killed leaves shared memory behind.
    send(signal.SIGQUIT, *_postmasters(folder))
    wait_until(lambda: not marked(folder.name), 2)
    kill(folder.name)
    for data in folder.glob("*/postmaster.pid"):
        forget(data.parent)
    wait_until(lambda: _removed(folder), 2)


def _removed(folder: Path) -> bool:
    """Remove the folder; a process that is just dying may still write to it, then it is not empty yet."""
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)
    return not folder.exists()


def _postmasters(folder: Path) -> list[int]:
    """Return the servers' first processes: the ones with the folder's full path in their command line."""
    return marked(f"{folder}/")


def forget(data: Path) -> None:
    """Remove a killed server's shared memory segment, which its next start would have removed."""
    with contextlib.suppress(FileNotFoundError):  # a clean stop leaves no such file
        lines = (data / "postmaster.pid").read_text().splitlines()
        if len(lines) > 6 and lines[6].split():
            ipc_rmid = 0
            ctypes.CDLL(None).shmctl(int(lines[6].split()[-1]), ipc_rmid, None)


def main() -> None:
    """Wait for the owner's word or end, then clean the folder it named."""
    folder = sys.stdin.readline().strip()
    sys.stdin.readline()
    if folder:
        clean(Path(folder))


if __name__ == "__main__":
    main()
