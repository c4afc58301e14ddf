"""State that a switch cannot carry is named; a session is never switched in silence while it may have some."""

from __future__ import annotations

import pytest

from instrumented_wrapper import FailoverSuccessError, switch, switch_async

from ..side import Side, done, rows
from ..watch import Watch

# statement -> what names it
LEFT = {
    "LISTEN news": "LISTEN",
    "PREPARE plan AS SELECT 1": "prepared statements",
    "CREATE TEMP TABLE scratch (n int)": "temporary tables",
    "CREATE TEMPORARY TABLE scratch AS SELECT 1": "temporary tables",
    "SELECT 1 AS n INTO TEMP scratch": "temporary tables",
    "CREATE TABLE pg_temp.scratch (n int)": "temporary tables",
    "BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT 1; COMMIT": "held cursors",
    "SELECT pg_advisory_lock(42)": "advisory locks",
    "SELECT pg_try_advisory_lock_shared(42)": "advisory locks",
    "DO $$ BEGIN PERFORM pg_advisory_lock(42); END $$": "advisory locks",
    "DO $$ BEGIN CREATE TEMP TABLE scratch (n int); END $$": "temporary tables",
    "CALL leaves_something()": "LISTEN",
    "SELECT leaves_something_too()": "temporary tables",
    "WITH lock AS (SELECT pg_advisory_lock(42)) SELECT * FROM lock": "advisory locks",
}
ENDED = {
    "LISTEN news": "UNLISTEN *",
    "SELECT pg_advisory_lock(42)": "SELECT pg_advisory_unlock_all()",
    "CREATE TEMP TABLE scratch (n int)": "DISCARD TEMP",
    "PREPARE plan AS SELECT 1": "DEALLOCATE ALL",
    "DO $$ BEGIN CREATE TEMP TABLE scratch (n int); END $$": "DISCARD ALL",
}
HARMLESS = [
    "BEGIN; SET LOCAL work_mem = '1MB'; COMMIT",
    "SELECT 'SET work_mem'",
    "-- SET work_mem\nSELECT 1",
    "SELECT pg_advisory_xact_lock(42)",
    "SELECT set_config('work_mem', '1MB', true)",
    "BEGIN; CREATE TEMP TABLE scratch (n int) ON COMMIT DROP; COMMIT",
]
PROCEDURE = """
    CREATE OR REPLACE PROCEDURE leaves_something() LANGUAGE plpgsql
    AS $$ BEGIN LISTEN news; END $$;
    CREATE OR REPLACE FUNCTION leaves_something_too() RETURNS void LANGUAGE plpgsql
    AS $$ BEGIN EXECUTE 'CREATE TEMP TABLE scratch (n int)'; END $$
"""


@pytest.fixture(params=LEFT, ids=[f"{n}-{name}" for n, name in enumerate(LEFT.values())])
def statement(request: pytest.FixtureRequest, watch: Watch) -> str:
    watch.sql(PROCEDURE)
    return request.param


async def test_found_by_the_next_statement(side: Side, watch: Watch, statement: str) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    await done(connection.execute(statement))
    watch.end_sessions()
    with pytest.raises(FailoverSuccessError) as told:
        await done(connection.execute(watch.insert("not sent")))
    assert LEFT[statement] in told.value.not_restored
    assert (told.value.transaction, told.value.may_have_run) == ("none", False)
    assert watch.words() == []
    await done(connection.execute(watch.insert("sent")))  # said once
    assert watch.words() == ["sent"]


async def test_met_by_a_rollback(side: Side, watch: Watch, statement: str) -> None:
    """rollback() itself succeeds in silence; the next statement says it."""
    connection = await side.connect(watch.dsn(), autocommit=True)
    await done(connection.execute(statement))
    await done(connection.set_autocommit(False))
    await done(connection.execute("SELECT 1"))
    watch.end_sessions()
    await done(connection.rollback())
    with pytest.raises(FailoverSuccessError) as told:
        await done(connection.execute(watch.insert("not sent")))
    assert LEFT[statement] in told.value.not_restored
    assert not told.value.may_have_run
    await done(connection.rollback())
    assert await rows(connection, "SELECT 1") == [(1,)]
    assert watch.words() == []


async def test_planned(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    await done(connection.execute("SELECT pg_advisory_lock(42)"))
    await done(connection.execute("SET app.tenant = 'seven'"))
    with pytest.raises(FailoverSuccessError) as told:
        await (switch_async(connection) if side.is_async else done(switch(connection)))
    assert told.value.not_restored == ("advisory locks",)
    assert await rows(connection, "SHOW app.tenant") == [("seven",)]
    assert watch.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [("0",)]


@pytest.mark.parametrize("left", ENDED)
async def test_what_the_app_has_ended_is_not_named(side: Side, watch: Watch, left: str) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    await done(connection.execute(left))
    await done(connection.execute(ENDED[left]))
    watch.end_sessions()
    assert await rows(connection, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("harmless", HARMLESS)
async def test_what_leaves_nothing_is_switched_in_silence(side: Side, watch: Watch, harmless: str) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    await done(connection.execute(harmless))
    watch.end_sessions()
    assert await rows(connection, "SELECT 1") == [(1,)]


async def test_load_by_a_superuser(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(user="postgres", password=""), autocommit=True)
    await done(connection.execute("LOAD 'plpgsql'"))
    watch.sql(f"SELECT pg_terminate_backend({connection.info.backend_pid}, 10000)")
    with pytest.raises(FailoverSuccessError) as told:
        await done(connection.execute("SELECT 1"))
    assert told.value.not_restored == ("LOAD",)
