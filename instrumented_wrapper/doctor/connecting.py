"""Connect to one database of a URL with an installed driver, and run statements. Has no statements of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from instrumented_wrapper.doctor.urls import Target
from instrumented_wrapper.errors import Address

_SECONDS: Final = 5  # that a host has to answer
_TIMEOUTS: Final = {  # keywords of connect; a server that is frozen accepts connections, and never answers
    "psycopg": ("connect_timeout",),
    "psycopg2": ("connect_timeout",),
    "pymysql": ("connect_timeout", "read_timeout"),
    "MySQLdb": ("connect_timeout", "read_timeout"),
    "mysql.connector": ("connection_timeout",),
    "sqlite3": ("timeout",),
}


def available(target: Target) -> str:
    """Return the first driver of a target that can be imported, or an empty string."""
    for module in target.drivers:
        try:
            import_module(module)
        except ImportError:  # not installed, or its C library is not
            continue
        return module
    return ""


def connect(target: Target, module: str, hosts: Sequence[Address], given: Mapping[str, Any]) -> Any:
    """Return a connection to one of `hosts`, or to the default host of the driver if there are none.

    Raises:
        Exception: the driver's, also for arguments that it does not know.
    """
    if target.database == "sqlite":
        keywords = _of_file(target)
    else:
        keywords = _of_account(target) | _of_hosts(target.database, hosts)
    return import_module(module).connect(**{**dict.fromkeys(_TIMEOUTS[module], _SECONDS), **keywords, **given})


def _of_file(target: Target) -> dict[str, Any]:
    """Name a file by a URI: connecting must not create it."""
    if target.path in ("", ":memory:"):
        return {"database": ":memory:"}
    from pathlib import Path

    path = Path(target.path).absolute().as_uri()
    return {"database": f"{path}?mode={dict(target.query).get('mode', 'rw')}", "uri": True}


def _of_account(target: Target) -> dict[str, Any]:
    name = "dbname" if target.database == "postgresql" else "database"
    account = {"user": target.user, "password": target.password, name: target.path}
    options = {key: int(value) if value.isdigit() else value for key, value in target.query}
    return {key: value for key, value in account.items() if value} | options


def _of_hosts(database: str, hosts: Sequence[Address]) -> dict[str, Any]:
    if database == "postgresql":
        ports = [str(port or "") for _, port in hosts]
        return {"host": ",".join(host for host, _ in hosts), "port": ",".join(ports)} if hosts else {}
    host, port = hosts[0] if hosts else ("", None)
    if host.startswith("/"):
        return {"unix_socket": host}
    return {name: value for name, value in (("host", host), ("port", port)) if value}


def ask(connection: Any, *texts: str) -> list[Any]:
    """Run statements in a transaction of their own; return the rows of each, an empty list if it returns none.

    Raises:
        Exception: the driver's.
    """
    cursor = connection.cursor()
    answers = []
    for text in texts:
        cursor.execute(text)
        answers.append(cursor.fetchall() if cursor.description else [])
    cursor.close()
    connection.commit()
    return answers


def session_number(connection: object) -> int | None:
    """Return the number that the server gave the session at its login, as far as the driver exposes it."""
    for name in ("connection_id", "thread_id"):
        if (number := getattr(connection, name, None)) is not None:
            return int(number() if callable(number) else number)
    number = getattr(getattr(connection, "info", None), "backend_pid", None)
    return None if number is None else int(number)
