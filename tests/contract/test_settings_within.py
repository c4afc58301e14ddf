"""What code of the database sets while a statement runs: trigger, view, default, operator, aggregate, function.

The text of the statement does not show it. What the server reports is seen wherever it is set, and so is what a
function or an aggregate sets that the text calls. The rest is not seen: docs/reference/drivers/psycopg.md says so.
"""

from typing import Any

import pytest

from instrumented_wrapper import session_state

from .driver import DriverUnderTest

IS_ABOUT_SERVERS = True

CALL = "set_config('{setting}', '{value}', false)"
# place -> what makes it, and the statement of the app; {name} is the test's own
WITHIN = {
    "trigger": (
        "CREATE TABLE {name} (id int); CREATE FUNCTION f_{name}() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM {call}; RETURN NEW; END $$;"
        " CREATE TRIGGER sets BEFORE INSERT ON {name} FOR EACH ROW EXECUTE FUNCTION f_{name}()",
        "INSERT INTO {name} VALUES (1)",
    ),
    "view": ("CREATE VIEW {name} AS SELECT {call}", "SELECT * FROM {name}"),
    "rule": (
        "CREATE TABLE {name} (id int); CREATE RULE sets AS ON INSERT TO {name} DO ALSO SELECT {call}",
        "INSERT INTO {name} VALUES (1)",
    ),
    "default": ("CREATE TABLE {name} (id int, t text DEFAULT {call})", "INSERT INTO {name} (id) VALUES (1)"),
    "check": (
        "CREATE TABLE {name} (id int CHECK ({call} IS NOT NULL))",
        "INSERT INTO {name} VALUES (1)",
    ),
    "operator": (
        "CREATE FUNCTION f_{name}(int, int) RETURNS text LANGUAGE sql AS $$ SELECT {call} $$;"
        " CREATE SCHEMA {name}; CREATE OPERATOR {name}.@@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = f_{name});"
        " GRANT USAGE ON SCHEMA {name} TO PUBLIC",
        "SELECT 1 OPERATOR({name}.@@@) 2",
    ),
    "cast": (
        "CREATE TYPE {name} AS (i int); CREATE FUNCTION f_{name}(int) RETURNS {name} LANGUAGE sql AS"
        " $$ SELECT ROW(length({call}))::{name} $$; CREATE CAST (int AS {name}) WITH FUNCTION f_{name}(int)",
        "SELECT 1::{name}",
    ),
}
CALLED = {
    "aggregate": (
        "CREATE FUNCTION f_{name}(text, int) RETURNS text LANGUAGE sql AS $$ SELECT {call} $$;"
        " CREATE AGGREGATE {name}(int) (SFUNC = f_{name}, STYPE = text)",
        "SELECT {name}(1)",
    ),
    "function": (
        "CREATE FUNCTION {name}() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN {call}; END $$",
        "SELECT {name}()",
    ),
    "function that is inlined": (
        "CREATE FUNCTION {name}() RETURNS text LANGUAGE sql AS $$ SELECT {call} $$",
        "SELECT {name}()",
    ),
}


@pytest.fixture
def run_within(driver: DriverUnderTest, connect, site):
    """Make a place that sets a setting, and run the statement that comes through it."""
    driver.needs("pg_settings")

    def run_within(place: tuple[str, str], setting: str, value: str) -> Any:
        made, statement = place
        site.sql(made.format(name=site.name, call=CALL.format(setting=setting, value=value)))
        site.sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC")
        connection = connect(autocommit=True)
        driver.execute(connection, statement.format(name=site.name))
        assert driver.execute(connection, f"SELECT current_setting('{setting}')") == [(value,)]
        return connection

    return run_within


@pytest.mark.parametrize("place", {**WITHIN, **CALLED})
def test_what_the_server_reports_is_seen_wherever_it_is_set(driver: DriverUnderTest, run_within, place: str) -> None:
    connection = run_within({**WITHIN, **CALLED}[place], "TimeZone", "Asia/Tokyo")
    assert session_state(connection)["timezone"].value == "Asia/Tokyo"


@pytest.mark.parametrize("place", CALLED)
@pytest.mark.parametrize("setting", ["app.tenant", "work_mem"])
def test_what_a_function_sets_that_the_text_calls_is_seen(run_within, place: str, setting: str) -> None:
    connection = run_within(CALLED[place], setting, "5MB")
    assert session_state(connection)[setting].value == "5MB"


@pytest.mark.parametrize("place", WITHIN)
@pytest.mark.parametrize("setting", ["app.tenant", "work_mem"])
def test_what_else_is_set_within_is_not_seen(run_within, place: str, setting: str) -> None:
    """This is a limit, which the documentation names: where it falls, the page has to change."""
    connection = run_within(WITHIN[place], setting, "5MB")
    assert setting not in session_state(connection)


@pytest.mark.databases("postgresql")
def test_behind_a_pooler_no_pristine_value_is_queried(driver: DriverUnderTest, connect: Any, site: Any, proxy) -> None:
    """The answer could be that of another session of the server."""
    connection = connect(site.dsn(proxy), autocommit=True, instrumented_wrapper={"pooler": "transaction"})
    sent = []
    for _ in range(2):
        proxy.clear()
        driver.execute(connection, "SET work_mem = '8MB'")
        sent.append(site.round_trips(proxy))
    assert sent[0] == sent[1]
