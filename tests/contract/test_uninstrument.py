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
