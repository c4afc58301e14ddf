"""Servers that refuse, freeze, stop, or take the same connection back."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from instrumented_wrapper import FailoverError, FailoverFailedError
from servers import Cluster, Proxy, Server

from ..side import Side, backend, done, dsn, inside, rows
from ..watch import Watch, eventually

NAME = "refused"


def attribute(span: Any, name: str) -> Any:
    return span.attributes[f"instrumented_wrapper.{name}"]


@pytest.fixture
def other_role(watch: Watch) -> Iterator[str]:
    """A role whose password can be changed without harm."""
    role = f"{watch.table}_role"
    watch.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'first' CONNECTION LIMIT 100")
    yield role
    if watch.cluster.primary.alive:
        watch.sql(f"DROP OWNED BY {role}")
        watch.sql(f"DROP ROLE {role}")


def ended(watch: Watch, role: str) -> bool:
    watch.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")
    return eventually(lambda: not watch.sql(f"SELECT 1 FROM pg_stat_activity WHERE usename = '{role}'"))


async def test_wrong_password(side: Side, watch: Watch, proxy: Proxy, standby_proxy: Proxy, other_role: str) -> None:
    connection = await side.connect(dsn(proxy, standby_proxy, user=other_role, password="first"), autocommit=True)
    watch.sql(f"ALTER ROLE {other_role} PASSWORD 'second'")
    watch.cluster.wait_streaming()
    assert ended(watch, other_role)
    for place in (proxy, standby_proxy):
        place.clear()
    with pytest.raises(FailoverFailedError) as told:
        await done(connection.execute("SELECT 1"))
    assert proxy.connections <= 1
    assert standby_proxy.connections <= 1
    assert told.value.transaction == "none"
    assert connection.closed
    assert "second" not in str(told.value) and "first" not in str(told.value)


@pytest.mark.parametrize("change", ["NOLOGIN", "gone"])
async def test_role_that_may_not_log_in_any_more(side: Side, watch: Watch, other_role: str, change: str) -> None:
    connection = await side.connect(watch.dsn(user=other_role, password="first"), autocommit=True)
    if change == "gone":
        watch.sql(f"ALTER ROLE {other_role} RENAME TO {other_role}_gone")
    else:
        watch.sql(f"ALTER ROLE {other_role} NOLOGIN")
    watch.cluster.wait_streaming()
    name = f"{other_role}_gone" if change == "gone" else other_role
    assert ended(watch, name)
    with pytest.raises(FailoverFailedError):
        await done(connection.execute("SELECT 1"))
    if change == "gone":
        watch.sql(f"ALTER ROLE {name} RENAME TO {other_role}")


async def test_too_many_connections_is_only_for_now(side: Side, watch: Watch, other_role: str) -> None:
    conninfo = watch.dsn(user=other_role, password="first")
    connection = await side.connect(conninfo, autocommit=True)
    watch.sql(f"ALTER ROLE {other_role} CONNECTION LIMIT 0")
    assert ended(watch, other_role)
    free = threading.Timer(0.4, watch.sql, [f"ALTER ROLE {other_role} CONNECTION LIMIT 10"])
    free.start()
    assert await rows(connection, "SELECT 1") == [(1,)]
    free.join()


async def test_session_ended_by_its_own_server(side: Side, watch: Watch, spans: Any) -> None:
    """One host, failover on: the same server takes us back, and telemetry does not call that a failover of servers."""
    options = {"failover": "on"}
    connection = await side.connect(dsn(watch.cluster.primary), autocommit=True, instrumented_wrapper=options)
    old = await backend(connection)
    watch.end_sessions()
    assert await rows(connection, "SELECT 1") == [(1,)]
    assert await backend(connection) != old
    (span,) = spans.named("failover")
    assert attribute(span, "trigger") == "session_ended"
    assert attribute(span, "outcome") == "success"
    assert span.attributes["server.port"] == watch.cluster.primary.port


async def test_one_host_alone_is_left_to_the_driver(side: Side, watch: Watch) -> None:
    connection = await side.connect(dsn(watch.cluster.primary), autocommit=True)
    watch.end_sessions()
    with pytest.raises(psycopg.OperationalError) as told:
        await done(connection.execute("SELECT 1"))
    assert not isinstance(told.value, FailoverError)


async def test_planned_stop(side: Side, watch: Watch, spans: Any) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    await done(connection.set_read_only(False))
    old_port = watch.cluster.primary.port
    watch.cluster.wait_streaming()
    watch.cluster.primary.stop("fast")
    watch.cluster.failover()
    await done(connection.execute(watch.insert("one")))
    assert watch.words() == ["one"]
    assert connection.info.port != old_port
    assert connection.read_only is False
    assert attribute(spans.named("failover")[0], "trigger") == "connection_lost"


async def test_planned_stop_in_a_statement(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    watch.cluster.wait_streaming()
    stopping = threading.Thread(target=_stop_when_sleeping, args=(watch,))
    stopping.start()
    with pytest.raises(FailoverError) as told:
        await done(connection.execute("SELECT pg_sleep(60)"))
    stopping.join()
    assert told.value.may_have_run
    assert told.value.sqlstate == "57P01"
    assert await rows(connection, "SELECT pg_is_in_recovery()") == [(False,)]


def _stop_when_sleeping(watch: Watch) -> None:
    assert eventually(watch.sleeping)
    watch.cluster.primary.stop("fast")
    watch.cluster.failover()


@pytest.fixture
def frozen(cluster: Cluster) -> Iterator[Server]:
    """The primary; what a test froze is thawed."""
    yield cluster.primary
    cluster.primary.thaw()


@pytest.mark.parametrize("state", ["idle", "changed", "transaction"])
async def test_close_on_a_frozen_server(side: Side, watch: Watch, frozen: Server, spans: Any, state: str) -> None:
    connection = await side.connect(watch.dsn(), autocommit=state != "transaction")
    if state == "changed":
        await done(connection.set_read_only(True))
    await done(connection.execute("SELECT 1"))
    frozen.freeze()
    await done(connection.close())  # returns although nobody answers
    assert connection.closed
    assert spans.named("failover") == []


async def test_a_frozen_primary_is_passed_by(side: Side, watch: Watch, frozen: Server) -> None:
    """The old primary accepts connections and says nothing: the search does not wait for it."""
    connection = await side.connect(watch.dsn(), autocommit=True)
    watch.cluster.wait_streaming()
    watch.end_sessions()
    frozen.freeze()
    watch.cluster.standby.promote()
    assert await rows(connection, "SELECT pg_is_in_recovery()") == [(False,)]  # while it is frozen
    assert connection.info.port == watch.cluster.standby.port
    watch.cluster.primary.kill()
    watch.cluster.primary, watch.cluster.standby = watch.cluster.standby, watch.cluster.primary


async def test_killed_with_sigkill(side: Side, watch: Watch, spans: Any) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    await done(connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ))
    watch.cluster.wait_streaming()
    watch.cluster.failover()
    await done(connection.execute(watch.insert("one")))
    assert watch.words() == ["one"]
    async with inside(connection.transaction()):
        assert await rows(connection, "SHOW transaction_isolation") == [("repeatable read",)]
    (span,) = spans.named("failover")
    assert span.attributes["server.port"] == watch.cluster.primary.port
    assert attribute(span, "previous.port") == watch.cluster.standby.port


def test_sigkilled_client_leaves_no_half_open_session(watch: Watch) -> None:
    """Nothing of a switch outlives the process: what the server sees is a closed socket."""
    script = "import sys, psycopg, instrumented_wrapper as w; w.instrument(); c = psycopg.connect(sys.argv[1])\n"
    script += "w.switch(c)\nprint('ready', flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", script, watch.dsn(application_name=NAME)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        assert eventually(lambda: len(watch.sessions(NAME)) == 1)
        process.send_signal(signal.SIGKILL)
    assert eventually(lambda: not watch.sessions(NAME))
