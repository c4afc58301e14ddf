"""What SQL set is there again after a switch, or is named; asked from the new server session, not from us."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

import instrumented_wrapper
from instrumented_wrapper import FailoverFailedError, FailoverSuccessError, SessionStateTransferHandlers

from ..side import Side, done, inside, rows
from ..watch import eventually

SESSION = (
    "SET app.tenant = 'it''s \\ \"seven\"'",
    "SET search_path = 'Odd one', public",
    "SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE",
    "SET statement_timeout = '1h'",
    "SET datestyle = German",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE",
    "SET app.empty = ''",
    "SET SESSION AUTHORIZATION walk_tenant",
    "SET ROLE walk_other",
)
QUESTION = (
    "SELECT current_user, session_user, "
    + ", ".join(
        f"current_setting('{name}')"
        for name in ("app.tenant", "search_path", "timezone", "statement_timeout", "datestyle", "app.empty")
    )
    + ", current_setting('default_transaction_isolation')"
)
HAS = (
    "walk_other",
    "walk_tenant",
    'it\'s \\ "seven"',
    '"Odd one", public',
    "<+02>-02",
    "1h",
    "German, DMY",
    "",
    "serializable",
)
ON = {"instrumented_wrapper": {"failover": "on"}}


@pytest.fixture
def administrator(superuser: str) -> Any:
    with psycopg.connect(superuser, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'walk_other'").fetchone():
            connection.execute("CREATE ROLE walk_other")
            connection.execute("GRANT walk_other TO walk_tenant")
        yield connection


def lose(administrator: Any, connection: Any) -> None:
    """End the session and wait until it is gone."""
    assert administrator.execute("SELECT pg_terminate_backend(%s, 10000)", [connection.info.backend_pid]).fetchone()[0]


async def switched(side: Side, connection: Any) -> None:
    verb = instrumented_wrapper.switch_async if side.is_async else instrumented_wrapper.switch
    await done(verb(connection))


async def test_a_loss(side: Side, superuser: str, administrator: Any, spans: Any) -> None:
    connection = await side.connect(superuser, autocommit=True, **ON)
    for text in SESSION:
        await done(connection.execute(text))
    assert await rows(connection, QUESTION) == [HAS]
    before = dict(instrumented_wrapper.session_state(connection))
    lose(administrator, connection)
    assert await rows(connection, QUESTION) == [HAS]
    assert dict(instrumented_wrapper.session_state(connection)) == before, "a switch never changes what is pristine"
    (span,) = spans.named("session_state.transfer")
    assert span.attributes["instrumented_wrapper.round_trips"] == 1
    assert {event.attributes["outcome"] for event in span.events} == {"restored"}


async def test_a_planned_switch(side: Side, superuser: str, administrator: Any) -> None:
    connection = await side.connect(superuser, autocommit=True)
    for text in SESSION:
        await done(connection.execute(text))
    first = connection.info.backend_pid
    await switched(side, connection)
    assert connection.info.backend_pid != first
    assert await rows(connection, QUESTION) == [HAS]


async def test_only_what_is_committed(side: Side, superuser: str, administrator: Any) -> None:
    connection = await side.connect(superuser, **ON)
    await done(connection.execute("SET app.tenant = 'committed'"))
    await done(connection.commit())
    await done(connection.execute("SET app.tenant = 'open'"))
    lose(administrator, connection)
    with pytest.raises(FailoverSuccessError) as told:
        await done(connection.execute("SELECT 1"))
    assert (told.value.transaction, told.value.not_restored) == ("rolled_back", ())
    await done(connection.rollback())
    assert await rows(connection, "SHOW app.tenant") == [("committed",)]


async def test_what_a_lost_commit_set_is_named(side: Side, superuser: str, administrator: Any) -> None:
    """Whether it counts is not known: the value before is carried, and the name is told."""
    connection = await side.connect(superuser, **ON)
    await done(connection.execute("SET app.tenant = 'before'"))
    await done(connection.commit())
    await done(connection.execute("SET app.tenant = 'open'"))
    with pytest.raises(instrumented_wrapper.TransactionResolutionUnknownError) as told:
        await done(connection.execute("COMMIT; SELECT pg_terminate_backend(pg_backend_pid())"))
    assert "app.tenant" in told.value.not_restored
    await done(connection.rollback())
    with pytest.raises(FailoverSuccessError):
        await done(connection.execute("SELECT 1"))
    verb = instrumented_wrapper.mark_pristine_async if side.is_async else instrumented_wrapper.mark_pristine
    await done(verb(connection))
    assert await rows(connection, "SHOW app.tenant") == [("before",)]


async def test_what_configure_set_comes_back_and_is_still_the_baseline(
    side: Side, superuser: str, administrator: Any
) -> None:
    async def configure(connection: Any) -> None:
        await done(connection.execute("SET app.tenant = 'base'"))
        await done(connection.execute("SET work_mem = '6MB'"))
        await done(connection.commit())

    pool = await side.pool(superuser, configure=side.callback(configure), kwargs=ON)
    async with inside(pool.connection()) as connection:
        await done(connection.execute("SET work_mem = '7MB'"))
        await done(connection.commit())
        lose(administrator, connection)
        assert await rows(connection, "SELECT current_setting('app.tenant'), current_setting('work_mem')") == [
            ("base", "7MB")
        ]
    async with inside(pool.connection()) as connection:
        assert await rows(connection, "SELECT current_setting('app.tenant'), current_setting('work_mem')") == [
            ("base", "6MB")
        ]


async def test_a_doubt_that_nobody_could_settle_is_named(side: Side, superuser: str, administrator: Any) -> None:
    connection = await side.connect(superuser, **ON)
    await done(connection.execute("SELECT set_config('work_mem', n || 'MB', false) FROM generate_series(5, 6) n"))
    lose(administrator, connection)
    with pytest.raises(FailoverSuccessError) as told:
        await done(connection.execute("SELECT 1"))
    assert told.value.transaction == "rolled_back"
    assert told.value.not_restored == (), "what it may have set is rolled back with it"
    await done(connection.rollback())
    connection = await side.connect(superuser, autocommit=True, **ON)
    with pytest.raises(FailoverSuccessError) as told:
        await done(
            connection.execute("DO $$ BEGIN SET app.x = 'y'; PERFORM pg_terminate_backend(pg_backend_pid()); END $$")
        )
    assert "app.x" in told.value.not_restored


@pytest.mark.parametrize("lost", [True, False])
async def test_a_value_that_the_new_server_refuses(side: Side, superuser: str, administrator: Any, lost: bool) -> None:
    administrator.execute("CREATE ROLE walk_gone")
    connection = await side.connect(superuser, autocommit=True, **ON)
    await done(connection.execute("SET app.tenant = 'seven'"))
    await done(connection.execute("SET ROLE walk_gone"))
    administrator.execute("DROP ROLE walk_gone")
    if lost:
        lose(administrator, connection)
    with pytest.raises(FailoverFailedError, match=r"refused the setting role \(22023\)") as told:
        await (done(connection.execute("SELECT 1")) if lost else switched(side, connection))
    assert "walk_gone" not in str(told.value)
    assert connection.closed == lost, "a planned switch leaves the session where it was"
    if not lost:
        await done(connection.execute("RESET ROLE"))
        assert await rows(connection, "SHOW app.tenant") == [("seven",)]


async def test_nothing_is_carried_where_the_app_does_not_want_it(
    side: Side, superuser: str, administrator: Any
) -> None:
    connection = await side.connect(superuser, autocommit=True, transfer_session_state_on_switch=False)
    await done(connection.execute("SET work_mem = '7MB'"))
    await switched(side, connection)
    assert await rows(connection, "SHOW work_mem") == [("4MB",)]
    assert len(instrumented_wrapper.session_state(connection)) == 0


async def test_the_session_that_is_left_behind_is_reset(side: Side, superuser: str, spans: Any) -> None:
    connection = await side.connect(superuser, autocommit=True)
    await done(connection.execute("SET work_mem = '7MB'"))
    await switched(side, connection)
    (span,) = spans.named("session_state.reset")
    assert span.attributes["instrumented_wrapper.trigger"] == "switch"
    assert span.attributes["instrumented_wrapper.settings"] == ("work_mem",)
    assert await rows(connection, "SHOW work_mem") == [("7MB",)]


# --- handlers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handled", [True, False])
async def test_a_transfer_handler(side: Side, superuser: str, handled: bool, spans: Any) -> None:
    async def restore(state: Any, new: Any) -> bool:
        assert (state["work_mem"].value, state["work_mem"].pristine_value) == ("7MB", "4MB")
        await done(new.execute("SET work_mem = '8MB'"))
        await done(new.execute("SET app.from_handler = 'x'"))
        return handled

    connection = await side.connect(superuser, autocommit=True)
    await done(connection.execute("SET work_mem = '7MB'"))
    SessionStateTransferHandlers.set_transfer_session_state_on_switch_func(side.callback(restore))
    await switched(side, connection)
    assert await rows(connection, "SHOW work_mem") == [("8MB" if handled else "7MB",)]
    assert instrumented_wrapper.session_state(connection)["work_mem"].value == ("8MB" if handled else "7MB")
    assert "app.from_handler" not in instrumented_wrapper.session_state(connection), "not the app's doing"
    (span,) = spans.named("session_state.transfer")
    assert span.attributes["instrumented_wrapper.handled_by"] == ("custom" if handled else "default")


@pytest.mark.parametrize("handled", [True, False])
async def test_a_reset_handler(side: Side, superuser: str, handled: bool) -> None:
    async def reset(state: Any, connection: Any) -> bool:
        await done(connection.execute("SET lock_timeout = 5"))
        return handled

    pool = await side.pool(superuser)
    async with inside(pool.connection()) as connection:
        await done(connection.execute("SET work_mem = '7MB'"))
        SessionStateTransferHandlers.set_reset_session_state_on_close_func(side.callback(reset))
    SessionStateTransferHandlers.clear_reset_session_state_on_close_func()
    async with inside(pool.connection()) as connection:
        assert await rows(connection, "SHOW work_mem") == [("7MB" if handled else "4MB",)]


# --- the session cannot be told apart ---------------------------------------------------------------------------


async def test_mark_pristine_takes_what_sql_set(side: Side, superuser: str, administrator: Any) -> None:
    connection = await side.connect(superuser, autocommit=True, **ON)
    await done(connection.execute("SET work_mem = '7MB'"))
    mark = instrumented_wrapper.mark_pristine_async if side.is_async else instrumented_wrapper.mark_pristine
    await done(mark(connection))
    state = instrumented_wrapper.session_state(connection)["work_mem"]
    assert (state.value, state.pristine_value, state.is_pristine) == ("7MB", "7MB", True)
    lose(administrator, connection)
    assert await rows(connection, "SHOW work_mem") == [("7MB",)]
    await done(connection.execute("SET work_mem = '9MB'"))
    back = instrumented_wrapper.reset_session_async if side.is_async else instrumented_wrapper.reset_session
    await done(back(connection))
    assert await rows(connection, "SHOW work_mem") == [("7MB",)]


def test_no_session_is_left_open(superuser: str, administrator: Any) -> None:
    connection = psycopg.connect(superuser, autocommit=True, application_name="walk_left", **ON)
    connection.execute("SET work_mem = '7MB'")
    for _ in range(3):
        instrumented_wrapper.switch(connection)
    mine = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'walk_left'"
    assert eventually(lambda: administrator.execute(mine).fetchone() == (1,))
    connection.close()
