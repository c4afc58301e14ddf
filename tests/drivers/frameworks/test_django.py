"""Django's connections: how Django configures a new one is the baseline, also after a loss."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest

pytest.importorskip("django")

APP = """
import json, sys
import instrumented_wrapper as iw
iw.instrument()
given = json.loads(sys.argv[1])
for hidden in given["hidden"]:
    sys.modules[hidden] = None
if given["as_mysqldb"]:
    import pymysql
    pymysql.install_as_MySQLdb()
import django
from django.conf import settings
settings.configure(DATABASES={"default": given["database"]})
django.setup()
from django.db import connection, transaction
from django.db.backends.signals import connection_created
def ask(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None
connection_created.connect(lambda connection, **_: ask(given["configured"]), weak=False)
baseline = ask(given["value"])
raw = connection.connection
state = iw.session_state(raw)
assert all(setting.is_pristine for setting in state.values()), state
ask(given["change"])
assert ask(given["value"]) != baseline
assert iw.reset_session(raw)
assert ask(given["value"]) == baseline
assert connection.get_autocommit()
ask("CREATE TABLE IF NOT EXISTS of_django (i integer)")
ask("DELETE FROM of_django")
ask("INSERT INTO of_django VALUES (1)")
with transaction.atomic():
    ask("INSERT INTO of_django VALUES (2)")
print(json.dumps([ask("SELECT COUNT(*) FROM of_django"), baseline]), flush=True)
if given["number"]:
    print(ask(given["number"]), flush=True)
    sys.stdin.readline()
    assert ask("SELECT COUNT(*) FROM of_django") == 2
    assert connection.connection is raw
    print(ask(given["value"]), flush=True)
connection.close()
"""


DEFAULTS = {"hidden": [], "number": "", "as_mysqldb": False}


def begun(**given: Any) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-W", "ignore", "-c", APP, json.dumps({**DEFAULTS, **given})]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_sqlite3(tmp_path) -> None:
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "app.sqlite")}
    pragma = "PRAGMA busy_timeout"
    app = begun(database=database, configured=f"{pragma} = 700", change=f"{pragma} = 50", value=pragma)
    told, complaints = app.communicate(timeout=60)
    assert (told, complaints) == ("[2, 700]\n", "")


def lost_in_between(cluster: Any, engine: str, end: str, baseline: str, **given: Any) -> None:
    """Let the server end the session of an app; it must not notice."""
    server = cluster.primary
    where = {"HOST": server.host, "PORT": server.port, "USER": "app", "PASSWORD": "app-secret", "NAME": "app"}
    options = {"instrumented_wrapper": {"failover_hosts": cluster.hosts()}}
    app = begun(database={"ENGINE": f"django.db.backends.{engine}", "OPTIONS": options, **where}, **given)
    assert app.stdout is not None
    lines = [app.stdout.readline(), app.stdout.readline()]
    if all(lines):
        server.sql(end.format(int(lines[1])))
    told, complaints = app.communicate("go on\n", timeout=60)
    assert complaints == ""
    assert json.loads(lines[0]) == [2, baseline]
    assert told.strip() == baseline


@pytest.mark.parametrize("hidden", [["psycopg2"], ["psycopg"]], ids=["psycopg", "psycopg2"])
def test_postgresql(cluster, hidden: list[str]) -> None:
    lost_in_between(
        cluster,
        "postgresql",
        "SELECT pg_terminate_backend({}, 10000)",
        "5MB",
        configured="SET work_mem = '5MB'",
        change="SET work_mem = '6MB'",
        value="SHOW work_mem",
        number="SELECT pg_backend_pid()",
        hidden=hidden,
    )


@pytest.mark.parametrize("as_mysqldb", [False, True], ids=["mysqlclient", "pymysql"])
@pytest.mark.parametrize("database", ["mariadb", "mysql"])
def test_mysql(request, database: str, as_mysqldb: bool) -> None:
    try:
        import_module("pymysql" if as_mysqldb else "MySQLdb")
    except ImportError as error:
        pytest.skip(f"the driver is not installed: {error}")
    pair = request.getfixturevalue(f"running_{database}")
    pair.restore()
    lost_in_between(
        pair,
        "mysql",
        "KILL {}",
        "+02:00",
        configured="SET time_zone = '+02:00'",
        change="SET time_zone = '+03:00'",
        value="SELECT @@time_zone",
        number="SELECT CONNECTION_ID()",
        as_mysqldb=as_mysqldb,
    )
