"""A setting that the server reports and no statement of the app names, over a loss: a trigger sets the time zone.

PostgreSQL reports the time zone with the answer in which it changes, whoever has changed it. The wrapper does not ask.
"""

from collections.abc import Callable
from typing import Any

import pytest

from instrumented_wrapper import FailoverSuccessError, session_state

from .driver import DriverUnderTest

IS_ABOUT_SERVERS = True

ENDS_ITSELF = "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)"
SETS = """
    CREATE TABLE {name} (word text);
    GRANT ALL ON {name} TO PUBLIC;
    CREATE FUNCTION zone_{name}() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('timezone', NEW.word, false); RETURN NEW; END $$;
    CREATE TRIGGER zone BEFORE INSERT ON {name} FOR EACH ROW EXECUTE FUNCTION zone_{name}();
"""

Run = Callable[[Any, str], None]


@pytest.fixture
def run(driver: DriverUnderTest, site) -> Run:
    """Run a statement, and in a transaction commit it."""

    def run(connection: Any, statement: str) -> None:
        driver.execute(connection, statement)
        if driver.in_transaction(connection):
            driver.commit(connection)

    return run


@pytest.fixture
def write(driver: DriverUnderTest, site, run: Run) -> Callable[[Any], None]:
    """Write to a table whose trigger sets the time zone: once to learn the text, once for the test."""
    driver.needs("pg_settings")
    site.sql(SETS.format(name=site.name))

    def write(connection: Any) -> None:
        for zone in ("UTC", "Asia/Tokyo"):
            run(connection, f"INSERT INTO {site.name} VALUES ('{zone}')")

    return write


def test_it_is_carried_over_a_loss_between_statements(driver: DriverUnderTest, connect, site, write: Any) -> None:
    for autocommit in (True, False):
        connection = connect(autocommit=autocommit)
        write(connection)
        site.end_sessions()
        assert driver.execute(connection, "SHOW timezone") == [("Asia/Tokyo",)]
        assert session_state(connection)["timezone"].value == "Asia/Tokyo"


def test_it_is_carried_over_a_loss_under_way(driver: DriverUnderTest, connect, write: Any) -> None:
    connection = connect(autocommit=True)
    write(connection)
    with pytest.raises(FailoverSuccessError) as told:
        driver.execute(connection, ENDS_ITSELF)
    assert told.value.not_restored == ()
    assert driver.execute(connection, "SHOW timezone") == [("Asia/Tokyo",)]


def test_it_is_carried_or_named_where_a_later_transaction_is_lost(driver: DriverUnderTest, connect, write: Any) -> None:
    """Whether the transaction that was lost has set it cannot be told where both are noticed at once."""
    connection = connect(autocommit=False)
    write(connection)
    with pytest.raises(FailoverSuccessError) as told:
        driver.execute(connection, ENDS_ITSELF)
    driver.rollback(connection)
    carried = driver.execute(connection, "SHOW timezone") == [("Asia/Tokyo",)]
    assert (told.value.not_restored == ("timezone",)) is not carried


@pytest.mark.parametrize("lasts", ["SET", "SET LOCAL"])
def test_what_the_lost_transaction_has_named_is_rolled_back(driver: DriverUnderTest, connect, lasts: str) -> None:
    driver.needs("pg_settings")
    connection = connect(autocommit=False)
    driver.execute(connection, f"{lasts} timezone = 'Asia/Tokyo'")
    with pytest.raises(FailoverSuccessError) as told:
        driver.execute(connection, ENDS_ITSELF)
    assert told.value.not_restored == ()


def test_what_an_earlier_transaction_has_named_is_carried_over(driver: DriverUnderTest, connect, run: Run) -> None:
    driver.needs("pg_settings")
    connection = connect(autocommit=False)
    run(connection, "SET timezone = 'asia/tokyo'")
    with pytest.raises(FailoverSuccessError) as told:
        driver.execute(connection, ENDS_ITSELF)
    assert told.value.not_restored == ()
    driver.rollback(connection)
    assert driver.execute(connection, "SHOW timezone") == [("Asia/Tokyo",)]


def test_what_a_function_sets_in_a_transaction_is_noticed_when_it_has_ended(
    driver: DriverUnderTest, connect, site
) -> None:
    driver.needs("pg_settings")
    site.sql(f"""
        CREATE FUNCTION {site.name}() RETURNS text LANGUAGE sql AS
            $$ SELECT set_config('timezone', 'Asia/Tokyo', false) $$
    """)
    connection = connect(autocommit=False)
    driver.execute(connection, f"SELECT {site.name}()")
    driver.commit(connection)
    site.end_sessions()
    assert driver.execute(connection, "SHOW timezone") == [("Asia/Tokyo",)]


def test_a_return_to_the_pool_resets_it(driver: DriverUnderTest, pool, write: Any) -> None:
    opened = pool()
    connection = driver.take(opened)
    before = driver.execute(connection, "SHOW timezone")
    write(connection)
    driver.give_back(opened, connection)
    again = driver.take(opened)
    assert driver.execute(again, "SHOW timezone") == before
    driver.give_back(opened, again)
