"""A primary and its standby for one command: ``python -m servers --fail-on "order 2" -- python app.py``.

The command finds both servers in ``DATABASE_URL``, as a connection string of libpq, and in ``PGHOST``, ``PGPORT`` and
the like. When it prints a line with the text of ``--fail-on``, the primary is killed and the standby promoted. The exit
code is that of the command. Without a command the servers run until Enter is pressed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from servers.postgresql import Cluster
from servers.server import APP


def main() -> int:
    """Run the command line; return the exit code."""
    given = parser().parse_args()
    with Cluster() as cluster:
        say(f"primary on port {cluster.primary.port}, standby on port {cluster.standby.port}")
        if given.sql:
            with open(given.sql, encoding="utf-8") as file:
                cluster.primary.sql(f"SET ROLE app; {file.read()}", "app")
            cluster.wait_streaming()
        return run(cluster, given.command, given.fail_on) if given.command else wait(cluster)


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    found = argparse.ArgumentParser(prog="python -m servers", description="Run a command with a primary and a standby")
    found.add_argument("--fail-on", metavar="TEXT", help="kill the primary when the command prints this")
    found.add_argument("--sql", metavar="FILE", help="run this file on the primary first, as the app's role")
    found.add_argument("command", nargs="*", help="after --; without one, wait for Enter")
    return found


def run(cluster: Cluster, command: list[str], fail_on: str | None) -> int:
    """Run the command and pass on what it prints; fail over once, at the line that has the text."""
    app = subprocess.Popen(
        command, env={**os.environ, **variables(cluster)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        for line in app.stdout or ():
            print(line, end="", flush=True)
            if fail_on and fail_on in line:
                fail_on = None
                fail_over(cluster)
        return app.wait()
    finally:
        app.kill()
        app.wait()


def variables(cluster: Cluster) -> dict[str, str]:
    """Return the environment that leads to both servers."""
    hosts, ports = zip(*((server.host, str(server.port)) for server in cluster.servers), strict=True)
    return {
        "DATABASE_URL": cluster.dsn(target_session_attrs="read-write"),
        "PGHOST": ",".join(hosts),
        "PGPORT": ",".join(ports),
        "PGUSER": APP["user"],
        "PGPASSWORD": APP["password"],
        "PGDATABASE": APP["dbname"],
        "PGTARGETSESSIONATTRS": "read-write",
    }


def fail_over(cluster: Cluster) -> None:
    """Kill the primary and promote the standby."""
    say("the primary is killed")
    cluster.failover()
    say(f"the standby on port {cluster.primary.port} is promoted")


def wait(cluster: Cluster) -> int:
    """Print how to connect, and wait."""
    for name, value in variables(cluster).items():
        print(f"export {name}={value!r}" if name != "DATABASE_URL" else f'export {name}="{value}"')
    say("Enter stops both")
    sys.stdin.readline()
    return 0


def say(text: str) -> None:
    """Print a line of this program's own."""
    print(f"servers: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
