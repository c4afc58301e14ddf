"""What a session still has although statements failed, were rolled back or never sent: carried, or its loss is said.

That it has it is asked from the server first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from instrumented_wrapper import FailoverSuccessError

from ..side import Side, done, inside, rows
from ..watch import Watch

LOCKS = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory'"


@pytest.fixture
def role(watch: Watch) -> Iterator[str]:
    """Return a role that the app may take on."""
    name = f"{watch.table}_role"
    watch.sql(f"CREATE ROLE {name}")
    watch.sql(f"GRANT {name} TO app")
    yield name
    watch.sql(f"DROP ROLE {name}")


async def pipelined(connection: Any, *texts: str) -> None:
    with suppress(psycopg.errors.DivisionByZero):
        async with inside(connection.pipeline()):
            for text in texts:
                await done(connection.execute(text))


async def refused(connection: Any, text: str) -> None:
    with pytest.raises(psycopg.Error):
        await done(connection.execute(text))


async def check_told(connection: Any, watch: Watch, name: str) -> None:
    """Lose the session while it is idle: the next statement is not sent, its error has the name."""
    watch.end_sessions()
    with pytest.raises(FailoverSuccessError) as told:
        await done(connection.execute(watch.insert("not sent")))
    assert name in told.value.not_restored
    assert (told.value.transaction, told.value.may_have_run) == ("none", False)
    assert watch.words() == []


async def check_role_carried(connection: Any, watch: Watch, role: str) -> None:
    """Lose the session while it is idle: the next statement runs as the role, too."""
    assert await rows(connection, "SELECT current_user") == [(role,)]
    watch.end_sessions()
    assert await rows(connection, "SELECT current_user") == [(role,)]


async def test_set_that_was_committed_before_the_pipeline_failed(side: Side, watch: Watch, role: str) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    await pipelined(connection, "BEGIN", f"SET ROLE {role}", "COMMIT", "SELECT 1/0")
    await check_role_carried(connection, watch, role)


async def test_reset_that_the_pipeline_rolled_back(side: Side, watch: Watch, role: str) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    await done(connection.execute(f"SET ROLE {role}"))
    await pipelined(connection, "BEGIN", "RESET ROLE", "ROLLBACK")
    await check_role_carried(connection, watch, role)


async def test_reset_that_was_only_mogrified(side: Side, watch: Watch, role: str) -> None:
    kind = psycopg.AsyncClientCursor if side.is_async else psycopg.ClientCursor
    connection = await side.connect(watch.dsn(), autocommit=True, cursor_factory=kind)
    await done(connection.execute(f"SET ROLE {role}"))
    assert connection.cursor().mogrify("RESET ROLE") == "RESET ROLE"
    await check_role_carried(connection, watch, role)


@pytest.mark.parametrize("text", ["SET ROLE app", "BEGIN", "COMMIT"])
async def test_what_was_only_mogrified_leaves_nothing(side: Side, watch: Watch, text: str) -> None:
    kind = psycopg.AsyncClientCursor if side.is_async else psycopg.ClientCursor
    connection = await side.connect(watch.dsn(), autocommit=True, cursor_factory=kind)
    connection.cursor().mogrify(text)
    watch.end_sessions()
    assert await rows(connection, "SELECT 1") == [(1,)]


async def test_role_by_parameter_is_left_by_reset_all(side: Side, watch: Watch, role: str) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    await done(connection.execute("SELECT set_config(%s, %s, false)", ["role", role]))
    await done(connection.execute("RESET ALL"))
    await check_role_carried(connection, watch, role)


FAILING_LOCKS = [
    "SELECT pg_advisory_lock(42), 1/(random()*0)::int",
    "WITH l AS MATERIALIZED (SELECT pg_advisory_lock(43)) SELECT 1/(count(*)-1) FROM l",
]


@pytest.mark.parametrize("text", FAILING_LOCKS, ids=["columns", "with"])
async def test_lock_of_a_statement_that_failed(side: Side, watch: Watch, text: str) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    await refused(connection, text)
    assert watch.sql(LOCKS) == [("t",)]
    await check_told(connection, watch, "advisory locks")


async def test_lock_of_a_transaction_that_was_rolled_back(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn())
    await done(connection.execute("SELECT pg_advisory_lock(42)"))
    await refused(connection, "SELECT 1/0")
    await done(connection.rollback())
    assert watch.sql(LOCKS) == [("t",)]
    await check_told(connection, watch, "advisory locks")


async def test_unlock_that_was_not_reached(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    await done(connection.execute("SELECT pg_advisory_lock(42)"))
    await done(connection.execute("SELECT pg_advisory_unlock_all() WHERE false"))
    assert watch.sql(LOCKS) == [("t",)]
    await check_told(connection, watch, "advisory locks")


@pytest.mark.parametrize("verb", ["DO", "CALL"])
async def test_code_that_committed_before_it_failed(side: Side, watch: Watch, role: str, verb: str) -> None:
    connection = await side.connect(watch.dsn(), autocommit=True)
    body = f"$$ BEGIN PERFORM set_config('role', '{role}', false); COMMIT; RAISE 'no'; END $$"
    watch.sql(f"CREATE PROCEDURE {role}_taken() LANGUAGE plpgsql AS {body}")
    await refused(connection, f"DO {body}" if verb == "DO" else f"CALL {role}_taken()")
    await check_role_carried(connection, watch, role)


async def test_load_by_a_superuser(side: Side, watch: Watch) -> None:
    connection = await side.connect(watch.dsn(user="postgres", password=""), autocommit=True)
    await done(connection.execute("LOAD 'plpgsql'"))
    watch.sql(f"SELECT pg_terminate_backend({connection.info.backend_pid}, 10000)")
    with pytest.raises(FailoverSuccessError) as told:
        await done(connection.execute("SELECT 1"))
    assert told.value.not_restored == ("LOAD",)
