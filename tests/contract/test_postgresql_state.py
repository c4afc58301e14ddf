"""Session state of PostgreSQL that SQL sets, on every driver: it is there again after a switch, or it is named.

What is compared is what the server says, past what is tracked.
"""

from collections.abc import Callable
from typing import Any

import pytest

from instrumented_wrapper import FailoverFailedError, FailoverSuccessError, TransactionResolutionUnknownError
from servers import guard

from .app import App
from .driver import Callback, DriverUnderTest
from .rows import PATIENCE

pytestmark = pytest.mark.databases("postgresql")

SESSION = (
    "SET app.tenant = 'it''s \\ \"seven\"'",
    "SET search_path = 'Odd one', public",
    "SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE",
    "SET statement_timeout = '1h'",
    "SET datestyle = German",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE",
    "SET app.empty = ''",
    "SET SESSION AUTHORIZATION state_tenant",
    "SET ROLE state_other",
)
NAMES = ("app.tenant", "search_path", "timezone", "statement_timeout", "datestyle", "app.empty")
QUESTION = (
    "SELECT current_user::text, session_user::text, "
    + ", ".join(f"current_setting('{name}')" for name in (*NAMES, "default_transaction_isolation"))
)  # fmt: skip
HAS = (
    *("state_other", "state_tenant", 'it\'s \\ "seven"', '"Odd one", public', "<+02>-02", "1h", "German, DMY", ""),
    "serializable",
)
ON = {"failover": "on"}


@pytest.fixture
def superuser(app: Callable[..., App], site: Any) -> Callable[..., App]:
    """Connect a role that may set the session authorization."""
    site.sql(
        "DO $$ BEGIN CREATE ROLE state_boss SUPERUSER LOGIN PASSWORD 'app-secret'; CREATE ROLE state_tenant;"
        " CREATE ROLE state_other; GRANT state_other TO state_tenant; EXCEPTION WHEN duplicate_object THEN END $$"
    )
    return lambda **keywords: app(site.cluster.primary, options=ON, user="state_boss", **keywords)


def test_all_that_a_text_sets(superuser, spans) -> None:
    connection = superuser()
    for text in SESSION:
        connection.ask(text)
    assert connection.ask(QUESTION) == [HAS]
    before = dict(connection.state())
    spans.clear()
    connection.site.end_sessions()
    assert connection.ask(QUESTION) == [HAS]
    assert dict(connection.state()) == before, "a switch never changes what is pristine"
    (span,) = spans.named("session_state.transfer")
    assert span.attributes["instrumented_wrapper.round_trips"] == 1
    assert {event.attributes["outcome"] for event in span.events} == {"restored"}
    connection.switch()
    assert connection.ask(QUESTION) == [HAS]


def test_what_a_lost_commit_set_is_named(app) -> None:
    """Whether it counts is not known: the value before is carried, and the name is told."""
    connection = app()
    connection.ask("SET app.tenant = 'before'")
    connection.ask("BEGIN")
    connection.ask("SET app.tenant = 'open'")
    with pytest.raises(TransactionResolutionUnknownError) as caught:
        connection.ask("COMMIT; SELECT pg_terminate_backend(pg_backend_pid())")
    assert "app.tenant" in caught.value.not_restored
    connection.rollback()
    with pytest.raises(FailoverSuccessError):
        connection.ask("SELECT 1")
    connection.mark_pristine()
    assert connection.ask("SHOW app.tenant") == [("before",)]


def test_what_a_pool_configured_comes_back_and_is_still_the_baseline(driver: DriverUnderTest, pool, site) -> None:
    driver.needs("pools")
    driver.needs("pools that reset each setting")
    configure = Callback(statement="SET app.tenant = 'base'; SET work_mem = '6MB'; COMMIT")
    opened = pool(configure=configure, kwargs={"instrumented_wrapper": ON})
    question = "SELECT current_setting('app.tenant'), current_setting('work_mem')"
    connection = App(driver, site, driver.take(opened))
    connection.ask("SET work_mem = '7MB'")
    connection.commit()
    site.end_sessions()
    assert connection.ask(question) == [("base", "7MB")]
    connection.commit()
    driver.give_back(opened, connection.connection)
    again = driver.take(opened)
    assert App(driver, site, again).ask(question) == [("base", "6MB")]
    driver.give_back(opened, again)


def test_a_doubt_that_nobody_could_settle_is_named(app, site) -> None:
    connection = app(autocommit=False)
    connection.ask("SELECT set_config('work_mem', n || 'MB', false) FROM generate_series(5, 6) n")
    site.end_sessions()
    with pytest.raises(FailoverSuccessError) as caught:
        connection.ask("SELECT 1")
    assert caught.value.transaction == "rolled_back"
    assert caught.value.not_restored == (), "what it may have set is rolled back with it"
    connection.rollback()
    connection = app()
    with pytest.raises(FailoverSuccessError) as caught:
        connection.ask("DO $$ BEGIN SET app.x = 'y'; PERFORM pg_terminate_backend(pg_backend_pid()); END $$")
    assert "app.x" in caught.value.not_restored


@pytest.mark.parametrize("lost", [True, False])
def test_a_value_that_the_new_server_refuses(driver: DriverUnderTest, app, site, lost: bool, spans) -> None:
    gone = f"gone_{site.name}"
    site.sql(f"CREATE ROLE {gone}; GRANT {gone} TO app")
    connection = app()
    connection.ask("SET app.tenant = 'seven'")
    connection.ask(f"SET ROLE {gone}")
    site.sql(f"DROP ROLE {gone}")
    spans.clear()
    if lost:
        site.end_sessions()
    with pytest.raises(FailoverFailedError, match=r"refused the setting role \(22023\)") as caught:
        connection.ask("SELECT 1") if lost else connection.switch()
    assert gone not in str(caught.value)
    assert driver.is_closed(connection.connection) == lost, "a planned switch leaves the session where it was"
    (span,) = spans.named("session_state.transfer")
    outcomes = {event.attributes["name"]: event.attributes["outcome"] for event in span.events}
    assert outcomes == {"role": "failed", "app.tenant": "skipped"}
    if not lost:
        connection.ask("RESET ROLE")
        assert connection.ask("SHOW app.tenant") == [("seven",)]


def test_a_server_that_has_no_free_slot_may_have_one_soon(app, site, background) -> None:
    account, server = site.make_account("first"), site.cluster.primary
    connection = app(server, options=ON, **account)
    site.sql(f"ALTER ROLE {account['user']} CONNECTION LIMIT 0")
    site.end_sessions()
    moved = background(connection.ask, "SELECT 1")
    refusal = f'too many connections for role "{account["user"]}"'
    assert guard.wait_until(lambda: refusal in server.log.read_text(errors="replace"), PATIENCE)
    site.sql(f"ALTER ROLE {account['user']} CONNECTION LIMIT 10")
    assert moved.result(PATIENCE) == [(1,)]
