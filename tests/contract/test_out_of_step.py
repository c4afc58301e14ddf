"""A statement of the app is interrupted before its answer is read; some drivers then read wrong answers, for ever.

The wrapper sends nothing of its own there, and what the app does afterwards has the results of the bare driver.
"""

import re
import select
import signal
from typing import Any

import pytest

from servers import guard

from .driver import DriverUnderTest
from .elsewhere import module_of, started
from .endpoint import Endpoint
from .rows import PATIENCE

IS_ABOUT_SERVERS = True
OURS = re.compile(rb"@@|pg_catalog|pg_settings|current_setting|SELECT 1\\b")  # what the wrapper sends, to any server
IN_STEP = ["[]", "[('second',)]", "[]", "[('third',)]"]
AT_MOST = 0.5  # seconds; a driver in C notices Ctrl-C once the answer is there

PROGRAM = """
import json, sys
from importlib import import_module
from contract import loop
loop.use_main_thread()
mode, module, dsn, statements = json.loads(sys.argv[1])
if mode != "bare":
    import instrumented_wrapper
    instrumented_wrapper.instrument(failover=mode)
driver = import_module(module).DRIVER
connection = driver.connect(dsn, autocommit=True)
cursor = driver.cursor(connection)
driver.execute_on(cursor, "SELECT 'first'")
print("ready")
sys.stdin.readline()
try:
    print(driver.execute_on(cursor, "SELECT 'interrupted'"))
except BaseException as error:
    print(type(error).__name__)
print("over")
for statement in statements:
    sys.stdin.readline()
    try:
        print([*map(tuple, driver.execute_on(cursor, statement))])
    except driver.closed_error as error:
        print("closed")
    except Exception as error:
        print(type(error).__name__)
"""


def outcome(driver: DriverUnderTest, site: Any, place: Endpoint, mode: str) -> tuple[list[str], bytes]:
    """Interrupt a statement; return what the app got for it and for those that follow, and what was sent."""
    statements = [site.setting, "SELECT 'second'", site.setting, "SELECT 'third'"]
    with started(PROGRAM, mode, module_of(driver), site.dsn(place), statements) as program:
        assert program.hear() == "ready"
        place.hits, place.holds_at = 0, b"interrupted"
        program.tell("go")
        assert guard.wait_until(lambda: place.hits, PATIENCE)
        program.process.send_signal(signal.SIGINT)
        select.select([program.process.stdout], [], [], AT_MOST)
        place.holds_at = b""
        place.release()
        heard = [program.hear()]
        assert program.hear() == "over"
        place.clear()
        for _ in statements:
            program.tell("go on")
            heard.append(program.hear())
        sent = place.seen("client")
        program.tell("end")
        assert program.end()[0] == 0
    return heard, sent


@pytest.mark.parametrize("mode", ["off", "on"])
def test_the_wrapper_sends_nothing_out_of_step(driver, site, endpoint, mode: str) -> None:
    bare, _ = outcome(driver, site, endpoint(), "bare")
    if "closed" in bare:
        pytest.skip("the driver closes its connection")
    ours, sent = outcome(driver, site, endpoint(), mode)
    assert ours == bare
    if bare[1:] != IN_STEP:
        assert not OURS.search(sent)
