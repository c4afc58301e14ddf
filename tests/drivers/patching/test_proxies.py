"""Beside a tool that puts proxies around connections, as OpenTelemetry's own instrumentations do: in either order."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest
from opentelemetry.instrumentation import dbapi

from instrumented_wrapper import mark_pristine, reset_session, session_state, switch

LOOKED_AFTER = """
from opentelemetry.instrumentation import dbapi
import instrumented_wrapper as iw
import {module}
{first}
{second}
connection = {module}.connect({arguments})
def run(sql):
    cursor = connection.cursor()
    cursor.execute(sql)
    return cursor.fetchall() if cursor.description else None
before = run({value!r})
run({change!r})
connection.commit()
assert run({value!r}) != before
connection.rollback()
print(iw.session_state(connection))
assert iw.reset_session(connection)
assert run({value!r}) == before
connection.rollback()
connection.close()
iw.uninstrument()
dbapi.unwrap_connect({module}, "connect")
"""
OURS, THEIRS = "iw.instrument()", "dbapi.wrap_connect('other', {module}, 'connect', 'any')"


def run(module: str, arguments: str, change: str, value: str, ours_first: bool) -> str:
    theirs = THEIRS.format(module=module)
    first, second = (OURS, theirs) if ours_first else (theirs, OURS)
    given = {"module": module, "arguments": arguments, "change": change, "value": value}
    script = LOOKED_AFTER.format(first=first, second=second, **given)
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stderr == ""
    return ran.stdout.strip()


@pytest.mark.parametrize("ours_first", [True, False])
def test_sqlite3(ours_first: bool) -> None:
    pragma = "PRAGMA foreign_keys"
    assert run("sqlite3", "':memory:'", f"{pragma} = 1", pragma, ours_first) == "foreign_keys: 0 -> 1"


@pytest.mark.parametrize("ours_first", [True, False])
def test_a_proxy_around_psycopg2_is_taken_in_either_order(cluster, ours_first: bool) -> None:
    arguments = f"{cluster.primary.dsn()!r}, cursor_factory=psycopg2.extensions.cursor"
    told = run("psycopg2", arguments, "SET work_mem = '5MB'", "SHOW work_mem", ours_first)
    assert told == "work_mem: 4MB -> 5MB"


def test_a_factory_is_given_to_another_tool_by_its_name(cluster) -> None:
    """OpenTelemetry's own instrumentation of psycopg2 looks for ``cursor_factory`` among the keywords, and sets it."""
    script = f"""
import psycopg2, instrumented_wrapper
from psycopg2.extras import RealDictCursor
original = psycopg2.connect
def connect(*args, **kwargs):
    kwargs["cursor_factory"] = kwargs.get("cursor_factory") or RealDictCursor
    return original(*args, **kwargs)
psycopg2.connect = connect
instrumented_wrapper.instrument()
with psycopg2.connect({cluster.primary.dsn()!r}).cursor() as cursor:
    cursor.execute("SELECT 1 AS one")
    print(dict(cursor.fetchone()))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout.strip(), ran.stderr) == ("{'one': 1}", "")


@pytest.fixture(params=["pymysql", "MySQLdb", "mysql.connector"])
def proxy(request: pytest.FixtureRequest, running_mariadb: Any) -> Any:
    try:
        driver = import_module(request.param)
    except ImportError as error:
        pytest.skip(f"{request.param} is not installed: {error}")
    running_mariadb.restore()
    server = running_mariadb.primary
    where = {"host": server.host, "port": server.port, "user": "app", "password": "app-secret", "database": "app"}
    connection = driver.connect(**where, autocommit=True, instrumented_wrapper={"failover": "on"})
    yield dbapi.instrument_connection("other", connection, "mysql")
    connection.close()


def test_what_is_asked_of_a_proxy_is_asked_of_the_connection(proxy: Any) -> None:
    def ask(sql: str) -> Any:
        cursor = proxy.cursor()
        cursor.execute(sql)
        return cursor.fetchall()[0][0] if cursor.description else None

    pristine, number = ask("SELECT @@time_zone"), ask("SELECT CONNECTION_ID()")
    ask("SET time_zone = '+02:00'")
    assert session_state(proxy)["time_zone"].value == "+02:00"
    switch(proxy)
    assert ask("SELECT CONNECTION_ID()") != number
    assert ask("SELECT @@time_zone") == "+02:00"
    assert reset_session(proxy)
    assert ask("SELECT @@time_zone") == pristine
    ask("SET time_zone = '+02:00'")
    mark_pristine(proxy)
    assert session_state(proxy)["time_zone"].is_pristine
