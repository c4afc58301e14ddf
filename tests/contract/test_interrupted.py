"""Ctrl-C in a switch or a close, in a process of its own: it passes at once, and the connection is closed for good."""

import select
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from servers import guard

from .driver import DriverUnderTest
from .elsewhere import module_of, started
from .endpoint import Endpoint
from .rows import PATIENCE

IS_ABOUT_SERVERS = True

BEGINNING = """
import json, signal, sys
from importlib import import_module
from contract import loop
loop.use_main_thread()
import instrumented_wrapper
instrumented_wrapper.instrument()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
module, dsn, statement = json.loads(sys.argv[1])
driver = import_module(module).DRIVER

def connect(autocommit):
    options = {"failover": "on", "failover_timeout": 60}
    return driver.connect(dsn, autocommit=autocommit, instrumented_wrapper=options)
"""
PROGRAM = f"""{BEGINNING}
for where in sys.stdin:
    where = where.strip()
    connection = connect(where != "in a transaction")
    cursor = driver.cursor(connection)
    driver.execute(connection, statement)
    print("ready")
    sys.stdin.readline()
    try:
        driver.close(connection) if where == "in a close" else driver.execute(connection, "SELECT 'reached'")
    except BaseException as error:
        print(type(error).__name__, driver.is_closed(connection))
    for use in (driver.execute, connection), (driver.execute_on, cursor):
        try:
            use[0](use[1], "SELECT 'reached'")
        except driver.closed_error:
            print("refused")
"""
MOMENTS = {
    "in a search": signal.SIGINT,
    "in a transaction": signal.SIGINT,
    "in a search, by a signal handler that raises": signal.SIGTERM,
    "in a transfer": signal.SIGINT,
    "in a close": signal.SIGINT,
}


def moments(driver: DriverUnderTest) -> list[str]:
    found = list(MOMENTS)
    if driver.is_async:  # such a handler stops a loop wherever it is
        found = [moment for moment in found if MOMENTS[moment] is signal.SIGINT]
    return found


def begin(place: Endpoint, site: Any, moment: str) -> Callable[[], bool]:
    """Let nobody answer any more at the place; return what tells that the wrapper waits for an answer."""
    place.clear()
    answers_until = {"in a transfer": site.setting_sent, "in a close": site.setting_reset}
    place.hits, place.holds_at = 0, answers_until.get(moment, b"")
    if not place.holds_at:
        place.hold()
    if moment != "in a close":
        place.cut()
    return lambda: bool(place.hits if place.holds_at else place.connections)


def test_it_passes_at_once_and_leaves_no_session(driver: DriverUnderTest, site, endpoint) -> None:
    place = endpoint()
    with started(PROGRAM, module_of(driver), site.dsn(place), site.setting) as program:
        for moment in moments(driver):
            program.tell(moment)
            assert program.hear() == "ready"
            reached = begin(place, site, moment)
            program.tell("go")
            assert guard.wait_until(reached, PATIENCE)
            before = place.connections
            program.process.send_signal(MOMENTS[moment])
            error = "KeyboardInterrupt" if MOMENTS[moment] is signal.SIGINT else "SystemExit"
            assert program.hear() == f"{error} True"  # while nobody answers
            if moment == "in a close":
                assert place.connections == before  # nobody is asked to cancel
            place.holds_at = b""
            place.release()
            assert [program.hear(), program.hear()] == ["refused", "refused"]
            assert b"reached" not in place.seen("client")
            assert site.none_left()
        code, complaints = program.end()
        assert code == 0
        assert "Warning" not in complaints and "Traceback" not in complaints


END_OF_PREPARED = f"""{BEGINNING}
connection = connect(False)
driver.prepare(connection, statement)
print("ready")
sys.stdin.readline()
try:
    driver.execute(connection, f"XA ROLLBACK '{{statement}}'")
except BaseException as error:
    print(type(error).__name__)
sys.stdin.readline()
print(*driver.execute(connection, "SELECT @@autocommit, 'the answer'"))
driver.close(connection)
"""


@pytest.mark.databases("mariadb")
def test_after_the_end_of_a_prepared_transaction_autocommit_is_as_it_was(
    driver: DriverUnderTest, site, endpoint
) -> None:
    """MariaDB ends another session's transaction in autocommit only: the wrapper switches it on for that."""
    driver.needs("waits that a signal ends")
    if driver.is_async:
        pytest.skip("a task that is cancelled in a statement closes the connection")
    place = endpoint()
    with started(END_OF_PREPARED, module_of(driver), site.dsn(place), site.name) as program:
        assert program.hear() == "ready"
        site.end_sessions()
        place.then_holds_at = b"SET autocommit=1", b"XA ROLLBACK"
        program.tell("go")
        assert guard.wait_until(lambda: place.hits, PATIENCE)
        program.process.send_signal(signal.SIGINT)
        assert select.select([program.process.stdout], [], [], PATIENCE)[0]  # while nobody answers
        assert program.hear() == "KeyboardInterrupt"
        place.release()
        program.tell("go on")
        assert program.hear() == "(0, 'the answer')"
        assert program.end() == (0, "")


@pytest.mark.databases("mariadb", "mysql")
def test_an_interrupted_question_of_the_wrapper_is_no_answer_to_the_app(driver, connect, site, endpoint) -> None:
    """The app changes a setting for the first time; Ctrl-C comes while the server is asked for its pristine value."""
    if driver.is_async or driver.name == "MySQLdb":
        pytest.skip("Ctrl-C stops the event loop; mysqlclient waits on, whatever comes")
    place, raised = endpoint(), threading.Event()
    connection = connect(site.dsn(place), autocommit=True, instrumented_wrapper={"failover": "on"})
    driver.execute(connection, "SELECT 'first'")

    def interrupt() -> None:
        assert guard.wait_until(lambda: place.hits, PATIENCE)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        raised.wait(0.5)  # a driver in C hears it once the answer is there
        place.holds_at = b""
        place.release()

    place.holds_at = b"time_zone"
    thread = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt):
        thread.start()
        driver.execute(connection, site.setting)
    raised.set()
    thread.join()
    assert [*map(tuple, driver.execute(connection, "SELECT 'second'"))] == [("second",)]
