"""Section 6: names of spans and series of metrics do not depend on what the app sends, on every driver."""

from .driver import DriverUnderTest

ROWS = ("(1)", "(2), (abs(-3))", "(4 + 5), (CASE WHEN 1 = 1 THEN 6 ELSE 7 END), (8)")


def test_rows_are_not_in_a_name(driver: DriverUnderTest, connect, spans, measured, table: str) -> None:
    cursor = driver.cursor(connect())
    spans.clear()
    for rows in ROWS:
        driver.execute_on(cursor, f"INSERT INTO {table} VALUES {rows}")
    named = {span.name for span in spans.all()} - {"BEGIN"}
    assert named == {f"INSERT {table}"}
    labels = {dict(attributes)["db.query.summary"] for attributes in measured.operations()}
    assert labels - {"BEGIN"} == {f"INSERT {table}"}


def test_data_that_turns_a_text_inside_out_is_not_told(driver: DriverUnderTest, connect, spans, measured) -> None:
    connection = connect()
    for data in ("O'hunter2", "don't tell: from hunter2", "rock ' hunter2 ' roll", "hunter2' ", "\\' hunter2 \\'"):
        cursor = driver.cursor(connection)
        spans.clear()
        try:
            driver.execute_on(cursor, f"SELECT '{data}', 'x'")
        except Exception:  # the server refuses most of them
            driver.rollback(connection)
        told = [span for span in spans.all() if span.name not in ("BEGIN", "ROLLBACK")]
        assert [span.name for span in told] == ["SELECT"]
        assert not [span for span in told if "hunter2" in span.to_json()]
    assert not [labels for labels in measured.operations() if "hunter2" in str(labels)]
