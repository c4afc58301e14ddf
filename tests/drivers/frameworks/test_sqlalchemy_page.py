"""The code of the page on SQLAlchemy runs, and does what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from instrumented_wrapper import mark_pristine
from servers import Cluster

sqlalchemy = pytest.importorskip("sqlalchemy")
orm = pytest.importorskip("sqlalchemy.orm")

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "sqlalchemy.md").read_text()
BLOCKS = re.findall(r"<!-- runs -->\n```python\n(.*?)```", PAGE, re.DOTALL)


def run(cluster: Cluster, number: int, chosen: str = "on") -> dict[str, Any]:
    """Run one block of the page with an engine of one connection; return its names."""
    server = cluster.primary
    url = sqlalchemy.URL.create("postgresql+psycopg", "app", "app-secret", server.host, server.port, "app")
    ours = {"reset_on_return": chosen}
    engine = sqlalchemy.create_engine(url, connect_args={"instrumented_wrapper": ours}, pool_size=1, max_overflow=0)
    names = {
        "engine": engine,
        "Session": type("Session", (orm.Session,), {}),  # so that a listener is not one of all sessions
        "text": sqlalchemy.text,
        "event": sqlalchemy.event,
        "mark_pristine": mark_pristine,
    }
    exec(compile(BLOCKS[number], "docs/how-to/sqlalchemy.md", "exec"), names)
    return names


def shown(names: dict[str, Any], question: str) -> Any:
    with names["engine"].connect() as connection:
        return connection.exec_driver_sql(question).scalar()


@pytest.mark.parametrize(("chosen", "path"), [("on", '"$user", public'), ("report", "pg_catalog")])
def test_a_setting_does_not_outlast_commit(cluster: Cluster, chosen: str, path: str) -> None:
    assert run(cluster, 0, chosen)["path"] == path


def test_a_setting_of_each_transaction(cluster: Cluster, spans) -> None:
    names = run(cluster, 1)
    assert names["tenant"] == "acme"
    assert not spans.named("session_state.reset")


def test_a_setting_of_each_connection(cluster: Cluster, spans) -> None:
    names = run(cluster, 2)
    assert [shown(names, "SHOW statement_timeout") for _ in range(2)] == ["30s", "30s"]
    assert not spans.named("session_state.reset")


def test_a_setting_of_the_first_checkout(cluster: Cluster) -> None:
    names = run(cluster, 3)
    assert [shown(names, "SHOW lock_timeout") for _ in range(3)] == ["10s", "10s", "10s"]
