"""A driver and a pool that are registered in one place work everywhere: options, patching, spans, session, resets.

Each program registers the toy driver in a process of its own.
"""

from __future__ import annotations

import pytest

from ..script import complete

PROGRAM = """
import logging, sys, types, warnings
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import instrumented_wrapper as iw
from instrumented_wrapper.supported import DriverEntry, PoolEntry, register

warnings.simplefilter("ignore", ResourceWarning)  # of SQLite's connections, which the toy's have and do not close
NAME, TRACER = "tests.toy.toydb", ("tests_toy_tracing", "ToyInstrumentor")
logging.basicConfig(stream=sys.stdout, format="%(message)s")
spans, tracers = InMemorySpanExporter(), TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(spans))
register(
    DriverEntry(NAME, "tests.toy.driver_room", "ToyDB", (2, 0), has_server=False, instrumentor=TRACER),
    PoolEntry("tests.toy.toypool", "tests.toy.pool_room"),
)

def names():
    finished = [span.name for span in spans.get_finished_spans()]
    spans.clear()
    return finished

def ask(connection, text):
    return connection.session.execute(text).fetchone()[0]
"""


def test_options_know_it() -> None:
    said = complete(
        PROGRAM
        + """
from instrumented_wrapper.options import Options
assert Options().drivers[-1] == NAME
try:
    iw.instrument("toydb")
except iw.ConfigurationError as error:
    print(error)
        """
    )
    assert said.endswith("MySQLdb, aiomysql, asyncmy, sqlite3, tests.toy.toydb")


def test_it_is_patched_and_looked_after() -> None:
    said = complete(
        PROGRAM
        + """
import os
os.environ["INSTRUMENTED_WRAPPER_DRIVERS"] = NAME  # not sqlite3, which it is made of
iw.instrument(tracer_provider=tracers)
from tests.toy import toydb
connection = toydb.connect(":memory:", instrumented_wrapper={"transaction_spans": "on"})
connection.timeout = 9
cursor = connection.cursor()
cursor.execute("PRAGMA foreign_keys = 1")
cursor.execute("CREATE TABLE songs (title)")
cursor.execute("INSERT INTO songs VALUES (?)", ("Ode",))
connection.commit()
print(iw.session_state(connection))
print(names())
connection.close()
print(connection.timeout, ask(connection, "PRAGMA foreign_keys"), names())

other = toydb.connect(":memory:")
other.timeout = 7
print(iw.reset_session(other), other.timeout)
iw.uninstrument()
assert not iw.session_state(other)
other.cursor().execute("SELECT 1")
try:
    iw.session_state(object())
except TypeError as error:
    print(error)
        """
    )
    state, statements, closed, reset, wrong = said.splitlines()
    assert state == "foreign_keys: 0 -> 1, timeout: 5 -> 9" or state == "timeout: 5 -> 9, foreign_keys: 0 -> 1"
    assert statements.endswith("'CREATE TABLE songs', 'INSERT songs', 'COMMIT']")
    assert statements.count("session_state.pristine_fetch") == 2
    assert closed == "5 0 ['session_state.reset']"
    assert reset == "True 5"
    assert "tests.toy.toydb" in wrong


def test_its_pool_is_looked_after() -> None:
    said = complete(
        PROGRAM
        + """
iw.instrument([NAME], tracer_provider=tracers)
from tests.toy import toydb, toypool
pool = toypool.Pool(lambda: toydb.connect(":memory:"))
connection = pool.take()
connection.timeout = 9
connection.cursor().execute("PRAGMA foreign_keys = 1")
names()
pool.give_back(connection)
assert pool.take() is connection
print(connection.timeout, ask(connection, "PRAGMA foreign_keys"), names())
        """
    )
    assert said == "5 0 ['session_state.reset']"


def test_an_old_version_is_left_alone() -> None:
    said = complete(
        PROGRAM
        + """
from tests.toy import toydb
before = dict(vars(toydb.Connection))
toydb.__version__ = "1.9.3"
iw.instrument([NAME])
assert dict(vars(toydb.Connection)) == before
        """
    )
    assert said == "ToyDB 1.9.3 is not supported, 2.0 or newer is: it is left alone"


@pytest.mark.parametrize("active", [True, False])
def test_another_instrumentation_of_it_makes_the_spans(active: bool) -> None:
    said = complete(
        PROGRAM
        + f"""
module = sys.modules[TRACER[0]] = types.ModuleType(TRACER[0])
module.ToyInstrumentor = type("ToyInstrumentor", (), {{"is_instrumented_by_opentelemetry": {active}}})
iw.instrument([NAME], tracer_provider=tracers)
from tests.toy import toydb
toydb.connect(":memory:").cursor().execute("SELECT 1")
print(names())
        """
    )
    assert said == ("[]" if active else "['SELECT']")
