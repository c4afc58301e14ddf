"""PgBouncer in front of HAProxy and Patroni, in both modes, while the leader is switched over and killed.

In transaction mode a session is lent for a transaction: the writers say in each transaction whose it is.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from contract.sites import PostgreSQL
from contract.writers import LocalWorker, Worker

from servers import PgBouncer, pgbouncer
from servers.patroni import PatroniCluster

from .crew import Crew

# A server that cannot be reached is asked again after a second, not after 15.
SETTINGS: dict[str, Any] = {"server_login_retry": 1, "query_wait_timeout": 60, "default_pool_size": 40}
RESTARTS = 3
# A named statement of one transaction is not in the session of the next.
UNPREPARED: dict[str, dict[str, Any]] = {"psycopg": {"prepare_threshold": None}, "asyncpg": {"statement_cache_size": 0}}


@pytest.fixture
def poolers(patroni_cluster: PatroniCluster) -> Iterator[dict[str, PgBouncer]]:
    if not pgbouncer.available():
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    with (
        PgBouncer(patroni_cluster, "session", **SETTINGS) as session,
        PgBouncer(patroni_cluster, "transaction", **SETTINGS) as transaction,
    ):
        yield {"session": session, "transaction": transaction}


@pytest.fixture
def writers(patroni_cluster: PatroniCluster, poolers: dict[str, PgBouncer], drivers_of: Any, crew: Any) -> Crew:
    """Writers of every driver through each pooler."""
    made: Crew = crew(PostgreSQL, patroni_cluster)
    for mode, pooler in poolers.items():
        made.worker = LocalWorker if mode == "transaction" else Worker
        options = {"failover": "on", "failover_hosts": f"{pooler.host}:{pooler.port}"}
        if mode == "session":
            options["pooler"] = mode  # on a busy machine the wrapper may not find out in time
        for driver in drivers_of("postgresql"):
            keywords = UNPREPARED.get(driver.name, {}) if mode == "transaction" else {}
            made.both(driver, mode, made.site.dsn(pooler), options, **keywords)
    return made


def test_switchover(patroni_cluster: PatroniCluster, writers: Crew) -> None:
    with writers.at_work() as go_on:
        patroni_cluster.switchover()
        go_on()


def test_crash_of_the_leader(patroni_cluster: PatroniCluster, writers: Crew) -> None:
    with writers.at_work() as go_on:
        patroni_cluster.crash()
        go_on()


def test_the_pooler_restarts(poolers: dict[str, PgBouncer], writers: Crew) -> None:
    """Its connections are cut while the leader is well: a COMMIT on its way is carried out, or not."""
    with writers.at_work() as go_on:
        for _ in range(RESTARTS):
            for pooler in poolers.values():
                pooler.close()
                pooler.start()
            go_on()
