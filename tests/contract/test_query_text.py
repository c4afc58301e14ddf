"""Section 3, `query_text`: which text of a statement is shown, with parameters and without, on every driver."""

from contextlib import suppress
from typing import Any

import pytest

from .driver import DriverUnderTest

BOUND = "SELECT 'a literal', %s"


def statements(spans: Any) -> list[Any]:
    return [span for span in spans.all() if span.attributes.get("db.query.summary", "BEGIN") != "BEGIN"]


def shown(driver: DriverUnderTest, spans: Any) -> list[str | None]:
    """Return the texts of the statements' spans, with ``%s`` for each parameter."""
    place = {"sqlite3": ", ?", "asyncpg": ", $1"}.get(driver.name, BOUND[-4:])
    texts = [span.attributes.get("db.query.text") for span in statements(spans)]
    return [text and text.replace(place, ", %s") for text in texts]


def test_a_statement_with_parameters_is_shown_as_written(driver: DriverUnderTest, connect, spans) -> None:
    cursor = driver.cursor(connect())
    spans.clear()
    assert driver.execute_with(cursor, BOUND, ("x",)) == [("a literal", "x")]
    assert shown(driver, spans) == [BOUND]


@pytest.mark.parametrize("nothing", [(), {}, [], None])
def test_no_parameters_bind_nothing(driver: DriverUnderTest, connect, spans, nothing: Any) -> None:
    cursor = driver.cursor(connect())
    spans.clear()
    with suppress(Exception):  # sqlite3 takes no None
        driver.execute_with(cursor, "SELECT 'a literal'", nothing)
    assert shown(driver, spans) == ["SELECT ?"]


def test_parameters_that_have_no_place_bind_nothing(driver: DriverUnderTest, connect, spans) -> None:
    cursor = driver.cursor(connect())
    spans.clear()
    with suppress(Exception):  # most drivers refuse them
        driver.execute_with(cursor, "SELECT 'a literal'", {"a": 1})
    assert shown(driver, spans) == ["SELECT ?"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE USER nobody_%s PASSWORD 'literal-secret'",
        "ALTER USER nobody IDENTIFIED BY 'literal-secret' COMMENT %s",
        "ALTER ROLE nobody PASSWORD 'literal-secret' VALID UNTIL %s",
        "CREATE SERVER nowhere FOREIGN DATA WRAPPER x OPTIONS (password 'literal-secret', host %s)",
        "CREATE SUBSCRIPTION s CONNECTION 'password=literal-secret' PUBLICATION %s",
        "SET PASSWORD FOR nobody = 'literal-secret', %s",
        "CHANGE REPLICATION SOURCE TO SOURCE_PASSWORD = 'literal-secret', SOURCE_HOST = %s",
        "ATTACH %s AS a KEY 'literal-secret'",
        "PRAGMA key = 'literal-secret' || %s",
        "SELECT %s; SET my.key = 'literal-secret'",
        "SELECT 'literal-secret' AS password, %s",
        "SELECT set_config('my.key', 'literal-secret', %s)",
        "COPY t FROM PROGRAM 'curl -u x:literal-secret' WITH (FORMAT %s)",
    ],
)
def test_what_may_carry_credentials_is_never_shown_as_written(
    driver: DriverUnderTest, connect, spans, statement: str, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)  # SQLite makes a file of what it attaches
    cursor = driver.cursor(connect())
    spans.clear()
    with suppress(Exception):  # few of these are statements of this database; refused ones are recorded, too
        driver.execute_with(cursor, statement, ("x",))
    (text,) = (text for span in spans.all() if (text := span.attributes.get("db.query.text")) not in (None, "BEGIN"))
    assert "?" in text
    assert "literal-secret" not in str([span.to_json() for span in spans.all()])


def test_a_batch_is_shown_as_written_where_its_first_set_has_parameters(
    driver: DriverUnderTest, connect, spans, table: str
) -> None:
    cursor = driver.cursor(connect())
    spans.clear()
    driver.execute_many(cursor, f"INSERT INTO {table} VALUES (%s + 987654)", [(1,), (2,)])
    with suppress(Exception):  # not every driver takes a text without parameters there
        driver.execute_many(cursor, f"INSERT INTO {table} VALUES (987654)", [(), ()])
    written, *_, bare = shown(driver, spans)
    assert written is not None and "+ 987654" in written
    assert bare is not None and "987654" not in bare


@pytest.mark.parametrize("query_text", ["auto", "sanitized", "off"])
def test_the_option(driver: DriverUnderTest, connect, spans, query_text: str) -> None:
    connection = connect(instrumented_wrapper={"query_text": query_text})
    cursor = driver.cursor(connection)
    spans.clear()
    driver.execute_with(cursor, BOUND, ("x",))
    driver.execute_on(cursor, "SELECT 'a literal'")
    driver.execute_with(driver.cursor(connect()), BOUND, ("x",))  # another connection to the same server
    expected = {"auto": [BOUND, "SELECT ?"], "sanitized": ["SELECT ?, %s", "SELECT ?"], "off": [None, None]}
    assert shown(driver, spans) == [*expected[query_text], BOUND]
    assert {span.name for span in statements(spans)} == {"SELECT"}
