"""The main job, seen from outside: a plain app goes on through the death of its server. `make demo` begins with this.

Starts a real PostgreSQL primary and its standby, runs app.py under ``opentelemetry-instrument``, kills the primary in
the middle of a transaction and promotes the standby. Then it says what became of the app's session. The exit code is
0 only if all of it was carried over. Nothing is left running, and of files only demo-trace.json stays. With HOLD=1 in
the environment the servers stay until Enter is pressed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import jaeger
import report
import stage
from receiver import Receiver
from report import Story, style
from stage import progress, section

from servers import Cluster
from servers.guard import wait_until

APP = Path(__file__).with_name("served.py")
ORDERS = 10
KILLED_AFTER = 4
UNNOTICED = 0.5  # seconds; who watches over a cluster needs some time too, before a standby is promoted
TRACE_FILE = Path("demo-trace.json")
TABLE = """
CREATE TABLE orders (number int PRIMARY KEY, written timestamptz NOT NULL DEFAULT now());
ALTER TABLE orders OWNER TO app;
ALTER ROLE app SET synchronous_commit = on;
"""
UNDER_WAY = "SELECT 1 FROM pg_stat_activity WHERE usename = 'app' AND state = 'idle in transaction'"


def main() -> int:
    """Run the demo; return the exit code."""
    print(style("A plain psycopg app loses its server", "bold") + "  (Ctrl-C stops everything)\n")
    story = Story(ORDERS)
    progress("starting PostgreSQL, a primary and its standby ...")
    with Cluster() as cluster, Receiver() as receiver:
        prepare(cluster)
        perform(cluster, receiver, story)
        story.stored = [int(row[0] or 0) for row in cluster.primary.sql("SELECT number FROM orders", "app")]
        story.spans, story.metrics = receiver.spans(), receiver.metrics()
        show(story)
        keep(story, receiver)
        code = conclude(story)
        if os.environ.get("HOLD"):
            hold(cluster)
    return code


def prepare(cluster: Cluster) -> None:
    """Make the app's table, and the standby synchronous: an order that was confirmed is never lost."""
    cluster.primary.sql(TABLE, "app")
    cluster.wait_streaming()  # the standby has the role's setting and the table
    cluster.primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
    cluster.primary.sql("SELECT pg_reload_conf()")
    progress(f"primary on port {cluster.primary.port}, standby on port {cluster.standby.port}")


def perform(cluster: Cluster, receiver: Receiver, story: Story) -> None:
    """Run the app, and make it lose its server on the way."""
    progress(f"$ opentelemetry-instrument python {APP.name} {ORDERS}", "bold")
    variables = {
        "DATABASE_URL": cluster.dsn(),
        "INSTRUMENTED_WRAPPER_CAPTURE_VALUES": "true",  # to be seen below; there is no secret among them
    }
    environment = stage.environment(receiver.url, "orders", **variables)
    with stage.running([str(APP), str(ORDERS)], environment, Path.cwd()) as app:
        for line in app.stdout or ():
            hear(line.rstrip(), story)
            if len(story.written) == KILLED_AFTER and not story.errors:
                fail_over(cluster)
        story.exit_code = app.wait()


def fail_over(cluster: Cluster) -> None:
    """Kill the primary while an order is under way, and promote the standby."""
    wait_until(lambda: cluster.primary.sql(UNDER_WAY), 10)
    cluster.primary.kill()
    progress("kill -9: the primary is gone, an order was under way", "red")
    time.sleep(UNNOTICED)
    cluster.failover()
    progress(f"the standby on port {cluster.primary.port} is promoted", "green")


def hear(line: str, story: Story) -> None:
    """Note and show what the app says; of a traceback only the sentences, not the places."""
    if not line.startswith("{"):
        if line[:1].strip():
            progress(f"app: {line}")
        return
    said = json.loads(line)
    story.said.append(said)
    if "error" in said:
        progress(f"app: order {said['order']} failed: {said['error']}; rollback(), and again")
    else:
        progress(f"app: order {said['order']} written on port {said['port']}, {said['isolation']}")


def show(story: Story) -> None:
    """Print what was found."""
    section("What became of the session", report.session(story))
    section("The trace, service orders", report.tree(story.spans))
    section("The metrics", report.measured(story.metrics))


def keep(story: Story, receiver: Receiver) -> None:
    """Write the trace file, and send the telemetry on where the environment says so."""
    print()
    if story.spans:
        print(written(jaeger.document(story.spans)))
    for line in receiver.send_on(os.environ):
        print(line)


def written(document: str) -> str:
    """Write the trace file and say so; a folder that takes no file is no reason to fail."""
    try:
        TRACE_FILE.write_text(document)
    except OSError as error:
        return f"{TRACE_FILE} cannot be written here: {error.strerror}"
    return f"{TRACE_FILE} opens in Jaeger's UI: Search, Upload"


def conclude(story: Story) -> int:
    """Print the verdict and return the exit code."""
    found = report.faults(story)
    for fault in found:
        print(style(f"NOT CARRIED: {fault}", "red", "bold"))
    if not found:
        print(style("CARRIED: same object, same settings, every order once", "green", "bold"))
    return 1 if found else 0


def hold(cluster: Cluster) -> None:
    """Keep the servers until somebody has looked around."""
    cluster.restore()
    one, both = json.dumps(cluster.primary.dsn()), json.dumps(cluster.dsn())
    print(f"\nThe primary and its standby go on, until you press Enter:\n\n  psql {one}")
    print(f"  DATABASE_URL={both} opentelemetry-instrument python {APP} 1000", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    stage.perform(main)
