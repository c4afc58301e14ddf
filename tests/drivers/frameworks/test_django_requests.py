"""What the next request on one of Django's persistent connections finds, by ``reset_on_return``."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from ..script import ROOT
from .test_other_pools import TRIGGERED

django = pytest.importorskip("django")

PROGRAM = Path(__file__).with_name("django_app.py")
POSTGRESQL = {
    "sets": "SET app.tenant = '{}'",
    "shows": "SELECT nullif(current_setting('app.tenant', true), '')",
    "number": "SELECT pg_backend_pid()",
}
MYSQL = {"sets": "SET @tenant = '{}'", "shows": "SELECT @tenant", "number": "SELECT CONNECTION_ID()"}
DEFAULTS: dict[str, Any] = {"options": {}, "hidden": [], "as_mysqldb": False, "layer": False}


def where(server: Any) -> dict[str, Any]:
    return {"HOST": server.host, "PORT": server.port, "USER": "app", "PASSWORD": "app-secret", "NAME": "app"}


class Site:
    """One driver under Django, and a server for it."""

    def __init__(self, cluster: Any, engine: str, **given: Any) -> None:
        self.cluster, self.engine = cluster, engine
        self.given = {**DEFAULTS, **(POSTGRESQL if engine == "postgresql" else MYSQL), **given}

    def run(self, *requests: str, database: dict[str, Any] | None = None, **given: Any) -> Any:
        """Run the app to its end; return what it printed, and what it complained of.

        At the request ``lose`` the app waits for a failover, ``lost`` is then called.
        """
        lost = given.pop("lost", None)
        server = {} if self.cluster is None else where(self.cluster.primary)
        known = {"ENGINE": f"django.db.backends.{self.engine}", **server, **(database or {})}
        arguments = json.dumps({**self.given, "database": known, "requests": requests, **given})
        command, pipe = [sys.executable, "-P", "-W", "ignore", str(PROGRAM), arguments], subprocess.PIPE
        app = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)
        if lost is not None and app.stdout is not None and app.stdout.readline():
            lost()
        printed, complaints = app.communicate("go on\n", timeout=120)
        assert app.returncode == 0, complaints
        return json.loads(printed.splitlines()[-1]), complaints


@pytest.fixture(params=["psycopg", "psycopg2", "mysqlclient", "pymysql"])
def site(request: pytest.FixtureRequest) -> Site:
    if request.param.startswith("psycopg"):
        other = "psycopg2" if request.param == "psycopg" else "psycopg"
        return Site(request.getfixturevalue("cluster"), "postgresql", hidden=[other])
    try:
        import_module("MySQLdb" if request.param == "mysqlclient" else request.param)
    except ImportError as error:
        pytest.skip(f"the driver is not installed: {error}")
    pair = request.getfixturevalue("running_mariadb")
    pair.restore()
    return Site(pair, "mysql", as_mysqldb=request.param == "pymysql")


def test_a_request_that_leaves_a_tenant_is_reported(site: Site) -> None:
    """Nothing changes for the app; each leak has a link to its request, and there is one warning."""
    told, complaints = site.run("tenant=acme", "", "", "tenant=other", "")
    tenants, numbers = zip(*told["seen"], strict=True)
    assert tenants == ("acme", "acme", "acme", "other", "other")
    assert len(set(numbers)) == 1
    leaks = [["session_state.leak", [f"GET tenant={name}"], True] for name in ("acme", "other")]
    assert told["spans"] == leaks
    assert complaints.count("reset_on_return=on") == 1 and "acme" not in complaints


def test_on_resets_the_session_and_keeps_the_connection(site: Site) -> None:
    told, complaints = site.run("tenant=acme", "", "", options={"reset_on_return": "on"})
    tenants, numbers = zip(*told["seen"], strict=True)
    assert tenants == ("acme", None, None)
    assert len(set(numbers)) == 1
    assert told["spans"] == [["session_state.reset", ["GET tenant=acme"], True]]
    assert complaints == ""


def test_close_closes_a_changed_connection_only(site: Site) -> None:
    told, complaints = site.run("", "tenant=acme", "", "", options={"reset_on_return": "close"})
    tenants, (first, second, third, fourth) = zip(*told["seen"], strict=True)
    assert tenants == (None, "acme", None, None)
    assert first == second != third == fourth
    assert complaints == "" and told["spans"] == []


def test_off_leaves_it_alone(site: Site) -> None:
    told, complaints = site.run("tenant=acme", "", options={"reset_on_return": "off"})
    assert [tenant for tenant, _ in told["seen"]] == ["acme", "acme"]
    assert complaints == "" and told["spans"] == []


def test_the_option_of_one_database(site: Site) -> None:
    options = {"instrumented_wrapper": {"reset_on_return": "on"}}
    told, _ = site.run("tenant=acme", "", database={"OPTIONS": options})
    assert [tenant for tenant, _ in told["seen"]] == ["acme", None]


@pytest.mark.parametrize("hidden", ["psycopg", "psycopg2"])
def test_what_the_text_does_not_show_is_reset(cluster, hidden: str) -> None:
    site = Site(cluster, "postgresql", hidden=[hidden])
    sets = "DO $$ BEGIN PERFORM set_config('app.tenant', '{}', false); END $$"
    told, _ = site.run("tenant=acme", "", "", sets=sets, options={"reset_on_return": "on"})
    assert [tenant for tenant, _ in told["seen"]] == ["acme", None, None]


@pytest.mark.parametrize("chosen", ["on", "close"])
@pytest.mark.parametrize("hidden", ["psycopg", "psycopg2"])
def test_what_a_trigger_sets_is_not_inherited(cluster, hidden: str, chosen: str) -> None:
    cluster.primary.sql(TRIGGERED, "app")
    site = Site(cluster, "postgresql", hidden=[hidden], shows="SELECT current_setting('timezone')")
    sets = "INSERT INTO triggered VALUES ('{}')"
    told, _ = site.run("tenant=Asia/Tokyo", "", "tenant=Asia/Tokyo", "", sets=sets, options={"reset_on_return": chosen})
    assert [zone for zone, _ in told["seen"]] == ["Asia/Tokyo", "UTC", "Asia/Tokyo", "UTC"]


@pytest.mark.parametrize("autocommit", [True, False])
def test_an_open_transaction_of_the_app_is_left_alone(cluster, autocommit: bool) -> None:
    """With AUTOCOMMIT off it goes on in the next request, as without the wrapper."""
    site = Site(cluster, "postgresql", hidden=["psycopg2"], shows="SELECT txid_current_if_assigned() IS NULL")
    sets = "SELECT set_config('app.tenant', '{}', false), txid_current()"
    told, _ = site.run("tenant=acme", "", sets=sets, database={"AUTOCOMMIT": autocommit})
    assert [nothing for nothing, _ in told["seen"]] == ["True", "True"] if autocommit else ["False", "False"]


@pytest.mark.skipif(django.VERSION < (5, 1), reason="Django before 5.1 has no init_command for SQLite")
@pytest.mark.parametrize(
    ("chosen", "seen", "spans"),
    [
        ("report", ["50", "50", "50"], ["session_state.leak"]),
        ("on", ["50", "700", "700"], ["session_state.reset"]),
        ("close", ["50", "700", "700"], []),
        ("off", ["50", "50", "50"], []),
    ],
)
def test_the_end_of_a_request_on_sqlite_does_what_the_option_says(
    tmp_path: Path, chosen: str, seen: list[str], spans: list[str]
) -> None:
    database = {"NAME": str(tmp_path / "app.sqlite"), "OPTIONS": {"init_command": "PRAGMA busy_timeout = 700"}}
    site = Site(None, "sqlite3", sets="PRAGMA busy_timeout = {}", shows="PRAGMA busy_timeout", number="SELECT 0")
    told, complaints = site.run("tenant=50", "", "", database=database, options={"reset_on_return": chosen})
    assert [value for value, _ in told["seen"]] == seen
    assert told["spans"] == [[name, ["GET tenant=50"], True] for name in spans]
    assert ("busy_timeout" in complaints) is (chosen == "report")


# --- a layer that knows what it has set ---------------------------------------------------------------------------


def test_the_first_tenant_is_not_the_baseline(site: Site) -> None:
    """The layer sets it within Django's check of the server's version, while Django connects."""
    told, _ = site.run("tenant=acme", "raw", layer=True)
    (tenant, _), state = told["seen"]
    assert tenant == "acme"
    values = [values for name, values in state.items() if "tenant" in name]
    assert values and all(pristine != "acme" and value == "acme" for pristine, value in values)


@pytest.mark.parametrize("chosen", ["close", "report"])
def test_a_layer_stays_right(site: Site, chosen: str) -> None:
    """A connection that its ``close()`` closes is configured anew; one that is reset behind it is not."""
    told, _ = site.run("tenant=acme", "tenant=acme", "tenant=b", layer=True, options={"reset_on_return": chosen})
    assert [tenant for tenant, _ in told["seen"]] == ["acme", "acme", "b"]


# --- a failover ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_age", [0, None], ids=["a connection for each request", "one that stays"])
def test_the_request_after_a_failover_works(site: Site, max_age: int | None) -> None:
    """HOST names the server that has died, and the option the other one."""
    options = {"failover_hosts": site.cluster.hosts(), "reset_on_return": "on"}
    told, _ = site.run(
        "tenant=acme",
        "lose",
        "",
        "tenant=b",
        "",
        database={"CONN_MAX_AGE": max_age},
        options=options,
        lost=site.cluster.failover,
    )
    assert [tenant for tenant, _ in told["seen"]] == ["acme", None, "b", None]


# --- the pool of Django's own -------------------------------------------------------------------------------------


@pytest.mark.skipif(django.VERSION < (5, 1), reason="Django before 5.1 has no pool")
def test_what_django_sets_at_each_checkout_is_no_change(cluster) -> None:
    """The isolation level of OPTIONS is neither reset nor reported; the tenant of a request is reset."""
    site = Site(cluster, "postgresql", hidden=["psycopg2"])
    options = {"pool": {"min_size": 1, "max_size": 1}, "isolation_level": 4}
    database = {"OPTIONS": options, "CONN_MAX_AGE": 0}
    told, complaints = site.run("", "", "tenant=acme", "", database=database)
    tenants, numbers = zip(*told["seen"], strict=True)
    assert tenants == (None, None, "acme", None) and len(set(numbers)) == 1
    assert [name for name, _, _ in told["spans"]] == ["session_state.reset"]
    assert complaints == ""
    told, _ = site.run("", "", "", database=database, shows="SHOW transaction_isolation")
    assert {level for level, _ in told["seen"]} == {"serializable"} and told["spans"] == []


# --- Celery -------------------------------------------------------------------------------------------------------

WORKER = """
import json, os, sys
import instrumented_wrapper
instrumented_wrapper.instrument(reset_on_return=sys.argv[2])
os.environ["DJANGO_SETTINGS_MODULE"] = "project_settings"
import types
module = sys.modules["project_settings"] = types.ModuleType("project_settings")
module.DATABASES = {"default": {**json.loads(sys.argv[1]), "CONN_MAX_AGE": None}}
module.SECRET_KEY, module.CELERY_DB_REUSE_MAX = "not a secret", 100
from celery import Celery
from celery.contrib.testing.worker import start_worker
app = Celery("tasks", broker="memory://", backend="cache+memory://")
app.conf.update(CELERY_DB_REUSE_MAX=100, broker_connection_retry_on_startup=False)

