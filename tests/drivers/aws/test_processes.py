"""Apps in processes of their own: `opentelemetry-instrument`, either order of imports, a driver that lacks a part."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.drivers.script import run

APP = """
import json, logging, sys
{first}
import psycopg
from aws_advanced_python_wrapper import AwsWrapperConnection
from aws_advanced_python_wrapper.database_dialect import DatabaseDialectManager
{then}
from tests.drivers.aws.topology import PostgreSQLPair

hosts = json.loads(sys.argv[1])
DatabaseDialectManager.set_custom_dialect(PostgreSQLPair(hosts))
where = dict(host=hosts[0][0], port=hosts[0][1], user="app", password="app-secret", dbname="app", autocommit=True)
connection = AwsWrapperConnection.connect(
    psycopg.Connection.connect, **where, plugins="read_write_splitting,failover_v2", {options}
)
connection.cursor().execute("SET search_path TO app_schema")
connection.read_only = True
cursor = connection.cursor()
cursor.execute("SHOW search_path")
print(json.dumps([connection.target_connection.info.port, cursor.fetchone()[0]]))
connection.close()
"""
INSTRUMENT = "import instrumented_wrapper; instrumented_wrapper.instrument()"
WITHOUT_PART = (
    "from aws_advanced_python_wrapper.states.session_state_service import SessionStateTransferHandlers as Handlers\n"
    "del Handlers.get_reset_session_state_on_close_func\n"
)
LAUNCH = f"""
import os, sys
os.execv({str(Path(sys.executable).with_name("opentelemetry-instrument"))!r},
         ["opentelemetry-instrument", {sys.executable!r}, "-c", os.environ["APP"], *sys.argv[1:]])
"""
_QUIET = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}


def app(first: str = "", then: str = "", options: str = "") -> str:
    return APP.format(first=first, then=then, options=options)


@pytest.fixture
def hosts(running_cluster) -> str:
    running_cluster.restore()
    servers = running_cluster.primary, running_cluster.standby
    return json.dumps([(server.host, server.port) for server in servers])


@pytest.mark.parametrize("order", ["first", "then"])
def test_either_order_of_imports(hosts, order):
    ended = run(app(**{order: INSTRUMENT}), hosts)
    assert json.loads(ended.stdout) == [json.loads(hosts)[1][1], "app_schema"], ended.stderr


def test_under_opentelemetry_instrument(hosts):
    ended = run(LAUNCH, hosts, APP=app(), **_QUIET)
    assert json.loads(ended.stdout) == [json.loads(hosts)[1][1], "app_schema"], ended.stderr


def test_without_the_wrapper_the_session_is_lost(hosts):
    """What the other tests of this file see is not the driver's own doing."""
    ended = run(app(), hosts)
    assert json.loads(ended.stdout) == [json.loads(hosts)[1][1], '"$user", public']


def test_a_driver_that_lacks_a_part_is_only_observed(hosts):
    """One warning; failover of our own is off all the same, and the driver works as without the wrapper."""
    both = 'instrumented_wrapper={"failover": "on"}'
    ended = run(app(then=WITHOUT_PART + INSTRUMENT, options=both), hosts)
    assert json.loads(ended.stdout) == [json.loads(hosts)[1][1], '"$user", public']
    assert ended.stderr.count("lacks SessionStateTransferHandlers.get_reset_session_state_on_close_func") == 1
