"""The loops that the documentation shows, run over a failover that cannot carry the app's tenant."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import instrumented_wrapper
from servers.server import APP

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"```python\n(def retried\(.*?)```", re.DOTALL)
PYMYSQL = "pymysql.err.OperationalError"


class Kind(NamedTuple):
    """A page, a driver, and what its app says to the server."""

    page: str
    cluster: str
    module: str
    error: str  # as the page spells it, or says how to
    sets: str
    counts: str


OF_POSTGRESQL = (
    "SELECT set_config('app.' || 'tenant', 'acme', false)",
    "INSERT INTO retried SELECT length(current_setting('app.tenant'))",
)
OF_MYSQL = ("SET @tenant = REPEAT('acme', 3000000)", "INSERT INTO retried SELECT LENGTH(@tenant) / 3000000")
KINDS = [
    Kind("README.md", "running_cluster", "psycopg", "psycopg.OperationalError", *OF_POSTGRESQL),
    Kind("docs/how-to/retrying.md", "running_cluster", "psycopg", "psycopg.OperationalError", *OF_POSTGRESQL),
    Kind("README.md", "running_cluster", "psycopg2", "psycopg2.OperationalError", *OF_POSTGRESQL),
    Kind("docs/reference/drivers/README.md", "running_mariadb", "pymysql", PYMYSQL, *OF_MYSQL),
    Kind("docs/reference/drivers/README.md", "running_mariadb", "MySQLdb", "MySQLdb.OperationalError", *OF_MYSQL),
    Kind(
        "docs/reference/drivers/README.md",
        "running_mariadb",
        "mysql.connector",
        "mysql.connector.errors.OperationalError",
        *OF_MYSQL,
    ),
]


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind.module} of {Path(kind.page).name}")
def kind(request: pytest.FixtureRequest) -> Kind:
    try:
        import_module(request.param.module)
    except ImportError as error:
        pytest.skip(f"{request.param.module} is not installed: {error}")
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def cluster(kind: Kind, request: pytest.FixtureRequest) -> Any:
    cluster = request.getfixturevalue(kind.cluster)
    cluster.restore()
    return cluster


def loop_of(kind: Kind, **names: Any) -> Callable[..., Any]:
    """Return the function that a page shows, for a driver that it names."""
    (text,) = BLOCK.findall((ROOT / kind.page).read_text())
    first, error = kind.module.partition(".")[0], kind.error
    spelled = PYMYSQL if kind.page.startswith("docs/reference") else "psycopg.OperationalError"
    assert spelled in text
    assert error in text or kind.module == "psycopg2"
    given = {first: import_module(first), "instrumented_wrapper": instrumented_wrapper, **names}
    exec(text.replace(spelled, error), given)
    return given["retried"]  # type: ignore[no-any-return]


def connect(kind: Kind, cluster: Any) -> Any:
    hosts = cluster.primary, cluster.standby
    places = ",".join(f"{server.host}:{server.port}" for server in hosts)
    given = {"host": hosts[0].host, "port": hosts[0].port, **APP, "instrumented_wrapper": {"failover_hosts": places}}
    if not kind.module.startswith("psycopg"):
        given["database"] = given.pop("dbname")
    return import_module(kind.module).connect(**given)


def execute(connection: Any, text: str) -> None:
    cursor = connection.cursor()
    cursor.execute(text)
    if cursor.description:
        cursor.fetchall()
    cursor.close()


@pytest.mark.parametrize("sent", [False, True], ids=["idle", "in a transaction"])
def test_a_loop_sets_the_tenant_again(kind: Kind, cluster: Any, sent: bool) -> None:
    connection, calls = connect(kind, cluster), []

    def set_up(connection: Any) -> None:
        execute(connection, kind.sets)
        execute(connection, "SELECT 1")
        connection.commit()

    def work(connection: Any) -> None:
        calls.append(connection)
        if sent:
            execute(connection, "INSERT INTO retried VALUES (0)")
        if len(calls) == 1:
            cluster.wait_streaming()
            cluster.failover()
        execute(connection, kind.counts)
        connection.commit()

    execute(connection, "CREATE TABLE IF NOT EXISTS retried (i int)")
    execute(connection, "DELETE FROM retried")
    connection.commit()
    set_up(connection)
    loop_of(kind, set_up=set_up)(connection, work)
    assert len(calls) == 2
    found = cluster.primary.sql("SELECT i FROM retried ORDER BY i", "app")
    assert [int(number) for (number,) in found] == [0] * sent + [4]
    execute(connection, "DROP TABLE retried")
    connection.commit()
    connection.close()


def test_a_loop_without_it_stores_nothing_for_nobody(kind: Kind, cluster: Any) -> None:
    """An app that knows nothing of us, and tries three times."""
    connection = connect(kind, cluster)
    execute(connection, "CREATE TABLE IF NOT EXISTS retried (i int)")
    execute(connection, "DELETE FROM retried")
    execute(connection, kind.sets)
    execute(connection, "SELECT 1")
    connection.commit()
    cluster.wait_streaming()
    cluster.failover()
    error: type[Exception] = eval(kind.error, {kind.module.partition(".")[0]: import_module(kind.module.split(".")[0])})
    for _ in range(3):
        with pytest.raises(error):
            execute(connection, "INSERT INTO retried VALUES (1)")
        connection.rollback()
    connection.close()
    assert cluster.primary.sql("SELECT i FROM retried", "app") == []
