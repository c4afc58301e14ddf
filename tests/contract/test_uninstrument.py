"""Section 2: `uninstrument` puts back what was there; connections that are open go on working, unobserved."""

import pytest

from .driver import DriverUnderTest
from .elsewhere import module_of, run

PROGRAM = """
import json, sys
from importlib import import_module
from instrumented_wrapper import FailoverError, instrument, session_state, uninstrument
module, dsn, statement, question, moves = json.loads(sys.argv[1])
driver = import_module(module).DRIVER
instrument(failover=True)
connection = driver.connect(dsn, autocommit=True)
driver.set(connection, "read_only", True)
if moves:
    try:
        driver.execute(connection, statement)
    except FailoverError:
        pass
uninstrument()
((session,),) = driver.execute(connection, question)
driver.set(connection, "read_only", driver.default["read_only"])
known = len(session_state(connection))
try:
    driver.execute(connection, statement)
except driver.ended_error as error:
    ours = isinstance(error, FailoverError)
driver.close(connection)
print(json.dumps([session > 0, known, ours]))
"""


@pytest.mark.parametrize("moved", [False, True])
def test_a_connection_goes_on_unobserved(driver: DriverUnderTest, site, moved: bool) -> None:
    dsn = site.dsn(site.cluster.primary)
    assert run(PROGRAM, module_of(driver), dsn, site.suicide, site.session_id, moved) == [True, 0, False]
    assert site.none_left()


MADE_BEFORE = """
import json, logging, sys
from importlib import import_module
module, dsn, question = json.loads(sys.argv[1])
driver = import_module(module).DRIVER
connection = driver.connect(dsn)
from instrumented_wrapper import instrument
instrument()
lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append((record.levelname, record.getMessage()))
logging.getLogger("instrumented_wrapper").addHandler(handler)
logging.getLogger("instrumented_wrapper").setLevel(logging.DEBUG)
driver.set(connection, "read_only", True)
answers = [driver.verb(verb)(connection) for verb in ("reset_session", "mark_pristine")]
kept = driver.execute(connection, question)[0][0]
driver.close(connection)
print(json.dumps([answers, kept, lines]))
"""


def test_a_connection_that_was_made_before_is_left_alone(driver: DriverUnderTest, site) -> None:
    dsn = site.dsn(site.cluster.primary) if driver.has("server") else site.dsn()
    answers, kept, lines = run(MADE_BEFORE, module_of(driver), dsn, site.in_effect)
    assert (answers, kept) == ([True, None], site.changed_in_effect[0])
    line = f"made while nothing was instrumented, and left alone: a connection of {driver.name}"
    assert lines == [["DEBUG", line]] * 2
