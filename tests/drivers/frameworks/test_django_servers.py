"""The Django example behind web servers, with environment variables alone: no tenant reaches another request."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("django")

from . import serving
from .serving import TABLES, ask

APPS = str(Path(__file__).with_name("apps"))
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
    "uvicorn, async view": ["-m", "uvicorn", "--app-dir", APPS, "--port", "{port}", "async_views:asgi"],
}


@pytest.fixture
def watched(cluster: Any) -> Any:
    cluster.primary.sql(TABLES, database="app")
    return cluster


def served(name: str, cluster: Any, log: Path, **options: str) -> AbstractContextManager[str]:
    """Serve the example with one of the servers."""
    needed = SERVERS[name][1] if SERVERS[name][0] == "-m" else "django"
    if not find_spec(needed) or ("gevent" in name and not find_spec("gevent")):
        pytest.skip(f"{name} is not installed")
    hosts = (cluster.primary, cluster.standby)
    environment = {
        "DATABASE_HOST": ",".join(server.host for server in hosts),
        "DATABASE_PORT": ",".join(str(server.port) for server in hosts),
        **options,
    }
    return serving.served(serving.instrumented(*SERVERS[name]), log, **environment)


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


@pytest.mark.parametrize("server", ["gunicorn -k gthread", "gunicorn -k gevent", "uvicorn, async view"])
@pytest.mark.parametrize("policy", ["close", "on"])
def test_requests_at_the_same_time(watched, server: str, policy: str, tmp_path: Path) -> None:
    with served(server, watched, tmp_path / "log", INSTRUMENTED_WRAPPER_RESET_ON_RETURN=policy) as address:
        for tenant in ("acme", "other"):
            ask(address, tenant, f"of {tenant}")
        with ThreadPoolExecutor(6) as users:
            tenants = ["acme", "other", ""] * 10
            assert list(users.map(lambda tenant: ask(address, tenant), tenants)) == [["of acme"], ["of other"], []] * 10


@pytest.mark.parametrize("server", ["gunicorn --preload", "uvicorn", "uvicorn, async view"])
def test_a_failover(watched, server: str, tmp_path: Path) -> None:
    with served(server, watched, tmp_path / "log", INSTRUMENTED_WRAPPER_RESET_ON_RETURN="close") as address:
        for number in range(4):
            ask(address, "acme", f"kept {number}")
            ask(address)
        watched.wait_streaming()
        watched.failover()
        for _ in range(4):
            assert ask(address, "acme") == [f"kept {number}" for number in range(4)]
            assert ask(address) == []
