"""What an app sends to a collector, over HTTP and gRPC: no literal, no parameter, no password is in the bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from receiver import GrpcReceiver, Receiver

AGENT = str(Path(sys.executable).with_name("opentelemetry-instrument"))
APP = """
import os, select, psycopg
from psycopg import sql
from psycopg_pool import ConnectionPool

SECRET = "hunter" + "2"

def tried(*statement):
    try:
        cursor.execute(*statement)
    except psycopg.Error:
        pass

connection = psycopg.connect(os.environ["DSN"], autocommit=True)
cursor = connection.cursor()
cursor.execute("CREATE TEMP TABLE t (a text UNIQUE, b text)")
cursor.execute(f"INSERT INTO t VALUES ('{SECRET}', E'{SECRET}'), ($${SECRET}$$, U&'{SECRET}') ON CONFLICT DO NOTHING")
cursor.execute("INSERT INTO t VALUES (%s, %s) ON CONFLICT DO NOTHING", [SECRET, SECRET])
cursor.executemany("INSERT INTO t VALUES (%(a)s) ON CONFLICT DO NOTHING", [{"a": SECRET}, {"a": SECRET}])
tried(f"INSERT INTO t VALUES ('{SECRET}')")  # the server's DETAIL has the value
tried("INSERT INTO t VALUES (%s)", [SECRET])
tried(f"SELECT '{SECRET}'::int")
tried("SELECT %s::int", [SECRET])
tried(f"SELECT '{SECRET}")
tried(f"SELECT 'it\\\\', {SECRET} '")
tried(f"/* {SECRET} */ SELECT 1 -- {SECRET}")
tried(sql.SQL("SELECT {} FROM t WHERE a = %s").format(sql.Literal(SECRET)), [SECRET])
tried(f"CREATE ROLE nobody PASSWORD '{SECRET}'")
tried(f"SET app.tenant = {SECRET}")
tried(f"SET SESSION app.tenant TO '{SECRET}'; SELECT '{SECRET}'")
tried(f"SELECT set_config('app.tenant', '{SECRET}', false)")
tried(f"DO $x$ BEGIN RAISE '{SECRET}'; END $x$")
tried("SELECT 123" + "425 AS x")
with cursor.copy("COPY t FROM STDIN") as copy:
    copy.write_row((SECRET + "0", SECRET))
list(cursor.stream("SELECT a FROM t WHERE a = %s", [SECRET]))
connection.autocommit = False
with connection.cursor("named") as named:
    named.execute("SELECT %s", [SECRET])
    named.fetchall()
connection.commit()
connection.autocommit = True
with ConnectionPool(os.environ["DSN"], min_size=1, max_size=1) as pool, pool.connection() as other:
    other.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
end = select.poll()
end.register(connection.fileno(), getattr(select, "POLLRDHUP", select.POLLIN))
assert end.poll(20_000)
tried(f"SELECT '{SECRET}'")
try:
    psycopg.connect(os.environ["DSN"], password=SECRET, dbname="nowhere")
except psycopg.OperationalError:
    pass
connection.close()
"""


@pytest.mark.parametrize("kind", [Receiver, GrpcReceiver], ids=["HTTP", "gRPC"])
def test_no_secret_is_sent(cluster, kind):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "INSTRUMENTED_"))}
    with kind() as receiver:
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": receiver.protocol}
        told |= {"OTEL_LOGS_EXPORTER": "none", "INSTRUMENTED_WRAPPER_CONNECT_SPANS": "on"}
        told |= {"DSN": cluster.dsn(target_session_attrs="primary")}
        told |= {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "psycopg"}  # the other one, which is installed here, too
        command = [AGENT, sys.executable, "-c", APP]
        ran = subprocess.run(command, env=kept | told, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "hunter2" not in ran.stderr
    names = {span.name for span in receiver.spans}
    assert {"failover", "INSERT t", "BATCH INSERT t", "COPY t", "SELECT t", "FETCH", "CONNECT app"} <= names
    assert "db.client.operation.duration" in {metric.name for metric in receiver.metrics}
    assert b"SELECT ?::int" in receiver.bytes
    assert not [span for span in receiver.spans if "hunter" in str(span)]
    for secret in (b"hunter", b"app-secret", b"123425"):
        assert secret not in receiver.bytes
