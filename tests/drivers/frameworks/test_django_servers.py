"""The Django example behind web servers, with environment variables alone: no tenant reaches another request."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

pytest.importorskip("django")

from ..script import ROOT

FOLDER = ROOT / "examples" / "web"
SETUP = """
DROP TABLE IF EXISTS notes;
CREATE TABLE notes (text text, tenant text DEFAULT current_setting('app.tenant'));
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (tenant = current_setting('app.tenant', true));
GRANT SELECT, INSERT ON notes TO app;
"""
SERVERS = {
    "wsgiref": ["django_app.py", "{port}"],
    "gunicorn": ["-m", "gunicorn", "-w", "2", "-b", "127.0.0.1:{port}", "django_app:application"],
    "gunicorn --preload": [
        "-m",
        "gunicorn",
        "--preload",
        "-w",
        "2",
        "-b",
        "127.0.0.1:{port}",
        "django_app:application",
    ],
    "gunicorn -k gthread": ["-m", "gunicorn", "--threads", "2", "-b", "127.0.0.1:{port}", "django_app:application"],
    "gunicorn -k gevent": ["-m", "gunicorn", "-k", "gevent", "-b", "127.0.0.1:{port}", "django_app:application"],
    "uvicorn": ["-m", "uvicorn", "--port", "{port}", "--log-level", "error", "django_app:asgi"],
}


@pytest.fixture
def watched(cluster: Any) -> Any:
    cluster.primary.sql(SETUP, database="app")
    return cluster


@contextmanager
def served(name: str, cluster: Any, log: Path, **options: str) -> Iterator[str]:
    """Serve the example under ``opentelemetry-instrument``; return its address."""
    needed = SERVERS[name][1] if SERVERS[name][0] == "-m" else "django"
    if not find_spec(needed) or ("gevent" in name and not find_spec("gevent")):
        pytest.skip(f"{name} is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    hosts = (cluster.primary, cluster.standby)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("INSTRUMENTED_WRAPPER", "OTEL_"))},
        "DATABASE_HOST": ",".join(server.host for server in hosts),
        "DATABASE_PORT": ",".join(str(server.port) for server in hosts),
        "DATABASE_PASSWORD": "app-secret",
        "OTEL_TRACES_EXPORTER": "console",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        **options,
    }
    command = [str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable]
    command += [part.format(port=port) for part in SERVERS[name]]
    with log.open("w") as written:
        process = subprocess.Popen(command, cwd=FOLDER, env=environment, stdout=written, stderr=written)
    try:
        address = f"http://127.0.0.1:{port}/"
        wait_for(address, process, log)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def wait_for(address: str, process: Any, log: Path) -> None:
    while process.poll() is None:
        try:
            ask(address)
        except (URLError, ConnectionError):
            time.sleep(0.05)
        else:
            return
    raise AssertionError(log.read_text())


def ask(address: str, tenant: str = "", note: str | None = None) -> Any:
    headers = {"X-Tenant": tenant} if tenant else {}
    data = None if note is None else note.encode()
    with urlopen(Request(address, data, headers), timeout=60) as answer:
        return json.load(answer)


@pytest.mark.parametrize("server", SERVERS)
def test_no_request_sees_what_is_another_tenants(watched, server: str, tmp_path: Path) -> None:
    with served(server, watched, tmp_path / "log", INSTRUMENTED_WRAPPER_RESET_ON_RETURN="close") as address:
        assert ask(address, "acme", "of acme") == ["of acme"]
        for _ in range(4):
            assert ask(address, "acme") == ["of acme"]
            assert ask(address) == []
            assert ask(address, "other") == []


def test_without_it_the_next_request_sees_them_and_a_report_says_so(watched, tmp_path: Path) -> None:
    """What the test above would see if nothing were done."""
    log = tmp_path / "log"
    with served("wsgiref", watched, log) as address:
        assert ask(address, "acme", "of acme") == ["of acme"]
        assert ask(address) == ["of acme"]
    assert "changed session state, which its next user inherits: app.tenant" in log.read_text()


@pytest.mark.parametrize("server", ["gunicorn --preload", "uvicorn"])
def test_a_failover(watched, server: str, tmp_path: Path) -> None:
    with served(server, watched, tmp_path / "log", INSTRUMENTED_WRAPPER_RESET_ON_RETURN="close") as address:
        for _ in range(4):
            ask(address, "acme", "kept")
            ask(address)
        watched.wait_streaming()
        watched.failover()
        for _ in range(4):
            assert ask(address, "acme") == ["kept"] * 4
            assert ask(address) == []
