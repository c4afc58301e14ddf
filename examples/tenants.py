"""The second story of `make demo`: a web app shows one tenant's notes to another, until `reset_on_return` stops it.

Runs web/flask_app.py, which knows nothing of this package, on a real PostgreSQL primary and its standby, three times.
With ``reset_on_return=report`` it leaks, and the telemetry says what and from which route. With ``on`` nobody sees what
is another's. Then, with ``on``, the primary is killed under twenty users and the standby promoted. One table shows
what the requests saw. The exit code is 0 only if all is as promised. Nothing is left running.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener
from urllib.request import Request as HttpRequest

sys.path.insert(0, str(Path(__file__).parent.parent))

import stage
from receiver import Receiver
from report import style
from stage import progress, section
from tenants_report import Act, Request, faults, routes, table

from servers import Cluster
from servers.guard import wait_until
from servers.server import APP

WEB = Path(__file__).with_name("web")
TENANTS = ("acme", "", "other", "")  # every second request names no tenant, as that of a health check or a price list
ROUNDS, USERS, AFTER = 10, 20, 3  # AFTER: requests of each user after the kill
UNNOTICED = 0.5  # seconds; who watches over a cluster needs some time too, before a standby is promoted
SECONDS = 60
NOTES = "SELECT 'acme', text FROM acme.notes UNION ALL SELECT 'other', text FROM other.notes"
opener = build_opener(ProxyHandler({}))


def main() -> int:
    """Run the three acts; return the exit code."""
    print(style("\nA web app shows one tenant's notes to another", "bold") + "  (Ctrl-C stops everything)\n")
    progress("starting PostgreSQL, a primary and its standby ...")
    acts = Act("report", "report"), Act("on", "on"), Act("on, failover", "on")
    with Cluster() as cluster:
        prepare(cluster)
        for act, play in zip(acts, (visit, visit, fail_over), strict=True):
            perform(act, play, cluster)
    section("One app, three times: what its requests saw", table([*acts]))
    return conclude(*acts)


def prepare(cluster: Cluster) -> None:
    """Make the app's tables, and the standby synchronous: a note that was confirmed is never lost."""
    cluster.primary.sql("ALTER ROLE app SET synchronous_commit = on")
    cluster.primary.sql((WEB / "notes.sql").read_text(), "app")
    cluster.wait_streaming()
    cluster.primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
    cluster.primary.sql("SELECT pg_reload_conf()")


def perform(act: Act, play: Callable[[Act, str, Cluster], None], cluster: Cluster) -> None:
    """Run the app once, as the act's option says, and gather what it told."""
    progress(f"$ INSTRUMENTED_WRAPPER_RESET_ON_RETURN={act.option} opentelemetry-instrument flask ... run", "bold")
    with Receiver() as receiver:
        with served(act, receiver.url, cluster) as address:
            play(act, address, cluster)
        act.spans = receiver.spans()
        for line in receiver.send_on(os.environ):
            progress(line)
    act.stored = [(str(tenant), str(text)) for tenant, text in cluster.primary.sql(NOTES, "app")]
    progress(f"{len(act.requests)} requests, {len(act.seen)} were shown another tenant's notes", *_colour(act))
    if act.warnings:
        progress("\n         ".join(textwrap.wrap(f"app: {act.warnings[0]}", 70)))
    if routes(act):
        progress(f"the spans say: {routes(act)}")


def _colour(act: Act) -> list[str]:
    return ["red" if act.seen else "green"]


@contextmanager
def served(act: Act, endpoint: str, cluster: Cluster) -> Iterator[str]:
    """Run the app behind its web server, as a user would; return its address, and stop it at the end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    hosts = "&".join(f"host={server.host}:{server.port}" for server in cluster.servers)
    environment = stage.environment(
        endpoint,
        "notes",
        DATABASE_URL=f"postgresql+psycopg://app@/app?{hosts}&target_session_attrs=read-write",
        PGPASSWORD=APP["password"],
        INSTRUMENTED_WRAPPER_RESET_ON_RETURN=act.option,
    )
    with stage.running(["-m", "flask", "--app", "flask_app", "run", "--port", port], environment, WEB) as app:
        listens = threading.Event()
        listener = threading.Thread(target=hear, args=(app, act, listens), daemon=True)
        listener.start()
        if not listens.wait(SECONDS) or app.poll() is not None:
            raise SystemExit("the app does not start: " + "\n".join(act.said))
        yield f"http://127.0.0.1:{port}/"
        app.send_signal(signal.SIGINT)  # as Ctrl-C: the app ends, and sends the rest of its telemetry
        listener.join(SECONDS)


def hear(app: subprocess.Popen[str], act: Act, listens: threading.Event) -> None:
    """Note what the app says, until it ends."""
    for line in app.stdout or ():
        act.said.append(line.rstrip())
        if "Running on" in line:
            listens.set()
    listens.set()


def visit(act: Act, address: str, cluster: Cluster) -> None:
    """Write a note of each tenant, then read as each of them and as nobody, one request after the other."""
    for tenant in filter(None, TENANTS):
        act.requests.append(ask(address, tenant, f"{tenant} {act.title}"))
    act.requests += [ask(address, tenant) for _ in range(ROUNDS) for tenant in TENANTS]


def fail_over(act: Act, address: str, cluster: Cluster) -> None:
    """Kill the primary under twenty users, and promote the standby."""
    killed = threading.Event()
    with ThreadPoolExecutor(USERS) as pool:
        users = [pool.submit(use, address, user, killed) for user in range(USERS)]
        wait_until(lambda: len(cluster.primary.sql(NOTES, "app")) > 3 * USERS, SECONDS)
        began = time.monotonic()
        cluster.primary.kill()
        dead = time.monotonic()
        killed.set()
        progress(f"kill -9: the primary is gone, under {USERS} users", "red")
        time.sleep(UNNOTICED)
        cluster.failover()
        progress(f"the standby on port {cluster.primary.port} is promoted", "green")
        done = [request for user in users for request in user.result()]
    act.requests += [replace(each, under_way=each.sent < dead and each.answered > began) for each in done]


def use(address: str, user: int, killed: threading.Event) -> list[Request]:
    """Send one request after the other, until some have been sent after the kill; who has a tenant writes."""
    tenant, after = TENANTS[user % len(TENANTS)], 0
    done: list[Request] = []
    while after < AFTER:
        after += killed.is_set()
        done.append(ask(address, tenant, f"{tenant} {user} {len(done)}" if tenant else None))
    return done


def ask(address: str, tenant: str, note: str | None = None) -> Request:
    """Send a request; return it with its answer."""
    sent, notes = time.monotonic(), None
    request = HttpRequest(address, note.encode() if note else None, {"X-Tenant": tenant} if tenant else {})
    try:
        with opener.open(request, timeout=SECONDS) as answer:
            notes = json.load(answer)
    except HTTPError:
        pass  # an error of the app: there are no notes
    return Request(tenant, note, notes, sent, time.monotonic())


def conclude(*acts: Act) -> int:
    """Print the verdict and return the exit code."""
    found = list(faults(*acts))
    print()
    for fault in found:
        print(style(f"NOT STOPPED: {fault}", "red", "bold"))
    if not found:
        print(style("STOPPED: no request saw what is another tenant's, through the failover too", "green", "bold"))
    return 1 if found else 0


if __name__ == "__main__":
    stage.perform(main)
