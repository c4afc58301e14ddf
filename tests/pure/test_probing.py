"""The thread that probes servers, in a process that forks."""

import subprocess
import sys

FORKS_WHILE_LOCKED = """
import os, sys, threading
from instrumented_wrapper.drivers.engine import probing

held, ends = threading.Event(), threading.Event()

def hold(condition):
    with condition:
        held.set()
        ends.wait()

threading.Thread(target=hold, args=[probing._prober._changed], daemon=True).start()
held.wait()
if child := os.fork():
    ends.set()
    sys.exit(os.waitpid(child, 0)[1])
"""


def test_a_forked_child_ends_whatever_the_parents_thread_holds() -> None:
    assert subprocess.run([sys.executable, "-c", FORKS_WHILE_LOCKED], timeout=60, check=False).returncode == 0
