"""The helpers of psycopg2.extras put rows into the text: its span has one name, however many there are."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg2 import extras

from ..watch import Watch


@pytest.mark.parametrize("rows", [[(1,)], [(1,), (None,)], [(None,), (2,), (3,)], [(n,) for n in range(250)]])
def test_execute_values_and_execute_batch_have_one_name(connect: Any, watch: Watch, spans: Any, rows: Any) -> None:
    connection = connect()
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("CREATE TEMP TABLE ld (id int)")
    spans.clear()
    extras.execute_values(cursor, "INSERT INTO ld VALUES %s", rows, page_size=100)
    extras.execute_batch(cursor, "INSERT INTO ld VALUES (%s)", rows, page_size=100)
    found = [span for span in spans.all() if span.name != "BEGIN"]
    assert {span.name for span in found} == {"INSERT ld"}
    assert len(found) == 2 * ((len(rows) + 99) // 100)
