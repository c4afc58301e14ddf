"""Sessions that are hard to look after: odd encodings, functions that hide what they do, interruptions, questions that
cannot be asked. The app must not notice, and nothing may leak or be falsified.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest

import instrumented_wrapper
from servers import Cluster, Proxy

from ..side import Side, done, dsn, inside, rows

LONG = "x" * 70
SETUP = """
CREATE SCHEMA IF NOT EXISTS odd;
CREATE OR REPLACE FUNCTION odd.tenant(v text) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config('app.tenant', v, false); RETURN v; END $$;
CREATE OR REPLACE FUNCTION odd.any(n text, v text) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config(n, v, false); RETURN v; END $$;
CREATE OR REPLACE FUNCTION odd.host(v text) RETURNS text LANGUAGE sql AS
  $$ SELECT set_config('app.tenant', v, false) $$;
CREATE OR REPLACE FUNCTION odd.standard(v text) RETURNS text LANGUAGE sql
  BEGIN ATOMIC SELECT set_config('app.tenant', v, false); END;
CREATE OR REPLACE FUNCTION odd.deep1() RETURNS text LANGUAGE sql AS $$ SELECT odd.tenant('deep') $$;
CREATE OR REPLACE FUNCTION odd.deep2() RETURNS text LANGUAGE sql AS $$ SELECT odd.deep1() $$;
CREATE OR REPLACE FUNCTION odd.deep3() RETURNS text LANGUAGE sql AS $$ SELECT odd.deep2() $$;
CREATE OR REPLACE FUNCTION odd.locks() RETURNS text LANGUAGE sql AS $$ SELECT pg_advisory_lock(4711)::text $$;
CREATE OR REPLACE FUNCTION odd.flag(b bool) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN IF b THEN SET app.flag = 'x'; END IF; RETURN 'x'; END $$;
CREATE OR REPLACE PROCEDURE odd.procedure(v text) LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config('app.tenant', v, false); END $$;
CREATE OR REPLACE FUNCTION odd.on_insert() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN SET TIME ZONE 'Asia/Tokyo'; RETURN NEW; END $$;
CREATE TABLE IF NOT EXISTS odd.triggering (a int);
CREATE OR REPLACE TRIGGER t BEFORE INSERT ON odd.triggering FOR EACH ROW EXECUTE FUNCTION odd.on_insert();
GRANT USAGE ON SCHEMA odd TO PUBLIC;
"""
TENANT = ("SELECT coalesce(current_setting('app.tenant', true), '')", "")


@pytest.fixture
def odd(superuser: str) -> str:
    with psycopg.connect(superuser, autocommit=True) as administrator:
        administrator.execute(SETUP)
    return superuser


async def switched(side: Side, connection: Any) -> None:
    await done((instrumented_wrapper.switch_async if side.is_async else instrumented_wrapper.switch)(connection))


def told(connection: Any, name: str) -> bytes:
    result = connection.pgconn.exec_(f"SELECT current_setting('{name}', true)".encode())
    return bytes(result.get_value(0, 0) or b"none")


VALUES: list[tuple[str, list[Any]]] = [
    ("app.a", ["SET app.a = 007"]),
    ("app.a", ["SET app.a = -0"]),
    ("app.a", ["SET app.a = -0.50"]),
    ("app.a", ["SET app.a = 99999999999999"]),
    ("app.a", ["SET app.a = Ärger"]),
    ("app.a", ["SET app.a = 'a''b\\c\"d'"]),
    ("app.a", [("SELECT set_config('app.a', %s::text, false)", [True])]),
    ("app.a", [("SELECT set_config('app.a', %s::text, false)", [False])]),
    ("app.a", [("SELECT set_config('app.a', '5%%', false), %s", [1])]),
    ("app.a", ["SELECT set_config('app.a', '1', 'TRUE')"]),
    ("app.a", [("SELECT set_config('app.a', '1', %s)", ["tru"])]),
    ("app.a", ["SET client_encoding = 'LATIN1'", "SET app.a = 'é'"]),
    ("app.a", ["SET client_encoding = 'LATIN1'", ("SELECT set_config('app.a', %s, false)", ["é"])]),
    ("app.a", ["SET client_encoding = 'LATIN1'", (b"SET app.a = 'caf\xe9'", None)]),
    ("app.a", ["SET app.a = 'é'", "SET client_encoding = 'LATIN1'"]),
    ("client_encoding", ["SET app.a = '€'", "SET client_encoding = 'LATIN1'"]),
    ("client_encoding", ["SET client_encoding = 'EUC_TW'"]),
    ("work_mem", ["SET work_mem = '4MB'"]),
    ("search_path", ["SET search_path = app, pg_temp"]),
    ("default_transaction_deferrable", ["SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, DEFERRABLE"]),
    ("app.a", ["SELECT set_config('seed', '0.5', false)", "SET app.a = '1'"]),
    (f"app.{'x' * 63}", [f"SET app.{LONG} = 1"]),
]


@pytest.mark.parametrize(("name", "texts"), VALUES, ids=[str(texts[-1]) for _, texts in VALUES])
async def test_a_value_is_carried_as_it_is(side: Side, odd: str, name: str, texts: list[Any]) -> None:
    connection = await side.connect(odd, autocommit=True)
    for text in texts:
        await done(connection.execute(*(text if isinstance(text, tuple) else (text,))))
    before = told(connection, name)
    await switched(side, connection)
    assert told(connection, name).replace(b"none", b"") == before.replace(b"none", b"")
    await done(connection.close())


def test_an_umlaut_in_a_name(odd: str) -> None:
    with psycopg.connect(odd, autocommit=True) as connection:
        connection.execute("SET app.Ärger = 1")
        instrumented_wrapper.switch(connection)
        assert connection.execute("SHOW app.Ärger").fetchone() == ("1",)


LOCKED = ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()", "0")
FUNCTION = ("SELECT to_regprocedure('pg_temp.mine()') IS NULL", "True")
ROLE = ("SELECT current_user", "walker")
# What an app does; texts in brackets are sent in a transaction; then the question and its answer in a clean session.
LEAKS: list[tuple[list[Any], tuple[str, str]]] = [
    (["SELECT odd.tenant('x')"], TENANT),
    (["SELECT odd.tenant('x')", "SELECT odd.tenant('x')"], TENANT),
    (["SELECT odd.any('app.tenant', 'x')"], TENANT),
    (["SELECT odd.host('x')"], TENANT),
    (["SELECT odd.standard('x')"], TENANT),
    (["SELECT odd.deep3()"], TENANT),
    (["SELECT odd.tenant/* c */('x')"], TENANT),
    (["SELECT 1 FROM pg_class LEFT JOIN odd.tenant('x') ON true LIMIT 1"], TENANT),
    (["SELECT 1 FROM pg_class a JOIN pg_class b ON odd.tenant('x') = 'x' LIMIT 1"], TENANT),
    (["CALL odd.procedure('x')"], TENANT),
    (["DO $$ BEGIN PERFORM odd.tenant('x'); END $$"], TENANT),
    (["PREPARE q(text) AS SELECT odd.tenant($1)", "EXECUTE q('x')"], TENANT),
    (["PREPARE q AS SELECT set_config($1, $2, false)", "EXECUTE q('app.tenant', 'x')"], TENANT),
    (["PREPARE q AS SELECT odd.tenant('x')", "EXPLAIN ANALYZE EXECUTE q"], TENANT),
    (["SELECT set_config(n, v, false) FROM (VALUES ('app.tenant', '1'), ('app.b', '2')) t(n, v)"], TENANT),
    (["CREATE FUNCTION pg_temp.f(atomic bool) RETURNS int LANGUAGE sql AS 'SELECT 1'; SET app.tenant = 'x'"], TENANT),
    (["SELECT odd.locks()"], LOCKED),
    ([["SELECT odd.locks()", "ROLLBACK"]], LOCKED),
    (["DO $$ BEGIN PERFORM pg_advisory_lock(78); PERFORM 1 / 0; END $$"], LOCKED),
    (["SELECT odd.locks(), 1 / (i - 1) FROM generate_series(1, 1) i"], LOCKED),
    (["SELECT pg_advisory_lock(i), 1 / (3 - i) FROM generate_series(1, 3) i"], LOCKED),
    (["CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'", "DO $$ BEGIN END $$"], FUNCTION),
    (["INSERT INTO odd.triggering VALUES (1)"], ("SELECT current_setting('timezone') = 'Asia/Tokyo'", "False")),
]


async def leave(connection: Any, texts: list[Any]) -> None:
    for text in texts:
        with suppress(psycopg.errors.DivisionByZero):
            if isinstance(text, list):
                await leave(connection, ["BEGIN", *text])
            else:
                await done(connection.execute(text))


@pytest.mark.parametrize(("texts", "clean"), LEAKS, ids=[str(texts) for texts, _ in LEAKS])
async def test_nothing_leaks(side: Side, odd: str, texts: list[Any], clean: tuple[str, str]) -> None:
    keywords = {"autocommit": True, "instrumented_wrapper": {"reset_scope": "session"}}
    pool = await side.pool(odd, kwargs=keywords)
    async with inside(pool.connection()) as connection:
        first = connection.info.backend_pid
        await leave(connection, texts)
        ((left,),) = await rows(connection, clean[0])
    assert str(left) != clean[1], "what is tried is really left"
    async with inside(pool.connection()) as connection:
        assert connection.info.backend_pid == first
        ((value,),) = await rows(connection, clean[0])
        assert str(value) == clean[1]


async def test_what_psycopg_refuses_afterwards_was_done(side: Side, odd: str) -> None:
    pool = await side.pool(odd, kwargs={"autocommit": True})
    async with inside(pool.connection()) as connection:
        with suppress(psycopg.ProgrammingError):
            async with inside(connection.cursor()) as cursor:
                stream = cursor.stream("SET ROLE walk_tenant")
                await done(stream.__anext__() if side.is_async else next(stream))
        assert await rows(connection, "SELECT current_user") == [("walk_tenant",)]
    async with inside(pool.connection()) as connection:
        assert await rows(connection, "SELECT current_user") == [("walker",)]


async def test_what_a_server_cursor_sets_when_it_is_read(side: Side, odd: str) -> None:
    pool = await side.pool(odd)
    async with inside(pool.connection()) as connection, inside(connection.cursor("later")) as cursor:
        await done(cursor.execute("SELECT set_config('role', 'walk_tenant', false)"))
        await done(connection.execute("RESET ROLE"))
        await done(cursor.fetchall())
    async with inside(pool.connection()) as connection:
        assert await rows(connection, "SELECT current_user") == [("walker",)]


# --- the app does not notice -----------------------------------------------------------------------------------


async def test_a_question_creates_no_setting(side: Side, odd: str) -> None:
    connection = await side.connect(odd, autocommit=True)
    await done(connection.execute("SELECT odd.flag(false)"))
    assert await rows(connection, "SELECT current_setting('app.flag', true) IS NULL") == [(True,)]


def test_a_question_is_no_transaction_of_the_apps(odd: str) -> None:
    """A deferrable one would wait here until the other has ended."""
    connection = psycopg.connect(odd, autocommit=True)
    modes = "ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE"
    connection.execute(f"SET SESSION CHARACTERISTICS AS TRANSACTION {modes}")
    with psycopg.connect(odd) as other, ThreadPoolExecutor(1) as threads:
        other.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        other.execute("INSERT INTO odd.triggering VALUES (1)")
        try:
            threads.submit(connection.execute, "SET app.a = '1'").result(5)
            assert threads.submit(instrumented_wrapper.reset_session, connection).result(5)
        finally:
            other.rollback()
    connection.close()


async def test_the_list_of_settings_is_as_without_us(side: Side, odd: str) -> None:
    connection = await side.connect(odd, autocommit=True)
    await done(connection.execute("SET work_mem = '5MB'; DO $$ BEGIN END $$"))
    reset = instrumented_wrapper.reset_session_async if side.is_async else instrumented_wrapper.reset_session
    assert await done(reset(connection))
    assert (
        await rows(connection, "SELECT name FROM pg_settings WHERE source = 'session' AND setting <> reset_val") == []
    )
    assert (
        await rows(connection, "SELECT name FROM pg_settings WHERE name LIKE 'transaction%' AND source = 'session'")
        == []
    )


@pytest.fixture
def hardened(odd: str, cluster: Cluster) -> Iterator[str]:
    """A server on which an app may not ask: it has no right to look at the settings."""
    with psycopg.connect(odd, autocommit=True) as administrator:
        administrator.execute("REVOKE SELECT ON pg_catalog.pg_settings FROM PUBLIC")
        try:
            yield dsn(cluster.primary)
        finally:
            administrator.execute("GRANT SELECT ON pg_catalog.pg_settings TO PUBLIC")


async def test_a_question_that_is_refused(side: Side, hardened: str) -> None:
    connection = await side.connect(hardened, autocommit=True)
    for _ in range(3):
        assert await rows(connection, "SELECT odd.tenant('x')") == [("x",)]
    await done(connection.close())
    assert connection.closed
    pool = await side.pool(hardened, kwargs={"autocommit": True})
    async with inside(pool.connection()) as connection:
        first = connection.info.backend_pid
        await done(connection.execute("SELECT odd.tenant('x')"))
    async with inside(pool.connection()) as connection:
        assert connection.info.backend_pid != first, "nobody knows what it has: the pool throws it away"


@pytest.mark.skipif(psycopg.__version__ == "3.2.1", reason="hangs there, with or without us")
@pytest.mark.parametrize("text", ["SET app.a = '1'", "SELECT set_config('app.a', '1', false), pg_sleep(20)"])
def test_a_task_that_is_cancelled_while_we_ask(odd: str, proxy: Proxy, text: str) -> None:
    """The app's statement is not sent any more."""

    async def main() -> None:
        through = dsn(proxy, user="walker", password="walker")
        connection = await psycopg.AsyncConnection.connect(through, autocommit=True)
        proxy.hold()
        task = asyncio.create_task(connection.execute(text))
        while connection.info.transaction_status != psycopg.pq.TransactionStatus.ACTIVE:
            await asyncio.sleep(0)
        task.cancel()
        threading.Timer(0.1, proxy.release).start()  # psycopg 3.2 blocks the loop while it cancels
        with pytest.raises(asyncio.CancelledError):
            await task
        cursor = await connection.execute("SELECT current_setting('app.a', true)")
        assert await cursor.fetchone() == (None,)
        await connection.close()

    asyncio.run(asyncio.wait_for(main(), 10))


