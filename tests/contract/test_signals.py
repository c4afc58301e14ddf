"""A signal handler that raises wherever Python may run it in the wrapper: no thread waits, and nothing is untracked.

CPython runs signal handlers after a call, at the beginning of a function and at the end of a turn of a loop. Each such
place in the wrapper's own frames is tried, one after the other.
"""

import dis
import opcode
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

import instrumented_wrapper
from instrumented_wrapper import session_state

from .driver import DriverUnderTest
from .rows import PATIENCE

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="its tracer follows the instructions of Python 3.11; the rule is the same later"
)
OURS = os.path.dirname(instrumented_wrapper.__file__)
PLACES = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "RESUME", "JUMP_BACKWARD"}


class Interrupted(BaseException):
    """What the app's signal handler raises."""


class Interruption:
    """A handler that raises at the place with a number, in these files, and where that is."""

    def __init__(self, number: int, *files: str) -> None:
        self.left, self.place, self._files = number, "", files
        self._last: dict[FrameType, int] = {}

    def run(self, call: Callable[[], object]) -> None:
        """Call it, whatever it raises."""
        before = sys.gettrace()
        sys.settrace(self._begin)
        try:
            with suppress(BaseException):  # a driver may make of it what it wants
                call()
        finally:
            sys.settrace(before)

    def _begin(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(OURS) or not frame.f_code.co_filename.endswith(self._files or ""):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._step

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode" and not self.place:
            before, self._last[frame] = self._last.get(frame), frame.f_lasti
            if before is not None and is_place(frame, before):
                self.left -= 1
            if self.left < 0:
                self.place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                self._last.clear()
                raise Interrupted
        return self._step


def is_place(frame: FrameType, before: int) -> bool:
    """Tell whether a handler may run after the instruction before, and raises into the same blocks as there."""
    code = frame.f_code
    if opcode.opname[code.co_code[before]] not in PLACES:
        return False
    blocks = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    inside = [[block.start <= offset < block.end for block in blocks] for offset in (before, frame.f_lasti)]
    return inside[0] == inside[1]


def ends_within(seconds: float, call: Callable[[], object]) -> bool:
    """Tell whether a call in another thread ends, however it does."""

    def run() -> None:
        with suppress(Exception):  # of a connection that is closed, or has rows that are not read
            call()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def only_sync(driver: DriverUnderTest) -> None:
    if driver.is_async:
        pytest.skip("a handler that raises ends the event loop")


def interruptions(run: Callable[[Interruption], None], *files: str) -> int:
    """Interrupt at one place after the other; return how many there are."""
    number = 0
    while True:
        one = Interruption(number, *files)
        run(one)
        if not one.place:
            return number
        number += 1


@pytest.mark.parametrize("commits", [False, True], ids=["a statement", "a transaction"])
def test_other_threads_go_on(driver: DriverUnderTest, site, connect, commits: bool) -> None:
    only_sync(driver)
    dsn, connections = site.dsn(), list[Any]()

    def work(connection: Any) -> None:
        driver.execute(connection, "SELECT 1")
        if commits:
            driver.commit(connection)

    def at(one: Interruption) -> None:
        if not connections:
            connections.append(connect(dsn, autocommit=not commits, instrumented_wrapper={"failover": "on"}))
            work(connections[0])
        one.run(lambda: work(connections[0]))
        assert ends_within(PATIENCE, lambda: work(connections[0])), one.place
        if driver.is_closed(connections[0]):
            connections.clear()

    assert interruptions(at) > 10


@pytest.mark.databases("postgresql", "mariadb")
def test_what_was_set_is_tracked(driver: DriverUnderTest, site, connect) -> None:
    """Interrupted in the COMMIT of a transaction that has set a setting, the wrapper knows that it may be set."""
    only_sync(driver)
    connection = connect(site.dsn(), autocommit=True, instrumented_wrapper={"failover": "on"})

    def at(one: Interruption) -> None:
        driver.verb("reset_session")(connection)
        driver.execute(connection, "BEGIN")
        driver.execute(connection, site.sets_tenant)
        one.run(lambda: driver.execute(connection, "COMMIT"))
        driver.execute(connection, "COMMIT")
        [[there]] = driver.execute(connection, site.shows_tenant)
        tracked = [state for state in session_state(connection).values() if state.value == there]
        assert there != "acme" or tracked, one.place
        driver.execute(connection, "SELECT 1")

    assert interruptions(at, "session.py", "server_settings.py", "savepoints.py") > 10
