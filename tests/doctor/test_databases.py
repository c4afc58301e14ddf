"""The doctor on real servers: what it says of hosts, settings and failover is what they are."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from instrumented_wrapper.doctor import command_line
from instrumented_wrapper.doctor.hosts import Host
from instrumented_wrapper.doctor.hosts import judged as hosts_judged
from instrumented_wrapper.doctor.rehearsal import Rehearsal
from instrumented_wrapper.doctor.rehearsal import judged as rehearsal_judged
from instrumented_wrapper.doctor.urls import target
from instrumented_wrapper.options import Options
from servers import Cluster, MariaDBCluster, MySQLCluster, PgBouncer, pgbouncer
from servers.server import free_port

from .run import data, doctor, levels, worse

POSTGRESQL = ("postgresql+psycopg", "postgresql+psycopg2")
MYSQL = ("mysql+pymysql", "mysql+mysqldb", "mysql+mysqlconnector")


def url(scheme: str, hosts: str, password: str = "app-secret", query: str = "") -> str:
    return f"{scheme}://app:{password}@{hosts}/app{query}"


@pytest.fixture(params=["postgresql", "mariadb", "mysql"])
def pair(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A healthy primary and standby of each database, and the schemes to reach it by."""
    name = {"postgresql": "running_cluster"}.get(request.param, f"running_{request.param}")
    cluster: Cluster | MariaDBCluster | MySQLCluster = request.getfixturevalue(name)
    cluster.restore()
    yield cluster, POSTGRESQL if request.param == "postgresql" else MYSQL
    cluster.restore()


def test_pair(pair: Any) -> None:
    cluster, schemes = pair
    found = data(*(word for scheme in schemes for word in ("--dsn", url(scheme, cluster.hosts()))))
    assert found["exit_code"] == 0, worse(found)
    for scheme, database in zip(schemes, found["databases"], strict=True):
        assert database["url"] == url(scheme, cluster.hosts(), "***")
        roles = {(host["host"], host["port"]): host["role"] for host in database["hosts"]}
        assert roles.pop((cluster.primary.host, cluster.primary.port)) == "writer"
        assert roles.pop((cluster.standby.host, cluster.standby.port)) in ("standby", "read-only")
        assert not roles
        for host in database["hosts"]:
            assert host["answers"] is True and host["error"] is None and host["pooler"] == "none"
            assert host["round_trip_ms"] > 0 and host["version"]
        assert database["failover"] == {
            "on": True,
            "rehearsed": True,
            "carried": True,
            "not_carried": database["failover"]["not_carried"],
            "error": None,
            "options": {},
        }
        assert "temporary tables" in database["failover"]["not_carried"]
        assert all(setting["carried"] is True for setting in database["settings"])


def test_after_a_failover(pair: Any) -> None:
    cluster, schemes = pair
    cluster.failover()
    found = data("--dsn", url(schemes[0], cluster.hosts()))
    assert worse(found) == {("warning", "host"), ("warning", "failover")}
    answers = {host["port"]: (host["answers"], host["role"]) for host in found["databases"][0]["hosts"]}
    assert answers == {cluster.primary.port: (True, "writer"), cluster.standby.port: (False, None)}


def test_no_writer(pair: Any) -> None:
    cluster, schemes = pair
    cluster.primary.kill()
    found = data("--dsn", url(schemes[0], cluster.hosts()))
    assert ("broken", "writer") in worse(found)


def test_one_host(pair: Any) -> None:
    cluster, schemes = pair
    host = f"{cluster.primary.host}:{cluster.primary.port}"
    found = data("--dsn", url(schemes[0], host))
    assert worse(found) == {("warning", "failover")}
    assert found["databases"][0]["failover"]["on"] is False
    assert found["databases"][0]["failover"]["carried"] is True
    found = data("--dsn", url(schemes[0], host), INSTRUMENTED_WRAPPER_FAILOVER_HOSTS=cluster.hosts())
    assert worse(found) == set(), "the variable names the others"
    assert len(found["databases"][0]["hosts"]) == 2