@app.task
def ask(*texts):
    from django.db import connection
    with connection.cursor() as cursor:
        for text in texts:
            cursor.execute(text)
        return cursor.fetchone()

SHOWS = "SELECT nullif(current_setting('app.tenant', true), ''), pg_backend_pid()"
with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR"):
    for texts in ((SHOWS,), ("SET app.tenant = 'acme'", SHOWS), (SHOWS,)):
        print(json.dumps(ask.delay(*texts).get(timeout=30)), flush=True)
"""


@pytest.mark.parametrize("chosen", ["report", "on", "close"])
def test_the_end_of_a_task_is_one_of_a_request(cluster, chosen: str) -> None:
    """Where CELERY_DB_REUSE_MAX keeps a connection, Celery does not call what Django calls after a request."""
    pytest.importorskip("celery")
    database = json.dumps({"ENGINE": "django.db.backends.postgresql", **where(cluster.primary)})
    command = [sys.executable, "-P", "-W", "ignore", "-c", WORKER, database, chosen]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert ended.returncode == 0, ended.stderr
    (_, first), (tenant, second), (inherited, third) = map(json.loads, ended.stdout.splitlines())
    assert (tenant, first) == ("acme", second)
    assert inherited == ("acme" if chosen == "report" else None)
    assert (third == second) == (chosen != "close")
