"""The Celery example under ``opentelemetry-instrument``: its tenants, and tasks through a failover."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from servers.guard import wait_until

from .serving import TABLES, documented, locked, started, synchronous, waiting

celery = pytest.importorskip("celery")


class Worker:
    """A worker of the example, and what calls its tasks.

    The transport creates a file for a task and then writes it, and its names order tasks of one millisecond by chance.
    So each task is written in another folder, and moved at once, with a name that tells its turn.
    """

    def __init__(self, cluster: Any, folder: Path) -> None:
        self.cluster, self.log, self.tasks = cluster, folder / "log", folder / "tasks"
        self._written, self._numbers = folder / "written", count(1)
        for made in (self.tasks, self._written):
            made.mkdir()
        folders = {"data_folder_in": self.tasks, "data_folder_out": self._written}
        self.caller = celery.Celery(broker="filesystem://", set_as_current=False)
        self.caller.conf.broker_transport_options = {
            **{name: str(path) for name, path in folders.items()},
            "control_folder": str(self.tasks / "control"),
        }

    @contextmanager
    def work(self, **environment: str) -> Iterator[None]:
        command = documented("celery_app", self.cluster)
        with started(command, self.log, TASKS_FOLDER=str(self.tasks), **environment):
            yield

    def call(self, tenant: str, note: str) -> None:
        self.caller.send_task("celery_app.add", [tenant, note])
        (task,) = self._written.iterdir()
        task.rename(self.tasks / f"{next(self._numbers):06}_{task.name}")

    def rows(self) -> list[tuple[str, str]]:
        query = "SELECT tenant, text FROM notes"
        return [(str(tenant), str(text)) for tenant, text in self.cluster.primary.sql(query, "app")]

    def wait_for(self, count: int) -> None:
        assert wait_until(lambda: len(self.rows()) >= count, 60), self.log.read_text()


@pytest.fixture
def worker(cluster: Any, tmp_path: Path) -> Worker:
    cluster.primary.sql(TABLES, "app")
    return Worker(cluster, tmp_path)


def test_no_task_has_the_tenant_of_another(worker: Worker) -> None:
    """Pools of psycopg reset what is returned by default; a note without a tenant is refused."""
    with worker.work():
        for tenant, note in (("acme", "first"), ("", "nobody's"), ("other", "second")):
            worker.call(tenant, note)
        worker.wait_for(2)
    assert worker.rows() == [("acme", "first"), ("other", "second")]


def test_without_it_the_next_task_has_it(worker: Worker) -> None:
    """What the test above would see if nothing were done."""
    with worker.work(INSTRUMENTED_WRAPPER_RESET_ON_RETURN="off"):
        for tenant, note in (("acme", "first"), ("", "nobody's")):
            worker.call(tenant, note)
        worker.wait_for(2)
    assert worker.rows() == [("acme", "first"), ("acme", "nobody's")]


def test_tasks_through_a_failover(worker: Worker) -> None:
    """One is under way, others wait: each note is there once, and with its tenant."""
    synchronous(worker.cluster)
    called = [(tenant, f"{tenant} {number}") for number in range(6) for tenant in ("acme", "other")]
    with worker.work():
        worker.call("acme", "before")
        worker.wait_for(1)
        with locked(worker.cluster):
            for tenant, note in called:
                worker.call(tenant, note)
            assert wait_until(lambda: waiting(worker.cluster, 1), 60)
            worker.cluster.failover()
        worker.wait_for(1 + len(called))
    assert Counter(worker.rows()) == Counter([("acme", "before"), *called])
    assert "FailoverSuccessError" in worker.log.read_text()