def test_wrong_password(pair: Any) -> None:
    cluster, schemes = pair
    for scheme in schemes:
        ended = doctor("--dsn", url(scheme, cluster.hosts(), "hush-hush"))
        assert ended.returncode == 2
        assert ended.stdout.count("BROKEN") == 2
        assert "hush-hush" not in ended.stdout + ended.stderr
        # PyMySQL needs a package for MySQL's way to log in, and says so.
        assert any(words in ended.stdout for words in ("denied", "authentication failed", "'cryptography' package"))


@pytest.mark.parametrize("scheme", [*POSTGRESQL, *MYSQL])
def test_dead_host(scheme: str) -> None:
    found = data("--dsn", url(scheme, f"127.0.0.1:{free_port()}"))
    assert levels(found, "host") == ["broken"]
    [host] = found["databases"][0]["hosts"]
    assert (host["answers"], host["role"], host["round_trip_ms"]) == (False, None, None)
    assert found["databases"][0]["failover"] is None


@pytest.mark.parametrize("scheme", MYSQL)
def test_frozen_host(running_mariadb: MariaDBCluster, scheme: str) -> None:
    """It accepts connections, and never answers."""
    running_mariadb.restore()
    running_mariadb.standby.freeze()
    try:
        found = data("--dsn", url(scheme, running_mariadb.hosts()))
    finally:
        running_mariadb.standby.thaw()
    assert worse(found) == {("warning", "host"), ("warning", "failover")}


@pytest.mark.parametrize("variable", ["INSTRUMENTED_WRAPPER_DRIVERS", "INSTRUMENTED_WRAPPER_FAILOVER"])
def test_driver_that_is_not_patched(cluster: Cluster, variable: str) -> None:
    """It is left out, or the value cannot be used: the hosts are looked at all the same."""
    found = data("--dsn", url("postgresql", cluster.hosts()), **{variable: "sqlite3"})
    assert worse(found) - {("broken", "variable")} == {("warning", "failover")}
    assert [host["answers"] for host in found["databases"][0]["hosts"]] == [True, True]
    assert found["databases"][0]["failover"]["rehearsed"] is False


def test_failover_that_is_switched_off(cluster: Cluster) -> None:
    host = f"{cluster.primary.host}:{cluster.primary.port}"
    found = data("--dsn", url("postgresql", host), INSTRUMENTED_WRAPPER_FAILOVER="off")
    assert found["exit_code"] == 0


def test_transfer_that_is_switched_off(cluster: Cluster) -> None:
    found = data("--dsn", url("postgresql", cluster.hosts()), INSTRUMENTED_WRAPPER_TRANSFER_SESSION_STATE_ON_SWITCH="0")
    assert worse(found) == {("warning", "transfer")}
    failover = found["databases"][0]["failover"]
    assert (failover["rehearsed"], failover["carried"]) == (True, False), "as the server says"


def test_several_writers(running_mariadb: MariaDBCluster) -> None:
    running_mariadb.restore()
    running_mariadb.standby.sql("SET GLOBAL read_only = 0", "")
    try:
        found = data("--dsn", url("mysql", running_mariadb.hosts()))
    finally:
        running_mariadb.standby.sql("SET GLOBAL read_only = 1", "")
    assert worse(found) == {("warning", "writer")}


def test_hosts_of_the_option_have_the_port_of_the_url(cluster: Cluster) -> None:
    host = f"{cluster.primary.host}:{cluster.primary.port}"
    found = data("--dsn", url("postgresql", host), INSTRUMENTED_WRAPPER_FAILOVER_HOSTS="127.0.0.1,localhost")
    names = [each["name"] for each in found["databases"][0]["hosts"]]
    assert names == [host, f"localhost:{cluster.primary.port}"]


