"""Behind a real PgBouncer: what SQL sets may land on anybody's session, so it is left alone, and that is said."""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

import instrumented_wrapper
from instrumented_wrapper import FailoverSuccessError
from instrumented_wrapper.drivers.engine.survival import survey
from instrumented_wrapper.drivers.server_session import pooler as asking
from servers import Cluster, PgBouncer, guard
from servers.pgbouncer import available

from ..side import Side, done, rows

pytestmark = pytest.mark.skipif(not available(), reason="pgbouncer is not on this machine")


@pytest.fixture(autouse=True)
def unwarned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_warned", set())
    monkeypatch.setattr(asking, "_lending", {})


def verb(side: Side, name: str) -> Any:
    return getattr(instrumented_wrapper, f"{name}_async" if side.is_async else name)


async def test_transaction_mode_is_recognised(side: Side, cluster: Cluster, caplog: Any, spans: Any) -> None:
    with PgBouncer(cluster.primary, "transaction") as pooler:
        for _ in range(2):
            connection = await side.connect(pooler.dsn(), autocommit=True)
            await done(connection.execute("SET app.tenant = 'seven'"))
            assert await done(verb(side, "reset_session")(connection))
            assert await rows(connection, "SHOW app.tenant") == [("seven",)], "it is another client's by now, perhaps"
            await done(connection.close())
    assert not spans.named("session_state.reset")
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1, "once for each pooler"
    assert f"{pooler.host}:{pooler.port} is a pooler" in warnings[0]
    assert "INSTRUMENTED_WRAPPER_POOLER=session" in warnings[0]


async def test_a_switch_names_what_it_leaves(side: Side, cluster: Cluster) -> None:
    with PgBouncer(cluster.primary, "transaction") as pooler:
        connection = await side.connect(pooler.dsn(), autocommit=True)
        await done(connection.execute("SET app.tenant = 'seven'"))
        with pytest.raises(FailoverSuccessError) as told:
            await done(verb(side, "switch")(connection))
    assert told.value.not_restored == ("app.tenant",)


async def test_a_change_that_was_reported_is_not_reset_either(side: Side, cluster: Cluster) -> None:
    """Its pristine value costs no question, so the pooler is met by the reset itself: which then sets nothing."""
    with PgBouncer(cluster.primary, "transaction") as pooler:
        connection = await side.connect(pooler.dsn(), autocommit=True)
        await done(connection.execute("SET TIME ZONE 'Asia/Tokyo'"))
        assert await done(verb(side, "reset_session")(connection))
        assert await rows(connection, "SHOW timezone") == [("Asia/Tokyo",)]


async def test_the_app_says_that_there_is_one(side: Side, cluster: Cluster, caplog: Any) -> None:
    with PgBouncer(cluster.primary, "transaction") as pooler:
        options = {"pooler": "transaction"}
        connection = await side.connect(pooler.dsn(), autocommit=True, instrumented_wrapper=options)
        await done(connection.execute("SET app.tenant = 'seven'"))
        await done(verb(side, "reset_session")(connection))
        assert await rows(connection, "SHOW app.tenant") == [("seven",)]
    assert not caplog.records


async def test_session_mode_by_its_word(side: Side, cluster: Cluster, caplog: Any) -> None:
    with PgBouncer(cluster.primary, "session", default_pool_size=2) as pooler:
        options = {"pooler": "session"}
        connection = await side.connect(pooler.dsn(), autocommit=True, instrumented_wrapper=options)
        await done(connection.execute("SET app.tenant = 'seven'"))
        await done(connection.execute("SET search_path TO seven"))
        await done(verb(side, "switch")(connection))
        assert await rows(connection, "SHOW search_path") == [("seven",)]
        assert await done(verb(side, "reset_session")(connection))
        assert await rows(connection, "SELECT current_setting('app.tenant')") == [("",)]
        await done(connection.close())
    assert not caplog.records


def test_in_a_transaction_too(cluster: Cluster) -> None:
    """There the process is not asked for: the reset is where the pooler is met."""
    with PgBouncer(cluster.primary, "transaction") as pooler:
        connection = psycopg.connect(pooler.dsn())
        connection.execute("SELECT 1")
        connection.execute("SET app.tenant = 'seven'")
        connection.commit()
        assert instrumented_wrapper.reset_session(connection)
        assert connection.execute("SHOW app.tenant").fetchone() == ("seven",)
        connection.close()


# --- session mode, found out ------------------------------------------------------------------------------------


MARKS = ("SET app.tenant = 'seven'", "SET search_path TO seven", "SET ROLE pooled")
SEEN = "SELECT current_setting('app.tenant'), current_setting('search_path'), current_user::text"
HAS, HAD = ("seven", "seven", "pooled"), ("", '"$user", public', "app")
ON = {"instrumented_wrapper": {"failover": "on"}}


@pytest.fixture
def role(cluster: Cluster) -> None:
    if not cluster.primary.sql("SELECT 1 FROM pg_roles WHERE rolname = 'pooled'"):
        cluster.primary.sql("CREATE ROLE pooled; GRANT pooled TO app")


def end(cluster: Cluster, process: int) -> None:
    """End a server session, and with it the pooler's client that has it."""
    assert cluster.primary.sql(f"SELECT pg_terminate_backend({process}, 10000)") == [("t",)]


