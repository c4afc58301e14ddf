"""Drop all packets from and to a port of this host: a client that is connected gets nothing any more, not even a FIN.

It takes iptables and the rights to use it.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

__all__ = ["POSSIBLE", "black_hole"]


def _is_possible() -> bool:
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("iptables") is None:
        return False
    return subprocess.run(["iptables", "-w", "-n", "-L", "INPUT"], check=False, capture_output=True).returncode == 0


POSSIBLE = _is_possible()


@contextlib.contextmanager
def black_hole(port: int) -> Iterator[None]:
    """Make the port vanish from the network inside this context."""
    with contextlib.ExitStack() as stack:
        for side in ("--dport", "--sport"):
            _rule("-I", side, port)
            stack.callback(_rule, "-D", side, port)
        yield


def _rule(action: str, side: str, port: int) -> None:
    rule = [action, "INPUT", "-p", "tcp", side, str(port), "-j", "DROP"]
    subprocess.run(["iptables", "-w", *rule], check=True, capture_output=True)
