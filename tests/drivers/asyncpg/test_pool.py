"""asyncpg.Pool: what the next borrower inherits, what a return sends, and what a pool keeps through a failover."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

asyncpg = pytest.importorskip("asyncpg")

from instrumented_wrapper import FailoverSuccessError, SessionStateTransferHandlers, session_state  # noqa: E402
from servers import Proxy  # noqa: E402

from ..pool_metrics import measured  # noqa: E402
from .conftest import App  # noqa: E402

LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
TENANT = "SELECT coalesce(current_setting('app.tenant', true), '')"
# How an app leaves it, how it is seen, what is seen where nothing was left, and who resets it.
LEFT: list[tuple[str, str, str, str]] = [
    ("SET ROLE pool_tenant", "SELECT current_user", "pool_app", "wrapper"),
    ("SELECT set_config('role', 'pool_tenant', false)", "SELECT current_user", "pool_app", "wrapper"),
    ("DO $$ BEGIN SET ROLE pool_tenant; END $$", "SELECT current_user", "pool_app", "wrapper"),
    ("SET SESSION AUTHORIZATION pool_tenant", "SELECT session_user", "pool_app", "wrapper"),
    ("CREATE TEMP TABLE mine (a int)", "SELECT to_regclass('pg_temp.mine') IS NULL", "True", "wrapper"),
    ("SELECT 1 AS a INTO TEMP mine", "SELECT to_regclass('pg_temp.mine') IS NULL", "True", "wrapper"),
    ("SET app.tenant = 'seven'", TENANT, "", "asyncpg"),
    ("BEGIN; SET app.tenant = 'seven'; COMMIT", TENANT, "", "asyncpg"),
    ("SET search_path = pg_catalog", "SHOW search_path", '"$user", public', "asyncpg"),
    ("SET TIME ZONE 'Asia/Tokyo'", "SELECT current_setting('timezone') = 'Asia/Tokyo'", "False", "asyncpg"),
    ("SET statement_timeout = '1h'", "SHOW statement_timeout", "0", "asyncpg"),
    ("SET row_security = off", "SHOW row_security", "on", "asyncpg"),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SHOW transaction_read_only", "off", "asyncpg"),
    ("SELECT pg_advisory_lock(77)", LOCKS, "0", "asyncpg"),
    ("LISTEN news", "SELECT count(*) FROM pg_listening_channels()", "0", "asyncpg"),
    ("DECLARE mine CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors WHERE is_holdable", "0", "asyncpg"),
]


@pytest.fixture
def superuser(app: App) -> dict[str, Any]:
    """A role that may set session authorization."""
    for role in ("pool_app SUPERUSER LOGIN PASSWORD 'pool'", "pool_tenant"):
        name = role.split()[0]
        if not app.sql(f"SELECT 1 FROM pg_roles WHERE rolname = '{name}'"):
            app.sql(f"CREATE ROLE {role}")
    return {"user": "pool_app", "password": "pool"}


@pytest.mark.parametrize(("text", "question", "clean", "by"), LEFT, ids=[row[0][:45] for row in LEFT])
async def test_the_next_borrower_inherits_nothing(
    app: App, superuser: dict[str, Any], text: str, question: str, clean: str, by: str
) -> None:
    async with app.pool(**superuser) as pool:
        async with pool.acquire() as connection:
            number = connection.get_server_pid()
            assert str(await connection.fetchval(question)) == clean
            await connection.execute(text)
            assert str(await connection.fetchval(question)) != clean, "what is tried is really left"
        async with pool.acquire() as connection:
            assert connection.get_server_pid() == number
            assert str(await connection.fetchval(question)) == clean
            assert all(state.is_pristine for state in session_state(connection).values())


@pytest.mark.parametrize("text", ["SELECT 1", "SET ROLE pool_tenant; CREATE TEMP TABLE mine (a int)"])
async def test_a_return_takes_one_round_trip(app: App, superuser: dict[str, Any], text: str) -> None:
    with Proxy(app.cluster.primary.host, app.cluster.primary.port) as proxy:
        async with app.pool(proxy, **superuser) as pool:
            async with pool.acquire() as connection:
                await connection.execute(text)
                proxy.clear()
            sent = proxy.seen("client")
            assert sent.startswith(b"Q") and sent.count(b"\0Q") == 0
            assert (b"ROLE" in sent) == (b"DISCARD TEMP" in sent) == ("ROLE" in text)


async def test_what_init_and_server_settings_give(app: App) -> None:
    async def init(connection: Any) -> None:
        await connection.execute("SET app.tenant = 'of init'")

    async with app.pool(init=init, server_settings={"search_path": "pg_catalog"}) as pool:
        async with pool.acquire() as connection:
            assert dict(session_state(connection)) == {}
            assert await connection.fetchval(TENANT) == "of init"
            await app.end(connection._con)
            assert await connection.fetchval(TENANT) == "of init", "a switch brings the baseline back"
            await connection.execute("SET search_path = public")
        async with pool.acquire() as connection:
            assert await connection.fetchval("SHOW search_path") == "pg_catalog"
            assert await connection.fetchval(TENANT) == "", "RESET ALL took it away, as with asyncpg alone"


async def test_a_way_to_reset_of_the_app(app: App) -> None:
    """It comes after the wrapper's, and its RESET ALL is not sent."""
    if asyncpg.__version__ < "0.30":
        pytest.skip("a pool takes no `reset` before asyncpg 0.30")
    seen = []

    async def reset(connection: Any) -> None:
        seen.append(await connection.fetchval(TENANT))

    async with (
        app.pool(reset=reset, server_settings={"app.tenant": "of connect"}) as pool,
        pool.acquire() as connection,
    ):
        await connection.execute("SET app.tenant = 'seven'")
    assert seen == ["of connect"]


