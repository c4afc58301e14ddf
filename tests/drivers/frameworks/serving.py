"""The examples of examples/web behind their servers, under ``opentelemetry-instrument``. Knows no framework."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from psycopg import pq

from ..script import ROOT

FOLDER = ROOT / "examples" / "web"
# Servers of tests do not wait for disks or standbys, unless they are asked to (see `synchronous`).
LIBPQ = {"PGPASSWORD": "app-secret", "PGOPTIONS": "-c synchronous_commit=on"}
TABLES = (FOLDER / "notes.sql").read_text()
PAGE = (ROOT / "examples" / "README.md").read_text()


def documented(name: str, cluster: Any) -> list[str]:
    """Return the command that the page of the examples has for an app, with the servers of the cluster."""
    (line,) = (line for line in PAGE.splitlines() if line.startswith("DATABASE_") and name in line)
    for word, server in zip(("one", "two"), cluster.servers, strict=True):
        line = line.replace(f"{word}:5432", f"{server.host}:{server.port}").replace(word, server.host)
    ports = ",".join(str(server.port) for server in cluster.servers)
    return ["sh", "-c", f"exec env {line.replace('5432,5432', ports).replace('8000', '{port}')}"]


def instrumented(*command: str) -> list[str]:
    """Return a command of this Python under ``opentelemetry-instrument``."""
    return ["opentelemetry-instrument", sys.executable, *command]


@contextmanager
def started(command: Sequence[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in the folder of the examples, where this Python's programs come first."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("INSTRUMENTED_WRAPPER", "OTEL_"))}
    exporters = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with log.open("w") as written:
        process = subprocess.Popen(
            command,
            cwd=FOLDER,
            env={**kept, **exporters, "PATH": path, **LIBPQ, **environment},
            stdout=written,
            stderr=written,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def served(command: Sequence[str], log: Path, **environment: str) -> Iterator[str]:
    """Run a web server on a free port, which the command names as ``{port}``; return its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with started([part.format(port=port) for part in command], log, **environment) as process:
        address = f"http://127.0.0.1:{port}/"
        _wait_for(address, process, log)
        yield address


def _wait_for(address: str, process: Any, log: Path) -> None:
    while process.poll() is None:
        try:
            ask(address)
        except HTTPError as error:
            raise AssertionError(log.read_text()) from error
        except (URLError, ConnectionError):
            time.sleep(0.05)
        else:
            return
    raise AssertionError(log.read_text())


def ask(address: str, tenant: str = "", note: str | None = None) -> Any:
    """Add a note, or read the notes of a tenant; return those that the app shows."""
    headers = {"X-Tenant": tenant} if tenant else {}
    data = None if note is None else note.encode()
    with urlopen(Request(address, data, headers), timeout=60) as answer:
        return json.load(answer)


def synchronous(cluster: Any) -> None:
    """Let a commit wait for the standby, so that no failover loses it."""
    cluster.wait_streaming()
    cluster.primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
    cluster.primary.sql("SELECT pg_reload_conf()")


@contextmanager
def locked(cluster: Any) -> Iterator[None]:
    """Let all statements on notes wait, until the end or the death of the server."""
    lock = pq.PGconn.connect(cluster.primary.dsn(user="postgres").encode())
    try:
        lock.exec_(b"BEGIN; LOCK TABLE notes, acme.notes, other.notes")
        yield
    finally:
        lock.finish()


def waiting(cluster: Any, count: int) -> bool:
    """Return True if that many statements wait for a lock."""
    query = "SELECT 1 FROM pg_stat_activity WHERE usename = 'app' AND wait_event_type = 'Lock'"
    return len(cluster.primary.sql(query)) == count
