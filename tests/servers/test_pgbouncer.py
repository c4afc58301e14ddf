"""PgBouncer shares server sessions as its mode says, and never outlives its owner; knows no library under test."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import pq

from servers import Cluster, PgBouncer, guard, pgbouncer
from servers.pgbouncer import PoolMode
from servers.server import Server, ServerError

pytestmark = pytest.mark.skipif(not pgbouncer.available(), reason="PgBouncer is not on this machine")


@contextlib.contextmanager
def client(pooler: PgBouncer | Server, **extra: object) -> Iterator[pq.abc.PGconn]:
    """Connect with libpq itself: drivers may have habits of their own, or be instrumented."""
    connection = pq.PGconn.connect(pooler.dsn(**extra).encode())
    try:
        assert connection.status == pq.ConnStatus.OK, connection.error_message
        yield connection
    finally:
        connection.finish()


@contextlib.contextmanager
def two_clients(pooler: PgBouncer) -> Iterator[tuple[pq.abc.PGconn, pq.abc.PGconn]]:
    """Connect twice."""
    with client(pooler) as one, client(pooler) as other:
        yield one, other


def ask(connection: pq.abc.PGconn, text: str) -> str:
    """Run statements by the simple protocol and return the first value of the last one."""
    return value(connection.exec_(text.encode()))


def value(result: pq.abc.PGresult) -> str:
    """Return the first value of a result, nothing if it has none."""
    assert result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK), result.error_message
    return (result.get_value(0, 0) or b"").decode() if result.nfields else ""


@pytest.mark.parametrize("size", [1, 2])
def test_transaction_mode_shows_one_client_the_setting_of_another(cluster: Cluster, size: int) -> None:
    """Between transactions a session is anybody's: the next client gets it as the last one left it."""
    with PgBouncer(cluster.primary, "transaction", size) as pooler, two_clients(pooler) as (one, other):
        ask(one, "SET work_mem TO '9MB'; SET app.tenant TO 'first'")
        assert ask(other, "SHOW work_mem") == "9MB"
        assert ask(other, "SHOW app.tenant") == "first"


def test_transaction_mode_gives_a_client_another_session(cluster: Cluster) -> None:
    """A client loses its setting to whoever gets its session first."""
    with PgBouncer(cluster.primary, "transaction", 2) as pooler, two_clients(pooler) as (one, other):
        ask(one, "SET work_mem TO '9MB'")
        mine = ask(one, "SELECT pg_backend_pid()")
        assert ask(other, "BEGIN; SELECT pg_backend_pid()") == mine
        assert ask(one, "SELECT pg_backend_pid()") != mine
        assert ask(one, "SHOW work_mem") == "4MB"


def test_transaction_mode_carries_what_every_server_reports(cluster: Cluster) -> None:
    """A time zone goes with its client, for PgBouncer follows the reports of the settings that it knows."""
    with PgBouncer(cluster.primary, "transaction", 1) as pooler, two_clients(pooler) as (one, other):
        ask(one, "SET TimeZone TO 'Asia/Tokyo'")
        assert ask(other, "SHOW TimeZone") == "UTC"
        assert ask(one, "SHOW TimeZone") == "Asia/Tokyo"


def test_session_mode_keeps_the_setting_with_its_client(cluster: Cluster) -> None:
    """A client has its session until it goes; the next one gets it clean."""
    with PgBouncer(cluster.primary, "session", 2) as pooler:
        with two_clients(pooler) as (one, other):
            ask(one, "SET work_mem TO '9MB'")
            session = ask(one, "SELECT pg_backend_pid()")
            assert ask(other, "SHOW work_mem") == "4MB"
            assert ask(one, "SHOW work_mem") == "9MB"
        with two_clients(pooler) as clients:
            found = {ask(each, "SELECT pg_backend_pid()"): ask(each, "SHOW work_mem") for each in clients}
        assert found[session] == "4MB"


def test_session_mode_without_its_reset_leaks(cluster: Cluster) -> None:
    """What cleans a session between clients is a setting, which can be taken away."""
    with PgBouncer(cluster.primary, "session", 1, server_reset_query="") as pooler:
        with client(pooler) as one:
            ask(one, "SET work_mem TO '9MB'")
        with client(pooler) as other:
            assert ask(other, "SHOW work_mem") == "9MB"


@pytest.mark.parametrize("mode", ["transaction", "session", "statement"])
def test_the_process_that_is_told_is_not_the_servers(cluster: Cluster, mode: PoolMode) -> None:
    """The client gets a made-up process number in every mode, and asks a server that listens elsewhere."""
    with PgBouncer(cluster.primary, mode) as pooler, client(pooler) as one:
        assert str(one.backend_pid) != ask(one, "SELECT pg_backend_pid()")
        assert ask(one, "SELECT inet_server_port()") == str(cluster.primary.port) != str(pooler.port)
    with client(cluster.primary) as direct:
        assert str(direct.backend_pid) == ask(direct, "SELECT pg_backend_pid()")


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_both_protocols_pass(cluster: Cluster, mode: PoolMode) -> None:
    """Several statements in one text, and parameters, work as with the server itself."""
    with PgBouncer(cluster.primary, mode) as pooler, client(pooler) as one:
        assert ask(one, "SELECT 'a'; SELECT 'b'") == "b"
        assert value(one.exec_params(b"SELECT $1::int + 1", [b"41"])) == "42"


def test_the_console_tells_of_the_pool(cluster: Cluster) -> None:
    """The application's role may look at PgBouncer's own tables."""
    with PgBouncer(cluster.primary) as pooler, client(pooler, dbname="pgbouncer") as console:
        assert console.exec_(b"SHOW POOLS").fname(0) == b"database"


def test_nothing_is_left(cluster: Cluster) -> None:
    """A pooler that was closed has neither a process nor files, and closing it again does no harm."""
    with PgBouncer(cluster.primary) as pooler:
        folder = pooler._files
        assert pooler.alive and folder.exists()
    pooler.close()
    assert not pooler.alive and not pooler.answers() and not folder.exists() and not guard.marked(folder.name)


OWNER = """
import sys, time
from servers import PgBouncer
from servers.proxy import Proxy
pooler = PgBouncer(Proxy("127.0.0.1", 1))
pooler.start()
print(pooler._files, flush=True)
time.sleep(60)
"""


def test_nothing_is_left_of_a_killed_owner() -> None:
    """A pooler goes with its owner, however that one ends."""
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        folder = Path(owner.stdout.readline().strip())
        assert folder.exists() and guard.marked(folder.name)
        os.kill(owner.pid, signal.SIGKILL)
    assert guard.wait_until(lambda: not folder.exists() and not guard.marked(folder.name), 5)


def test_a_taken_port_is_left_to_its_owner(cluster: Cluster) -> None:
    """A port that was taken at the last moment is exchanged for a free one."""
    pooler = PgBouncer(cluster.primary)
    pooler.port = cluster.primary.port
    with pooler, client(pooler) as one:
        assert ask(one, "SELECT 1") == "1"


def test_a_bad_setting_is_told() -> None:
    """What PgBouncer says of its configuration is in the error."""
    with pytest.raises(ServerError, match="nonsense"), PgBouncer(Server(Path("/nowhere"), "none"), nonsense=1):
        pass


def test_a_missing_program_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks PgBouncer learns what to install."""
    monkeypatch.setattr(pgbouncer, "path", lambda: None)
    assert not pgbouncer.available()
    with pytest.raises(ServerError, match=r"not on this machine.*Install"):
        PgBouncer(Server(Path("/nowhere"), "none")).start()
