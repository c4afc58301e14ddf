"""django-tenants, which remembers the `search_path` that it has set, over persistent connections and a failover."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from . import serving
from .serving import TABLES, ask

if not find_spec("django_tenants"):
    pytest.skip("django-tenants is not installed", allow_module_level=True)

APP = Path(__file__).with_name("apps") / "tenants_app.py"
LIMITED = pytest.mark.parametrize("limited", ["", "1"], ids=["each cursor sets it", "TENANT_LIMIT_SET_CALLS"])


def served(cluster: Any, log: Path, limited: str, policy: str) -> AbstractContextManager[str]:
    """Serve the app, with a table of notes in the public schema too, which is nobody's."""
    cluster.primary.sql(TABLES, database="app")
    cluster.primary.sql(
        "ALTER TABLE notes DISABLE ROW LEVEL SECURITY; INSERT INTO notes VALUES ('of nobody', '')", "app"
    )
    cluster.wait_streaming()
    environment = {
        "DATABASE_HOST": ",".join(server.host for server in cluster.servers),
        "DATABASE_PORT": ",".join(str(server.port) for server in cluster.servers),
        "LIMIT_SET_CALLS": limited,
        "INSTRUMENTED_WRAPPER_RESET_ON_RETURN": policy,
    }
    return serving.served(serving.instrumented(str(APP), "{port}"), log, **environment)


@LIMITED
@pytest.mark.parametrize("policy", ["close", "on", "report"])
def test_each_request_sees_its_tenant(cluster: Any, tmp_path: Path, limited: str, policy: str) -> None:
    with served(cluster, tmp_path / "log", limited, policy) as address:
        assert ask(address, "acme", "of acme") == ["of acme"]
        assert ask(address, "other", "of other") == ["of other"]
        for _ in range(3):
            assert ask(address, "acme") == ["of acme"]
            assert ask(address) == ["of nobody"]
            assert ask(address, "other") == ["of other"]


@LIMITED
@pytest.mark.parametrize("policy", ["close", "on"])
def test_over_a_failover(cluster: Any, tmp_path: Path, limited: str, policy: str) -> None:
    with served(cluster, tmp_path / "log", limited, policy) as address:
        ask(address, "acme", "of acme")
        ask(address, "other", "of other")
        cluster.wait_streaming()
        cluster.failover()
        for _ in range(2):
            assert ask(address, "acme") == ["of acme"]
            assert ask(address) == ["of nobody"]
            assert ask(address, "other") == ["of other"]


@pytest.mark.parametrize(("policy", "seen"), [("close", ["of acme"]), ("on", ["of nobody"])])
def test_a_request_that_chooses_no_tenant(cluster: Any, tmp_path: Path, policy: str, seen: list[str]) -> None:
    """django-tenants keeps the tenant of the request before. It forgets what it has set in `close()` only."""
    with served(cluster, tmp_path / "log", "1", policy) as address:
        ask(address, "acme", "of acme")
        assert ask(address, "as before") == seen
