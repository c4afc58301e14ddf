"""What a return to SQLAlchemy's pool does with a changed session, over each driver: `reset_on_return`."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
from typing import Any

import pytest

from instrumented_wrapper import SessionStateTransferHandlers, mark_pristine, reset_session, session_state, switch

from .test_sqlalchemy import ask, cluster, end, engine, kind, needs_autocommit, own  # noqa: F401 - fixtures

sqlalchemy = pytest.importorskip("sqlalchemy")

# What the app sets, and what shows it. Twelve of each database.
ON_POSTGRESQL = [
    ("SET ROLE reader", "SELECT current_user"),
    ("SET app.tenant = 'acme'", "SELECT coalesce(current_setting('app.tenant', true), '')"),
    ("SELECT set_config('app.user', 'x', false)", "SELECT coalesce(current_setting('app.user', true), '')"),
    ("SET search_path = pg_catalog", "SHOW search_path"),
    ("SET TIME ZONE 'Asia/Tokyo'", "SHOW timezone"),
    ("SET statement_timeout = '1h'", "SHOW statement_timeout"),
    ("SET work_mem = '5MB'", "SHOW work_mem"),
    ("SET datestyle = German", "SHOW datestyle"),
    ("SET application_name = 'me'", "SHOW application_name"),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SHOW default_transaction_read_only"),
    (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SHOW default_transaction_isolation",
    ),
    ("DO $$ BEGIN SET lock_timeout = '1h'; END $$", "SHOW lock_timeout"),
]
ON_MYSQL = [
    ("SET @tenant = 'acme'", "SELECT COALESCE(@tenant, '')"),
    ("SET time_zone = '+05:00'", "SELECT @@time_zone"),
    ("SET sql_mode = 'ANSI'", "SELECT @@sql_mode"),
    ("SET NAMES latin1", "SELECT @@character_set_results"),
    ("SET lock_wait_timeout = 77", "SELECT @@lock_wait_timeout"),
    ("SET SESSION group_concat_max_len = 777", "SELECT @@group_concat_max_len"),
    ("SET foreign_key_checks = 0", "SELECT @@foreign_key_checks"),
    ("SET unique_checks = 0", "SELECT @@unique_checks"),
    ("SET sql_safe_updates = 1", "SELECT @@sql_safe_updates"),
    ("SET sql_select_limit = 7", "SELECT @@sql_select_limit"),
    ("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SELECT @@tx_isolation"),
    ("SET lc_time_names = 'de_DE'", "SELECT @@lc_time_names"),
]


@pytest.fixture
def states(kind, cluster) -> list[tuple[str, str]]:  # noqa: F811
    if not kind.dialect.startswith("postgresql"):
        return ON_MYSQL
    if not cluster.primary.sql("SELECT 1 FROM pg_roles WHERE rolname = 'reader'"):
        cluster.primary.sql("CREATE ROLE reader; GRANT reader TO app")
    return ON_POSTGRESQL


def leave(pool: Any, *texts: str) -> None:
    """Change the session of a connection, and return it to the pool."""
    with pool.begin() as connection:
        for text in texts:
            connection.exec_driver_sql(text)


def seen(pool: Any, question: str) -> str:
    with pool.connect() as connection:
        return shown(connection, question)


def shown(connection: Any, question: str) -> str:
    value = ask(connection, question)
    return value.decode() if isinstance(value, bytes) else str(value)


def resets(spans: Any) -> list[Any]:
    """Return the resets of returns to a pool; `dispose()` closes, which resets, too."""
    found = spans.named("session_state.reset")
    return [span for span in found if span.attributes["instrumented_wrapper.trigger"] == "pool_return"]


def leaks(pool: Any, states: list[tuple[str, str]]) -> list[str]:
    """Return which states the next borrower inherits; each one begins with a new session."""
    found = []
    for text, question in states:
        pool.dispose()
        before = seen(pool, question)
        leave(pool, text)
        found += [text] if seen(pool, question) != before else []
    return found


@pytest.mark.parametrize("chosen", ["on", "close"])
def test_nothing_is_left(kind, engine, states, chosen: str) -> None:  # noqa: F811
    assert leaks(engine({"reset_on_return": chosen}), states) == []


@pytest.mark.parametrize("chosen", ["auto", "report", "off"])
def test_each_state_is_left(kind, engine, states, spans, chosen: str) -> None:  # noqa: F811
    assert leaks(engine({"reset_on_return": chosen}), states) == [text for text, _ in states]
    assert len(spans.named("session_state.leak")) == (0 if chosen == "off" else len(states))
    assert not resets(spans)


def test_all_at_once_go_in_one_round_trip(kind, engine, states, spans) -> None:  # noqa: F811
    pool = engine({"reset_on_return": "on"})
    before = [seen(pool, question) for _, question in states]
    with pool.connect() as connection:
        raw, number = own(connection), ask(connection, kind.number)
    leave(pool, *(text for text, _ in states if "ROLE" not in text))
    (span,) = resets(spans)
    assert span.attributes["instrumented_wrapper.round_trips"] == 1
    assert [seen(pool, question) for _, question in states] == before
    with pool.connect() as connection:
        assert (own(connection), ask(connection, kind.number)) == (raw, number)


def test_it_happens_after_the_listeners(kind, engine) -> None:  # noqa: F811
    pool = engine({"reset_on_return": "on"})
    before, during = seen(pool, kind.value), []

    @sqlalchemy.event.listens_for(pool, "checkin")
    def checkin(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(kind.value)
        during.append(str(cursor.fetchone()[0]))
        cursor.execute(kind.change)
        cursor.close()
        connection.commit()

    leave(pool, kind.change)
    assert during[-1] != before
    assert seen(pool, kind.value) == before


def test_what_a_connect_listener_sets_stays(kind, engine) -> None:  # noqa: F811
    pool = engine({"reset_on_return": "on"})

    @sqlalchemy.event.listens_for(pool, "connect")
    def configure(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(kind.change)
        cursor.close()
        connection.commit()

    configured = seen(pool, kind.value)
    leave(pool, "SET search_path = public" if "search_path" in kind.change else "SET time_zone = '+07:00'")
    assert seen(pool, kind.value) == configured


@pytest.mark.parametrize("level", ["SERIALIZABLE", "AUTOCOMMIT"])
@pytest.mark.parametrize("chosen", ["on", "close", "report"])
def test_the_isolation_level_of_an_execution_option_is_no_change(kind, engine, spans, level, chosen) -> None:  # noqa: F811
    pool = engine({"reset_on_return": chosen})
    needs_autocommit(pool)
    with pool.connect() as connection:
        before, number = connection.get_isolation_level(), ask(connection, kind.number)
    for _ in range(2):
        with pool.connect().execution_options(isolation_level=level) as connection:
            assert connection.get_isolation_level() == level or level == "AUTOCOMMIT"
            ask(connection, "SELECT 1")
    with pool.connect() as connection:
        assert (connection.get_isolation_level(), ask(connection, kind.number)) == (before, number)
    assert not spans.named("session_state.leak") + spans.named("session_state.reset")


def test_a_reset_that_fails_costs_the_pool_the_connection(kind, cluster, engine) -> None:  # noqa: F811
    pool, invalidated = engine({"reset_on_return": "on"}), []
    sqlalchemy.event.listen(pool, "invalidate", lambda *given: invalidated.append(given))
    before = seen(pool, kind.value)
    with pool.connect() as connection:
        raw, number = own(connection), ask(connection, kind.number)
        connection.exec_driver_sql(kind.change)
        connection.commit()
        end(kind, cluster, number)
    assert len(invalidated) == 1
    with pool.connect() as connection:
        assert own(connection) is not raw
        assert ask(connection, kind.value) == before
    assert pool.pool.checkedout() == 0


def test_a_reset_that_is_interrupted_costs_the_pool_the_connection(kind, engine) -> None:  # noqa: F811
    pool = engine({"reset_on_return": "on"})
    before = seen(pool, kind.value)

    def interrupted(state: Any, connection: Any) -> bool:
        raise KeyboardInterrupt

    SessionStateTransferHandlers.set_reset_session_state_on_close_func(interrupted)
    try:
        with pytest.raises(KeyboardInterrupt), pool.connect() as connection:
            raw = own(connection)
            connection.exec_driver_sql(kind.change)
            connection.commit()
    finally:
        SessionStateTransferHandlers.clear_reset_session_state_on_close_func()
    with pool.connect() as connection:
        assert own(connection) is not raw
        assert ask(connection, kind.value) == before
    assert pool.pool.checkedout() == 0


@pytest.mark.parametrize("chosen", ["on", "close", "report"])
def test_the_garbage_collector_sends_nothing(kind, engine, spans, chosen: str) -> None:  # noqa: F811
    pool = engine({"reset_on_return": chosen})
    before = seen(pool, kind.value)
    connection = pool.connect()
    raw = own(connection)
    connection.exec_driver_sql(kind.change)
    connection.commit()
    del connection
    gc.collect()
    assert not spans.named("session_state.leak") + spans.named("session_state.reset")
    with pool.connect() as connection:
        assert (own(connection) is raw) == (chosen == "report")
        assert (str(shown(connection, kind.value)) == before) == (chosen != "report")
    assert len(spans.named("session_state.leak")) == (chosen == "report")


@pytest.mark.parametrize("pool_class", ["NullPool", "StaticPool", "SingletonThreadPool"])
def test_pools_that_keep_or_close_are_left_alone(kind, engine, spans, pool_class: str) -> None:  # noqa: F811
    pool = engine({"reset_on_return": "on"}, poolclass=getattr(sqlalchemy.pool, pool_class))
    before = seen(pool, kind.value)
    leave(pool, kind.change)
    assert (seen(pool, kind.value) == before) == (pool_class == "NullPool")
    assert not spans.named("session_state.leak")


def test_one_warning_for_each_setting(kind, engine, caplog) -> None:  # noqa: F811
    pool = engine(pool_logging_name=f"orders of {kind.driver}")
    with caplog.at_level(logging.WARNING, "instrumented_wrapper"):
        for _ in range(3):
            leave(pool, kind.change)
    warned = [record.getMessage() for record in caplog.records if "orders of" in record.getMessage()]
    assert len(warned) == 1
    assert "reset_on_return=on" in warned[0]


def test_the_pool_is_named(kind, engine, spans) -> None:  # noqa: F811
    leave(engine(pool_logging_name="orders"), kind.change)
    (span,) = spans.named("session_state.leak")
    assert span.attributes["db.client.connection.pool.name"] == "orders"


# --- transactions that were lost ----------------------------------------------------------------------------------


def test_a_transaction_lost_at_commit_does_not_reach_the_next_borrower(kind, cluster, engine) -> None:  # noqa: F811
    pool = engine()
    leave(pool, "CREATE TABLE IF NOT EXISTS lost_at_commit (i int)", "DELETE FROM lost_at_commit")
    with pytest.raises(sqlalchemy.exc.DBAPIError), pool.connect() as connection:
        connection.exec_driver_sql("INSERT INTO lost_at_commit VALUES (1)")
        end(kind, cluster, ask(connection, kind.number))
        connection.commit()
    with pool.connect() as connection:
        assert ask(connection, "SELECT count(*) FROM lost_at_commit") == 0
        connection.exec_driver_sql("INSERT INTO lost_at_commit VALUES (2)")
        connection.commit()
    assert seen(pool, "SELECT count(*) FROM lost_at_commit") == "1"


def test_instrumented_after_the_connection_was_made() -> None:
    """A connection that nobody watches goes back as ever; the verbs leave it alone."""
    script = """
