"""The servers come up, break and recover as told, and never outlive their owner; knows no library under test."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from servers import Cluster, Server, binaries, guard

ROOT = Path(__file__).parents[2]


def marks(server: Server) -> set[str | None]:
    """Return what the tests wrote, as this server has it."""
    return {row[0] for row in server.sql("SELECT name FROM marks", "app")}


def mark(server: Server, name: str) -> None:
    """Write something that can be looked for."""
    server.sql(f"CREATE TABLE IF NOT EXISTS marks (name text); INSERT INTO marks VALUES ('{name}')", "app")


def healthy(cluster: Cluster) -> bool:
    """Tell whether a write to the primary arrives at the standby."""
    mark(cluster.primary, "healthy?")
    cluster.wait_streaming()
    roles = cluster.primary.in_recovery(), cluster.standby.in_recovery()
    return roles == (False, True) and marks(cluster.primary) == marks(cluster.standby)


def test_streams(cluster: Cluster) -> None:
    """A fresh cluster is a primary with a standby that has its rows."""
    assert healthy(cluster)
    assert cluster.primary.sql("SELECT 1; SELECT 'a', NULL") == [("a", None)]


def test_application_connects_with_a_password(cluster: Cluster) -> None:
    """The application finds the primary by the cluster's DSN, and only with its password."""
    with psycopg.connect(cluster.dsn(target_session_attrs="read-write")) as connection:
        assert connection.info.port == cluster.primary.port
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(cluster.primary.dsn(password="it's \\ wrong"))


def test_failover_and_rejoin(cluster: Cluster) -> None:
    """After SIGKILL the standby takes over under the same hosts; the old primary loses what only it had."""
    first, hosts = cluster.primary, cluster.hosts()
    mark(first, "common")
    cluster.wait_streaming()
    cluster.standby.freeze()
    mark(first, "lost")
    first.kill()
    cluster.standby.thaw()
    cluster.failover()
    assert cluster.standby is first and not first.alive and cluster.hosts() == hosts
    cluster.rejoin()
    assert healthy(cluster)
    assert "common" in marks(first)


def test_switchover(cluster: Cluster) -> None:
    """A planned change of roles loses nothing."""
    first = cluster.primary
    mark(first, "kept")
    cluster.switchover()
    assert cluster.standby is first and healthy(cluster) and "kept" in marks(cluster.primary)


def freeze_both(cluster: Cluster) -> None:
    """Freeze both servers."""
    cluster.primary.freeze()
    cluster.standby.freeze()


def split(cluster: Cluster) -> None:
    """Make both servers primaries with different histories."""
    cluster.standby.promote()
    mark(cluster.standby, "there")
    mark(cluster.primary, "here")


def stop_both(cluster: Cluster) -> None:
    """Stop both servers."""
    cluster.primary.stop()
    cluster.standby.stop("immediate")


def kill_and_promote(cluster: Cluster) -> None:
    """Fail over without telling the cluster."""
    cluster.primary.kill()
    cluster.standby.promote()


def kill_a_child(cluster: Cluster) -> None:
    """Kill one child, on which the server restarts itself."""
    child = next(pid for pid in guard.marked(cluster.primary._marker) if pid != cluster.primary._pid)
    os.kill(child, signal.SIGKILL)


def configure(cluster: Cluster) -> None:
    """Change settings and pause the replay."""
    cluster.primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    cluster.primary.sql("SELECT pg_reload_conf()")
    cluster.standby.sql("SELECT pg_wal_replay_pause()")


def wreck(cluster: Cluster) -> None:
    """Kill a server whose files then get lost."""
    cluster.standby.kill()
    (cluster.standby.data / "global" / "pg_control").unlink()


MESSES = [freeze_both, split, stop_both, kill_and_promote, kill_a_child, configure, wreck, Cluster.failover]


@pytest.mark.parametrize("mess", MESSES, ids=lambda mess: mess.__name__)
def test_restore(cluster: Cluster, mess: Callable[[Cluster], None]) -> None:
    """Whatever was done, restore() makes a healthy pair of it."""
    mess(cluster)
    cluster.restore()
    assert healthy(cluster)


def test_split_is_rewound_not_copied(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A former primary comes back by pg_rewind, which stays fast with much data."""
    monkeypatch.delattr(Server, "copy")
    split(cluster)
    cluster.restore()
    assert healthy(cluster) and "there" not in marks(cluster.primary)


def test_a_server_outlives_the_thread_that_started_it(cluster: Cluster) -> None:
    """Servers live as long as the process, whichever of its threads started them."""
    cluster.standby.kill()
    thread = threading.Thread(target=cluster.restore)
    thread.start()
    thread.join()
    assert healthy(cluster)


OWNER = """
import sys, time
from servers import Cluster
cluster = Cluster()
cluster.start()
print(cluster.primary.data.parent, flush=True)
if sys.argv[1] == "freeze":
    cluster.primary.freeze()
    print("frozen", flush=True)
if sys.argv[1] != "exit":
    time.sleep(60)
"""


WAYS = {"exit": None, "Ctrl-C": signal.SIGINT, "terminate": signal.SIGTERM, "freeze": signal.SIGKILL}


def own(way: str) -> subprocess.Popen[str]:
    """Start a process that owns a cluster and is to end in this way."""
    command = [sys.executable, "-c", OWNER, way]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.fixture(scope="module")
def owners() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Start all owners at the same time, which takes less of it."""
    owners = {way: own(way) for way in WAYS}
    yield owners
    for owner in owners.values():
        owner.kill()
        owner.communicate()


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_left(owners: dict[str, subprocess.Popen[str]], way: str) -> None:
    """However the owner ends, no server and no file stays, not even of a frozen server after SIGKILL."""
    owner, number = owners[way], WAYS[way]
    assert owner.stdout
    folder = Path(owner.stdout.readline().strip())
    assert folder.name.startswith("pg-")
    if way == "freeze":
        assert owner.stdout.readline() == "frozen\n"
    if number:
        assert folder.exists() and guard.marked(folder.name)
        owner.send_signal(number)
    owner.wait()
    assert guard.wait_until(lambda: not folder.exists() and not guard.marked(folder.name), 5)


def test_missing_programs_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names a folder without PostgreSQL learns what was looked for and the way out."""
    monkeypatch.setenv(binaries.VARIABLE, "/nowhere")
    with pytest.raises(binaries.NotFoundError, match=r"pg_rewind.*/nowhere.*pip install"):
        binaries.folder.__wrapped__()


def test_a_standby_that_is_waited_for_has_what_was_committed(cluster: Cluster) -> None:
    cluster.primary.sql("CREATE TABLE waited_for (i int)", "app")
    cluster.synchronise()
    for i in range(50):
        cluster.primary.sql(f"INSERT INTO waited_for VALUES ({i})", "app")
    cluster.failover()
    assert cluster.primary.sql("SELECT count(*) FROM waited_for", "app") == [("50",)]
    cluster.primary.sql("INSERT INTO waited_for VALUES (50)", "app")  # which waits for nobody
    cluster.rejoin()
    cluster.synchronise()
    cluster.synchronise(False)
    cluster.standby.kill()
    cluster.primary.sql("INSERT INTO waited_for VALUES (51)", "app")
