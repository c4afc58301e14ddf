"""Host names whose addresses move: a table of names of this process's own, over the machine's.

The process leaves the machine's mount namespace, and binds a file of its own to /etc/hosts there. Only root on Linux
can do that. The C library reads the file at each look-up, so every driver sees a name move.
"""

import ctypes
import functools
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from servers import guard
from servers.server import ServerError

MISSING: Final = "names of hosts can only be moved by root on Linux, in a mount namespace of its own"
_TABLE: Final = Path("/etc/hosts")
_CLONE_NEWNS: Final = 0x00020000


@functools.cache
def isolate() -> bool:
    """Leave the machine's mount namespace; return False where that is not allowed.

    It concerns the calling thread and those that it starts from now on.
    """
    if sys.platform != "linux" or os.geteuid():
        return False
    return not ctypes.CDLL(None).unshare(_CLONE_NEWNS) and not _mount("--make-rprivate", "/")


def _mount(*arguments: str) -> int:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode


class Names:
    """Names of hosts, each of which has one address at a time."""

    def __enter__(self) -> Self:
        """Put a table of its own over the machine's.

        Raises:
            ServerError: the process is not allowed to, or `isolate` was not called before.
        """
        self._folder, self._addresses = guard.Folder("names-"), dict[str, str]()
        self._file = self._folder.path / "hosts"
        self._file.write_bytes(_TABLE.read_bytes())
        self._folder.path.chmod(0o755)
        if not isolate() or _mount("--bind", str(self._file), str(_TABLE)):
            self._folder.close()
            raise ServerError(MISSING)
        self._machine = self._file.read_text()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give the machine's table back."""
        subprocess.run(["umount", str(_TABLE)], check=True)
        self._folder.close()

    def point(self, name: str, address: str) -> None:
        """Have a name lead to an address."""
        self._addresses[name] = address
        lines = (f"{address} {name}\n" for name, address in self._addresses.items())
        # The file stays the same one, and of one size where addresses are: nobody reads half a table.
        with self._file.open("r+b") as table:
            table.write("".join((self._machine.rstrip("\n") + "\n", *lines)).encode())
            table.truncate()
