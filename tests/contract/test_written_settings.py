"""Settings that are written otherwise than by SET: through views of PostgreSQL's, rules, functions that run a text."""

import pytest

from instrumented_wrapper import session_state

from .driver import DriverUnderTest

IS_ABOUT_SERVERS = True

RUNS_TEXT = "SELECT * FROM ts_stat('SELECT to_tsvector(set_config(''lock_timeout'', ''4321'', false))')"
BY_TEXT = {  # the text says that a setting may be written
    "update": "UPDATE pg_settings SET setting = '{1}' WHERE name = '{0}'",
    "update of an alias": "UPDATE pg_catalog.pg_settings AS s SET setting = '{1}' WHERE s.name = '{0}'",
    "update of some": "UPDATE \"pg_settings\" SET setting = '{1}' WHERE name IN ('{0}', 'no such setting')",
    "explained": "EXPLAIN (ANALYZE) UPDATE pg_settings SET setting = '{1}' WHERE name = '{0}'",
    "merge": (
        "MERGE INTO {2} USING (SELECT set_config('{0}', '{1}', false)) AS s(v) ON false"
        " WHEN NOT MATCHED THEN INSERT VALUES (length(s.v))"
    ),
    "insert": "INSERT INTO {2} SELECT length(set_config('{0}', '{1}', false))",
}
UNSEEN = {  # it does not, and the server reports it
    "rule": "UPDATE seen_{2} SET setting = '{1}' WHERE name = '{0}'",
    "view": "INSERT INTO written_{2} VALUES ('{0}', '{1}')",
}
READ_ONLY = ("default_transaction_read_only", "on", "off")


@pytest.fixture
def prepared(driver: DriverUnderTest, site, table: str) -> str:
    """A view of the settings, a table whose rule writes them."""
    driver.needs("pg_settings")
    site.sql(f"CREATE VIEW seen_{table} AS SELECT * FROM pg_settings; GRANT ALL ON seen_{table} TO PUBLIC")
    site.sql(f"CREATE TABLE written_{table} (name text, setting text); GRANT ALL ON written_{table} TO PUBLIC")
    rule = "DO INSTEAD SELECT set_config(new.name, new.setting, false)"
    site.sql(f"CREATE RULE writes AS ON INSERT TO written_{table} {rule}")
    return table


def write(driver: DriverUnderTest, connection, text: str, *of: str) -> None:
    driver.execute(connection, text.format(*of))
    driver.commit(connection)


@pytest.mark.parametrize("way", [*BY_TEXT, *UNSEEN])
@pytest.mark.parametrize("autocommit", [True, False])
def test_read_only(driver: DriverUnderTest, connect, site, prepared, way: str, autocommit: bool) -> None:
    name, value, pristine = READ_ONLY
    connection = connect(autocommit=autocommit)
    write(driver, connection, {**BY_TEXT, **UNSEEN}[way], name, value, prepared)
    assert (session_state(connection)[name].value, session_state(connection)[name].is_pristine) == (value, False)
    site.end_sessions()
    assert driver.execute(connection, f"SHOW {name}") == [(value,)]
    driver.rollback(connection)
    assert driver.verb("reset_session")(connection)
    assert driver.execute(connection, f"SHOW {name}") == [(pristine,)]


@pytest.mark.parametrize("way", BY_TEXT)
def test_what_is_not_reported(driver: DriverUnderTest, connect, site, prepared, way: str) -> None:
    connection = connect()
    write(driver, connection, BY_TEXT[way], "lock_timeout", "4321", prepared)
    site.end_sessions()
    assert driver.execute(connection, "SHOW lock_timeout") == [("4321ms",)]
    driver.rollback(connection)
    assert driver.verb("reset_session")(connection)
    assert driver.execute(connection, "SHOW lock_timeout") == [("0",)]


def test_a_driver_that_sets_it_itself(driver: DriverUnderTest, connect, site, prepared) -> None:
    """psycopg2 does, in autocommit: that is no setting of the app's; what the app then writes is."""
    driver.needs("settings of the driver")
    name, value, pristine = READ_ONLY
    connection = connect(autocommit=True)
    driver.set(connection, "read_only", True)
    driver.execute(connection, "SELECT 1")
    assert name not in session_state(connection)
    driver.set(connection, "read_only", False)
    write(driver, connection, UNSEEN["rule"], name, value, prepared)
    assert session_state(connection)[name].value == value
    driver.verb("reset_session")(connection)
    assert driver.execute(connection, f"SHOW {name}") == [(pristine,)]


def test_a_function_that_runs_a_text(driver: DriverUnderTest, connect, site, prepared) -> None:
    connection = connect()
    write(driver, connection, RUNS_TEXT)
    assert driver.execute(connection, "SHOW lock_timeout") == [("4321ms",)]
    driver.rollback(connection)
    assert driver.verb("reset_session")(connection)
    assert driver.execute(connection, "SHOW lock_timeout") == [("0",)]
