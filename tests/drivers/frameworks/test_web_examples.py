"""The Flask and FastAPI examples under ``opentelemetry-instrument``: their tenants, and users through a failover."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Semaphore
from typing import Any
from urllib.error import HTTPError

import pytest

from servers.guard import wait_until

from .serving import TABLES, ask, documented, locked, served, synchronous, waiting

TENANTS = ("acme", "other")
USERS, SINCE = 8, 5  # SINCE: requests of each user after the kill
# Where the rows are, and whether the app runs a lost write again.
EXAMPLES = {
    "flask": ("SELECT 'acme', text FROM acme.notes UNION ALL SELECT 'other', text FROM other.notes", False),
    "fastapi": ("SELECT tenant, text FROM notes", True),
}


class Outage:
    """The time without a primary: ``begun`` counts the requests that were sent since it was killed."""

    def __init__(self) -> None:
        self.killed, self.begun = Event(), Semaphore(0)


class Site:
    """One example, the cluster that it uses, and its address."""

    def __init__(self, name: str, cluster: Any, log: Path) -> None:
        self.query, self.writes_again = EXAMPLES[name]
        self.command, self.cluster, self.log = documented(f"{name}_app", cluster), cluster, log
        self.address = ""

    @contextmanager
    def serve(self, **environment: str) -> Iterator[str]:
        with served(self.command, self.log, **environment) as self.address:
            yield self.address

    def rows(self) -> list[tuple[str, str]]:
        return [(str(tenant), str(text)) for tenant, text in self.cluster.primary.sql(self.query, "app")]

    def attempt(self, tenant: str, note: str | None = None) -> Any:
        """Send a request; return its answer, or None if it failed."""
        try:
            return ask(self.address, tenant, note)
        except HTTPError:
            return None

    def use(self, user: int, outage: Outage) -> list[tuple[str, str, bool, Any]]:
        """Write one note after the other; return of each its tenant, text, whether its server was dead, and the answer.

        Every second user of a tenant waits after the first note, with idle connections in the pool, for the kill.
        """
        tenant, done, since = TENANTS[user % 2], [], 0
        while since < SINCE:
            if done and user % 4 > 1:
                outage.killed.wait(60)
            was_dead, text = outage.killed.is_set(), f"{tenant} {user} {len(done)}"
            if was_dead:
                outage.begun.release()
            done.append((tenant, text, was_dead, self.attempt(tenant, text)))
            since += was_dead
        return done


@pytest.fixture(params=EXAMPLES)
def site(request: pytest.FixtureRequest, cluster: Any, tmp_path: Path) -> Site:
    if not find_spec(request.param):
        pytest.skip(f"{request.param} is not installed")
    cluster.primary.sql(TABLES, "app")
    return Site(request.param, cluster, tmp_path / "log")


def test_no_request_sees_what_is_another_tenants(site: Site) -> None:
    with site.serve(INSTRUMENTED_WRAPPER_RESET_ON_RETURN="on") as address:
        assert ask(address, "acme", "of acme") == ["of acme"]
        for _ in range(4):
            assert ask(address, "acme") == ["of acme"]
            assert ask(address) == []
            assert ask(address, "other") == []
    assert site.rows() == [("acme", "of acme")]


def test_without_it_the_next_request_sees_them_and_a_report_says_so(site: Site) -> None:
    """What the test above would see if nothing were done."""
    with site.serve() as address:
        assert ask(address, "acme", "of acme") == ["of acme"]
        assert ask(address) == ["of acme"]
    assert "changed session state, which its next user inherits: " in site.log.read_text()


def test_users_through_a_failover(site: Site) -> None:
    """Only requests under way at the kill may fail; each note is there once, and with its tenant."""
    synchronous(site.cluster)
    outage = Outage()
    with site.serve(INSTRUMENTED_WRAPPER_RESET_ON_RETURN="on"), ThreadPoolExecutor(USERS) as pool:
        users = [pool.submit(site.use, user, outage) for user in range(USERS)]
        assert wait_until(lambda: len(site.rows()) > 40, 60)
        site.cluster.primary.kill()
        outage.killed.set()
        assert all(outage.begun.acquire(timeout=60) for _ in range(USERS // 2))  # those that were idle
        site.cluster.failover()
        done = [each for user in users for each in user.result()]
    assert [text for _, text, was_dead, answer in done if was_dead and answer is None] == []
    assert all(note.startswith(tenant) for tenant, _, _, answer in done for note in answer or ())
    rows = Counter(site.rows())
    confirmed = {(tenant, text) for tenant, text, _, answer in done if answer is not None}
    assert set(rows.values()) == {1}
    assert confirmed <= set(rows) <= {(tenant, text) for tenant, text, _, _ in done}


def test_requests_under_way_keep_their_tenant(site: Site) -> None:
    """They wait for a lock when their server is killed; what the app runs again, it runs as the same tenant."""
    with site.serve(INSTRUMENTED_WRAPPER_RESET_ON_RETURN="on") as address, ThreadPoolExecutor(4) as pool:
        for tenant in TENANTS:
            ask(address, tenant, f"{tenant} before")
        site.cluster.wait_streaming()
        with locked(site.cluster):
            reads = {tenant: pool.submit(site.attempt, tenant) for tenant in TENANTS}
            writes = {tenant: pool.submit(site.attempt, tenant, f"{tenant} now") for tenant in TENANTS}
            assert wait_until(lambda: waiting(site.cluster, 4), 30)
            site.cluster.failover()
            read, written = ({tenant: each.result() for tenant, each in them.items()} for them in (reads, writes))
    for tenant in TENANTS:
        before, now = f"{tenant} before", f"{tenant} now"
        assert [note for note in read[tenant] if note != now] == [before]
        assert written[tenant] == ([before, now] if site.writes_again else None)
        assert [text for of, text in site.rows() if of == tenant] == ([before, now] if site.writes_again else [before])
