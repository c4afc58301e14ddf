"""What the arguments of a connect say of the server, before a connection is there."""

from __future__ import annotations

from typing import Any

import pytest

from instrumented_wrapper.databases import postgresql
from instrumented_wrapper.databases.mysql import connect_arguments as of_mysql
from instrumented_wrapper.databases.postgresql import connect_arguments as of_postgresql
from instrumented_wrapper.operations import Site


@pytest.mark.parametrize(
    ("given", "environment", "site"),
    [
        ({"host": "db", "port": "5433", "dbname": "app", "user": "u"}, {}, ("app", "db", 5433)),
        ({"host": "db", "port": 5433, "user": "u"}, {}, ("u", "db", 5433)),
        ({"hostaddr": "10.0.0.7", "dbname": "app"}, {}, ("app", "10.0.0.7", None)),
        ({"dbname": "app"}, {"PGHOST": "db", "PGPORT": "5433"}, ("app", "db", 5433)),
        ({"dbname": "app"}, {}, ("app", "", None)),
        ({"host": "one,two", "port": "1,2", "dbname": "app"}, {}, ("app", "", None)),
        ({"host": "db", "port": "none", "dbname": "app"}, {}, ("app", "db", None)),
        ({"dbname": "postgresql://u:secret@db/app", "host": "db"}, {}, ("", "db", None)),
        ({"dbname": "password=secret", "host": "db"}, {}, ("", "db", None)),
    ],
)
def test_postgresql(given: dict[str, Any], environment: dict[str, str], site: tuple[str, str, int | None]) -> None:
    """A connection string in the place of a database's name is not shown: it may have a password in it."""
    assert of_postgresql.requested_site(given, environment) == Site(postgresql.SYSTEM, *site)


@pytest.mark.parametrize(
    ("given", "environment", "hosts"),
    [
        ({"host": "one,two", "port": "1,2"}, {}, [("one", 1), ("two", 2)]),
        ({"host": "one,two", "port": 5433}, {}, [("one", 5433), ("two", 5433)]),
        ({"host": "one,two", "port": ",2"}, {"PGPORT": "9"}, [("one", None), ("two", 2)]),
        ({"hostaddr": "10.0.0.7"}, {"PGHOST": "db", "PGPORT": "5433"}, [("10.0.0.7", 5433)]),
        ({}, {"PGHOST": "one,two"}, [("one", None), ("two", None)]),
        ({"dbname": "app"}, {"PGPORT": "5433"}, []),
        ({"host": "db", "port": "abc"}, {}, [("db", None)]),
    ],
)
def test_hosts_of_postgresql(given: dict[str, Any], environment: dict[str, str], hosts: list[Any]) -> None:
    assert of_postgresql.hosts_of(given, environment) == tuple(hosts)


@pytest.mark.parametrize(
    ("given", "site"),
    [
        ({}, ("", "localhost", 3306)),
        ({"host": "db", "port": "3307", "database": "app"}, ("app", "db", 3307)),
        ({"host": "db", "db": "app"}, ("app", "db", 3306)),
        ({"host": "db", "unix_socket": "/run/my.sock"}, ("", "/run/my.sock", None)),
    ],
)
def test_mysql(given: dict[str, Any], site: tuple[str, str, int | None]) -> None:
    assert of_mysql.requested_site(given) == Site("mysql", *site)