@pytest.mark.usefixtures("role")
async def test_session_mode_is_found_out(side: Side, cluster: Cluster, caplog: Any) -> None:
    with PgBouncer(cluster.primary, "session", default_pool_size=4) as pooler:
        connection = await side.connect(pooler.dsn(), autocommit=True, **ON)
        for text in MARKS:
            await done(connection.execute(text))
        await done(verb(side, "switch")(connection))
        assert await rows(connection, SEEN) == [HAS]
        ((process,),) = await rows(connection, "SELECT pg_backend_pid()")
        end(cluster, process)
        assert await rows(connection, SEEN) == [HAS], "carried after a loss, too"
        assert await done(verb(side, "reset_session")(connection))
        assert await rows(connection, SEEN) == [HAD]
        await done(connection.close())
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.usefixtures("role")
def test_session_mode_is_found_out_by_psycopg2(cluster: Cluster, caplog: Any) -> None:
    psycopg2 = pytest.importorskip("psycopg2")

    def seen(connection: Any, text: str = SEEN) -> tuple[Any, ...]:
        with connection.cursor() as cursor:
            cursor.execute(text)
            return cursor.fetchone() if cursor.description else ()

    with PgBouncer(cluster.primary, "session", default_pool_size=4) as pooler:
        connection = psycopg2.connect(pooler.dsn(), **ON)
        connection.autocommit = True
        for text in MARKS:
            seen(connection, text)
        instrumented_wrapper.switch(connection)
        assert seen(connection) == HAS
        end(cluster, *seen(connection, "SELECT pg_backend_pid()"))
        assert seen(connection) == HAS
        assert instrumented_wrapper.reset_session(connection)
        assert seen(connection) == HAD
        connection.close()
    with PgBouncer(cluster.primary, "transaction", default_pool_size=2) as pooler:
        connection = psycopg2.connect(pooler.dsn(), **ON)
        connection.autocommit = True
        seen(connection, MARKS[0])
        with pytest.raises(FailoverSuccessError) as told:
            instrumented_wrapper.switch(connection)
        assert told.value.not_restored == ("app.tenant",)
        with pytest.raises(FailoverSuccessError):
            seen(connection)
        connection.close()


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("transaction", {"default_pool_size": 1}),
        ("transaction", {"default_pool_size": 5}),
        ("transaction", {"default_pool_size": 2, "min_pool_size": 2, "server_round_robin": 1}),
        ("transaction", {"default_pool_size": 5, "min_pool_size": 5, "server_round_robin": 1}),
        ("statement", {"default_pool_size": 2}),
        ("session", {"default_pool_size": 1}),  # no second session is to be had: nothing is proved
    ],
    ids=str,
)
async def test_what_is_not_proved_is_lent(side: Side, cluster: Cluster, mode: Any, settings: dict[str, int]) -> None:
    with PgBouncer(cluster.primary, mode, **settings) as pooler:
        others = [await side.connect(pooler.dsn(), autocommit=True) for _ in range(3 * (mode == "transaction"))]
        for other in others:  # several server sessions are idle in the pool
            await done(other.execute("SELECT pg_sleep(0)"))
        connection = await side.connect(pooler.dsn(), autocommit=True, **ON)
        await done(connection.execute("SET app.tenant = 'seven'"))
        assert await done(verb(side, "reset_session")(connection))
        assert await rows(connection, "SELECT 1") == [(1,)]
        record = vars(connection)["_instrumented_wrapper"]
        assert record.shared
        await done(connection.close())


async def test_a_pooler_whose_server_is_down_is_asked_until_it_is_back(side: Side, cluster: Cluster) -> None:
    """It takes the login all the while, and refuses the first statement."""
    quick = {"server_login_retry": 1, "query_wait_timeout": 1}
    with PgBouncer(cluster.primary, "session", **quick) as pooler, ThreadPoolExecutor(1) as thread:
        options = {"failover": "on", "failover_timeout": 60}
        connection = await side.connect(pooler.dsn(), autocommit=True, instrumented_wrapper=options)
        cluster.primary.kill()
        starting = thread.submit(start_when_refused, cluster, pooler)
        with pytest.raises(FailoverSuccessError) as told:
            await done(connection.execute("SELECT 'sent'"))
        assert (told.value.transaction, told.value.may_have_run) == ("none", True)
        assert await rows(connection, "SELECT 'reached'") == [("reached",)]
        assert starting.result(), "it refused more often than five times"


def start_when_refused(cluster: Cluster, pooler: PgBouncer) -> bool:
    refused = guard.wait_until(lambda: pooler.refusals() > 8, 30)
    cluster.primary.start()
    return refused


async def test_a_session_that_is_lent_cannot_be_verified(side: Side, cluster: Cluster) -> None:
    """Nor would it survive: what is set there is not this connection's."""
    before = Counter(survey())
    with PgBouncer(cluster.primary, "transaction") as pooler:
        ours = {"instrumented_wrapper": {"failover": "on"}}
        connection = await side.connect(pooler.dsn(), autocommit=True, **ours)
        await done(connection.execute("SET app.tenant = 'seven'"))
        with pytest.raises(psycopg.OperationalError, match="a pooler lends"):
            await done(verb(side, "verify_session")(connection))
        gained = Counter(survey()) - before
        assert [kind.reason for kind in gained if kind.driver == "psycopg"] == ["pooler"]
        await done(connection.close())


async def test_a_session_that_is_kept_can_be_verified(side: Side, cluster: Cluster) -> None:
    with PgBouncer(cluster.primary, "session") as pooler:
        ours = {"instrumented_wrapper": {"pooler": "session"}}
        connection = await side.connect(pooler.dsn(), autocommit=True, **ours)
        await done(connection.execute("SET app.tenant = 'seven'"))
        assert await done(verb(side, "verify_session")(connection)) == {}
        await done(connection.close())