@pytest.mark.parametrize(("role", "pooler", "check"), [("writer", "unknown", "pooler"), ("standby", "none", "writer")])
def test_host_that_is_not_as_wanted(role: str, pooler: str, check: str) -> None:
    host = Host("db", 3306, role, "9.7", 0.1, pooler)
    assert [each.check for each in hosts_judged(target("mysql://db"), [host], "") if each.level != "ok"] == [check]


@pytest.mark.parametrize(
    ("rehearsal", "words"),
    [
        (Rehearsal(True, True, tried=True, carried=False), "what was set by SQL"),
        (Rehearsal(True, True, tried=True, carried=True, changed=["time_zone"]), "time_zone"),
        (Rehearsal(True, True, tried=True, error="FailoverFailedError: no server"), "no server"),
    ],
)
def test_session_that_is_not_carried(rehearsal: Rehearsal, words: str) -> None:
    found = rehearsal_judged(target("mysql://db1,db2"), "pymysql", rehearsal, [Host("db1", 1), Host("db2", 2)])
    [broken] = [each for each in found if each.level != "ok"]
    assert (broken.level, broken.check) == ("broken", "transfer") and words in broken.message


def test_settings_that_are_not_at_their_default(cluster: Cluster) -> None:
    cluster.primary.sql("ALTER ROLE app SET work_mem = '9MB'")
    try:
        query = "?options=-c%20statement_timeout%3D7000"
        [database] = data("--dsn", url("postgresql", cluster.hosts(), query=query))["databases"]
    finally:
        cluster.primary.sql("ALTER ROLE app RESET work_mem")
    settings = {setting["name"]: setting for setting in database["settings"]}
    expected = {"name": "work_mem", "value": "9216", "default": "4096", "source": "user", "carried": True}
    assert settings["work_mem"] == expected
    assert (settings["statement_timeout"]["value"], settings["statement_timeout"]["source"]) == ("7000", "client")


@pytest.mark.skipif(not pgbouncer.available(), reason="PgBouncer is not on this machine")
@pytest.mark.parametrize("scheme", POSTGRESQL)
@pytest.mark.parametrize(("mode", "level"), [("transaction", "warning"), ("session", "ok")])
def test_pooler(cluster: Cluster, scheme: str, mode: Any, level: str) -> None:
    with PgBouncer(cluster.primary, mode, 3) as pooler:
        found = data("--dsn", url(scheme, f"{pooler.host}:{pooler.port}"))
    assert found["databases"][0]["hosts"][0]["pooler"] == mode
    assert levels(found, "pooler") == [level]
    assert found["databases"][0]["failover"]["rehearsed"] is (mode == "session"), (
        "nothing may land on another's session"
    )


def test_a_sqlite_file_is_opened_and_not_created(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    assert levels(data("--dsn", f"sqlite:///{path}"), "host") == ["broken"]
    assert not path.exists(), "looking at a file does not create it"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
    found = data("--dsn", f"sqlite:///{path}")
    assert found["exit_code"] == 0
    assert [(each["name"], each["value"], each["default"]) for each in found["databases"][0]["settings"]] == [
        ("journal_mode", "wal", "delete")
    ]
    assert found["databases"][0]["hosts"][0]["role"] == "writer"
    assert data("--dsn", f"sqlite:///{path}?mode=ro")["databases"][0]["hosts"][0]["role"] == "read-only"


def test_no_driver_is_installed() -> None:
    without = command_line._Database(replace(target("mysql://db"), drivers=("no_such_driver",)))
    [broken] = command_line._examine(without, Options()).findings
    assert (broken.level, broken.check) == ("broken", "driver") and "no_such_driver" in broken.message


def test_driver_that_is_not_supported(cluster: Cluster) -> None:
    found = data("--dsn", url("postgresql+pg8000", cluster.hosts()))
    assert found["databases"][0]["driver"] == "psycopg"
    assert ("warning", "driver") in worse(found) or "pg8000" in found["drivers"]