import sqlalchemy, instrumented_wrapper as iw
from sqlalchemy.pool import QueuePool
engine = sqlalchemy.create_engine("sqlite://", poolclass=QueuePool)
with engine.connect() as connection:
    for held in (connection, connection.connection, connection.connection.dbapi_connection):
        assert iw.session_state(held) == {} and iw.reset_session(held)
        iw.mark_pristine(held)
iw.instrument(reset_on_return="on")
with engine.connect() as connection:
    assert iw.session_state(connection) == {} and iw.reset_session(connection)
print("done")
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr) == ("done\n", "")


def test_the_verbs_take_what_an_app_holds(kind, engine) -> None:  # noqa: F811
    from sqlalchemy.orm import Session

    pool = engine()
    with Session(pool) as session:
        before = session.connection().exec_driver_sql(kind.value).scalar()
        session.connection().exec_driver_sql(kind.change)
        session.commit()
    with pool.connect() as connection:
        for held in (connection, connection.connection, connection.connection.dbapi_connection):
            assert session_state(held)
        assert reset_session(connection)
        assert ask(connection, kind.value) == before


def test_the_verbs_where_nothing_is_instrumented(kind, cluster) -> None:  # noqa: F811
    """The driver is not patched, and a connection is left alone."""
    server = cluster.primary
    url = sqlalchemy.URL.create(kind.dialect, "app", "app-secret", server.host, server.port, "app")
    script = f"""
import sqlalchemy, instrumented_wrapper as iw
engine = sqlalchemy.create_engine({url.render_as_string(hide_password=False)!r})
with engine.connect() as connection:
    connection.exec_driver_sql({kind.change!r})
    for held in (connection, connection.connection, connection.connection.dbapi_connection):
        assert iw.session_state(held) == {{}}
        assert iw.reset_session(held)
        iw.mark_pristine(held)
        try:
            iw.switch(held)
        except RuntimeError as error:
            assert "instrument()" in str(error)
print("done")
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr) == ("done\n", "")


def test_connections_of_drivers_that_are_not_supported(caplog) -> None:
    class Connection:
        def cursor(self) -> Any:
            raise NotImplementedError

        def rollback(self) -> None:
            """Do nothing."""

        close = commit = rollback

    held = sqlalchemy.pool.QueuePool(Connection, pool_size=1).connect()
    for connection in (held, held.dbapi_connection):
        assert dict(session_state(connection)) == {}
        assert reset_session(connection)
        mark_pristine(connection)
        with pytest.raises(TypeError, match=r"not a connection of psycopg.*: Connection"):
            switch(connection)
    held.close()
