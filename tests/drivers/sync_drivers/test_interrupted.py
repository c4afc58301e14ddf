"""Ctrl-C in a switch: it passes at once, the connection is closed for good, and no session is left."""

from __future__ import annotations

import select
import signal

import pytest

from servers import guard

from ..script import Program
from .conftest import Holding
from .sides import MANY, Side

APP = """
    import contextlib, sys
    with contextlib.suppress(ImportError):  # before anything loads the system's OpenSSL
        import _mysql_connector
    from tests.drivers.sync_drivers.sides import Side
    import instrumented_wrapper
    instrumented_wrapper.instrument()
    kind, port, where = sys.argv[1:]
    side = Side(kind)
    Here = type("Here", (), {"host": "127.0.0.1", "port": int(port)})
    connection = side.connect(Here, autocommit=where != "transaction")
    cursor = connection.cursor()
    side.run(connection, side.moved_by if where == "transfer" else "SELECT 1")
    print("ready")
    sys.stdin.readline()
    try:
        side.run(connection, "SELECT 'reached'")
    except BaseException as error:
        print(type(error).__name__)
    for use in (lambda: side.run(connection, "SELECT 'reached'"), lambda: cursor.execute("SELECT 'reached'")):
        try:
            use()
        except side.driver.Error:
            print("refused")
    connection.close()
"""


@pytest.mark.parametrize("where", ["idle", "transaction", "transfer"])
def test_from_the_keyboard(side: Side, cluster, proxy: Holding, where: str) -> None:
    if where == "transfer" and side.kind.endswith("in C"):
        pytest.skip("its C code waits for the server; then the limit of the switch holds")
    with Program(APP, side.kind, str(proxy.port), where) as program:
        assert program.hear() == "ready"
        before = proxy.connections
        if where == "transfer":
            proxy.hold_at = side.carried
        else:
            proxy.hold()
        proxy.cut()
        program.tell("go")
        assert guard.wait_until(lambda: proxy.holds or (where != "transfer" and proxy.connections > before), MANY)
        program.process.send_signal(signal.SIGINT)
        assert program.hear() == "KeyboardInterrupt"  # while nobody answers
        proxy.release()
        assert [program.hear(), program.hear()] == ["refused", "refused"]
        assert program.end() == (0, "")
    assert b"reached" not in proxy.seen("client")
    assert side.none_left(cluster.primary)


PREPARED = """
    import contextlib, sys
    with contextlib.suppress(ImportError):  # before anything loads the system's OpenSSL
        import _mysql_connector
    from tests.drivers.sync_drivers.sides import Side
    import instrumented_wrapper
    instrumented_wrapper.instrument()
    kind, port = sys.argv[1:]
    side = Side(kind)
    Here = type("Here", (), {"host": "127.0.0.1", "port": int(port)})
    connection = side.connect(Here, autocommit=False)
    name = side.run(connection, "SELECT CONCAT('prepared_', CONNECTION_ID())")[0][0]
    connection.rollback()
    for verb in ("START", "END", "PREPARE"):
        side.run(connection, f"XA {verb} '{name}'")
    print("ready")
    sys.stdin.readline()
    try:
        side.run(connection, f"XA ROLLBACK '{name}'")
    except BaseException as error:
        print(type(error).__name__)
    sys.stdin.readline()
    print(side.run(connection, "SELECT @@autocommit, 'the answer'"))
    connection.close()
"""


def test_from_the_keyboard_in_the_end_of_a_prepared_transaction(side: Side, cluster, proxy: Holding) -> None:
    """It is ended in autocommit on the new session: the connection is left as the app had it."""
    if side.servers != "running_mariadb" or side.kind in ("MySQLdb", "mysql.connector in C"):
        pytest.skip("the server needs no autocommit for it, or the driver's C code waits for the server")
    with Program(PREPARED, side.kind, str(proxy.port)) as program:
        assert program.hear() == "ready"
        side.end_sessions(cluster.primary)
        proxy.hold_after = b"SET autocommit=1", b"XA ROLLBACK"
        program.tell("go")
        assert guard.wait_until(lambda: proxy.holds, MANY)
        program.process.send_signal(signal.SIGINT)
        assert select.select([program.process.stdout], [], [], MANY)[0]  # while nobody answers
        assert program.hear() == "KeyboardInterrupt"
        proxy.release()
        program.tell("go on")
        assert program.hear() == "[(0, 'the answer')]"
        assert program.end() == (0, "")