async def test_a_handler_of_the_app_after_a_rollback(app: App) -> None:
    """The pool rolls back first, once, and says so as asyncpg alone does."""
    calls, reports = [], []

    async def handler(state: Any, connection: Any) -> bool:
        calls.append(connection.is_in_transaction())
        return True

    SessionStateTransferHandlers.set_reset_session_state_on_close_func(handler)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context["message"]))
    async with app.pool() as pool:
        async with pool.acquire() as connection:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            await connection.execute("BEGIN; SET LOCAL app.tenant = 'seven'")
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT pg_backend_pid()") == pid
            assert not connection.is_in_transaction()
    assert calls[0] is False
    assert len(reports) == 1
    assert reports[0].startswith("Resetting connection with an active transaction")


async def test_a_handler_of_the_app(app: App, spans) -> None:
    calls = []

    async def handler(state: Any, connection: Any) -> bool:
        calls.append((str(state["app.tenant"].value), await connection.fetchval(TENANT)))
        return True

    SessionStateTransferHandlers.set_reset_session_state_on_close_func(handler)
    async with app.pool() as pool, pool.acquire() as connection:
        await connection.execute("SET app.tenant = 'seven'")
    assert calls[0] == ("seven", "seven")
    assert {span.attributes["instrumented_wrapper.handled_by"] for span in spans.named("session_state.reset")} == {
        "custom"
    }


async def test_a_failover_keeps_a_pool_and_all_that_is_borrowed(app: App) -> None:
    async with app.pool(min_size=5, max_size=5) as pool:
        borrowed = [await pool.acquire() for _ in range(4)]
        inner = [each._con for each in borrowed]
        for number, connection in enumerate(borrowed):
            await connection.execute(f"SET app.tenant = 'tenant {number}'")
        app.cluster.wait_streaming()
        await asyncio.to_thread(app.cluster.failover)
        found = await asyncio.gather(*(connection.fetchval(TENANT) for connection in borrowed))
        assert found == [f"tenant {number}" for number in range(4)]
        assert [each._con for each in borrowed] == inner
        assert pool.get_size() == 5
        async with pool.acquire() as fifth:
            assert await fifth.fetchval("SELECT pg_is_in_recovery()") is False
        for connection in borrowed:
            await pool.release(connection)
        assert pool.get_idle_size() == 5
    assert await app.nobody_is_left()


async def test_a_connection_that_is_lost_in_its_transaction_reaches_nobody_else(app: App) -> None:
    async with app.pool() as pool:
        with pytest.raises(FailoverSuccessError):
            async with pool.acquire() as connection, connection.transaction():
                await app.end(connection._con)
                await connection.execute("SELECT 1")
        async with pool.acquire() as connection:
            assert not connection.is_in_transaction()
            assert await connection.fetchval("SELECT 1") == 1


async def test_a_transaction_that_is_left_open(app: App) -> None:
    async with app.pool() as pool:
        async with pool.acquire() as connection:
            number = connection.get_server_pid()
            await connection.execute("BEGIN; SET app.tenant = 'seven'")
        async with pool.acquire() as connection:
            assert connection.get_server_pid() == number
            assert not connection.is_in_transaction()
            assert await connection.fetchval(TENANT) == ""


async def test_a_task_that_is_cancelled_while_it_returns(app: App) -> None:
    """asyncpg shields a release: it ends all the same."""
    async with app.pool() as pool:
        connection = await pool.acquire()
        await connection.execute("SET app.tenant = 'seven'")
        releasing = asyncio.create_task(pool.release(connection))
        await asyncio.sleep(0)
        releasing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await releasing
        async with pool.acquire() as connection:
            assert await connection.fetchval(TENANT) == ""


async def test_a_report_names_only_what_asyncpg_leaves(app: App, spans, superuser: dict[str, Any]) -> None:
    options = {"reset_on_return": "report"}
    async with app.pool(options=options, **superuser) as pool:
        async with pool.acquire() as connection:
            await connection.execute("SET ROLE pool_tenant")
            await connection.execute("SET app.tenant = 'seven'")
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT current_user") == "pool_tenant"
    (leak,) = spans.named("session_state.leak")
    assert leak.attributes["instrumented_wrapper.settings"] == ("role",)


# --- metrics ----------------------------------------------------------------------------------------------------------


async def test_what_a_pool_has_and_how_long_it_is_waited_for(app: App, reader) -> None:
    with Proxy(app.cluster.primary.host, app.cluster.primary.port) as proxy:  # for a name of its own
        name = f"{proxy.host}:{proxy.port}/app"
        pool = app.pool(proxy, min_size=1, max_size=2)
        with pytest.raises(asyncpg.InterfaceError):
            await pool.acquire()
        await pool
        async with pool.acquire(), pool.acquire():
            with pytest.raises(TimeoutError):
                await pool.acquire(timeout=0.01)
            waiting = asyncio.create_task(pool.acquire().__aenter__())
            await asyncio.sleep(0)
            points = measured(reader, name)
            told = ("idle", "used", "idle.min", "max", "pending_requests", "timeouts")
            assert [points[each].value for each in told] == [0, 2, 1, 2, 1, 1]
        await pool.release(await waiting)
        points = measured(reader, name)
        assert [points[each].value for each in ("idle", "used", "pending_requests")] == [2, 0, 0]
        assert [points[each].count for each in ("wait_time", "use_time")] == [3, 3]
        await pool.close()
        assert {*measured(reader, name)} == {"wait_time", "use_time", "timeouts"}, "a pool that is closed has nothing"