async def test_a_loss_while_we_ask_is_a_loss_before_sending(side: Side, odd: str, proxy: Proxy) -> None:
    through = dsn(proxy, user="walker", password="walker")
    connection = await side.connect(through, autocommit=True, instrumented_wrapper={"failover": "on"})
    proxy.cut_when(b"current_setting")
    await done(connection.execute("SET app.a = '1'"))
    assert await rows(connection, "SHOW app.a") == [("1",)]


async def test_a_new_session_that_is_lost_while_it_is_configured(
    side: Side, odd: str, proxy: Proxy, spans: Any
) -> None:
    through = dsn(proxy, user="walker", password="walker")
    connection = await side.connect(through, autocommit=True, instrumented_wrapper={"failover": "on"})
    await done(connection.execute("SET app.a = '1'"))
    proxy.cut_when(b"set_config")
    await switched(side, connection)
    assert await rows(connection, "SHOW app.a") == [("1",)]
    (span,) = spans.named("failover")
    assert span.attributes["instrumented_wrapper.attempts"] == 2


def test_ten_threads_learn_of_many_functions(odd: str) -> None:
    with psycopg.connect(odd, autocommit=True) as administrator:
        for number in range(20):
            body = f"SELECT odd.many{number - 1}()" if number else "SELECT 1"
            administrator.execute(
                f"CREATE OR REPLACE FUNCTION odd.many{number}() RETURNS int LANGUAGE sql AS $${body}$$"
            )

    def call_all(_: int) -> None:
        with psycopg.connect(odd, autocommit=True) as connection:
            for number in range(20):
                connection.execute(f"SELECT odd.many{number}()")

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(call_all, range(10)))
