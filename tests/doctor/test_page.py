"""The output on the page of the doctor is what it prints, but for numbers, and names of hosts."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from servers import Cluster, PgBouncer, pgbouncer

from .run import ROOT, doctor

PAGE = (ROOT / "docs" / "how-to" / "doctor.md").read_text()
APP = "import psycopg2, sqlite3\n\nsqlite3.connect(':memory:').close()\n"


def on_the_page(start: str) -> str:
    """Return the block that begins with such a line, in words."""
    [block] = [text for text in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL) if text.startswith(start)]
    return in_words(block, {})


def printed(section: str, names: dict[str, str], *arguments: str, **environment: str) -> str:
    output = doctor(*arguments, COLUMNS="100", **environment).stdout
    return in_words(output[output.index(section) :], names)


def in_words(text: str, names: dict[str, str]) -> str:
    for name, shown in names.items():
        text = text.replace(name, shown)
    return re.sub(r"\d+(\.\d+)*", "N", " ".join(text.split()))


def test_pair(cluster: Cluster) -> None:
    servers = zip((cluster.primary, cluster.standby), ("db1.local:15432", "db2.local:15432"), strict=True)
    names = {f"{server.host}:{server.port}": name for server, name in servers}
    cluster.primary.sql("ALTER ROLE app SET work_mem = '9MB'")
    try:
        url = f"postgresql://app:app-secret@{','.join(names)}/app"
        output = printed("postgresql://", names, "--dsn", url)
    finally:
        cluster.primary.sql("ALTER ROLE app RESET work_mem")
    assert output == on_the_page("postgresql://app:***@db1.local:15432,db2")


@pytest.mark.skipif(not pgbouncer.available(), reason="PgBouncer is not on this machine")
def test_pooler(cluster: Cluster) -> None:
    with PgBouncer(cluster.primary, "transaction") as pooler:
        name = f"{pooler.host}:{pooler.port}"
        output = printed("postgresql://", {name: "db3.local:16432"}, "--dsn", f"postgresql://app:app-secret@{name}/app")
    assert output == on_the_page("postgresql://app:***@db3")


def test_program(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP)
    names = {Path(sys.executable).name: "python"}
    output = printed("program ", names, "--", sys.executable, str(app), INSTRUMENTED_WRAPPER_FAILOVER="off")
    assert output == on_the_page("program python")
