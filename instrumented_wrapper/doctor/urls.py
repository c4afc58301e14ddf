"""Read database URLs for the doctor, and show them without their password. Pure.

``scheme[+driver]://user:password@host:port,host:port/database?name=value``, as libpq and SQLAlchemy read them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote, unquote

from instrumented_wrapper.errors import Address

_DATABASES: Final = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "sqlite": "sqlite",
}
DRIVERS: Final = {  # by the name that SQLAlchemy has for each; a database's first one that is installed is its default
    "postgresql": {"psycopg": "psycopg", "psycopg2": "psycopg2"},
    "mysql": {"mysqldb": "MySQLdb", "pymysql": "pymysql", "mysqlconnector": "mysql.connector"},
    "sqlite": {"pysqlite": "sqlite3"},
}
# Drivers that the doctor does not connect with; another one of the database stands in.
ELSEWHERE: Final = {
    "postgresql": {"asyncpg": "asyncpg", "pg8000": "pg8000", "psycopg_async": "psycopg", "psycopg2cffi": ""},
    "mysql": {"aiomysql": "aiomysql", "asyncmy": "asyncmy", "mariadbconnector": "", "cymysql": ""},
    "sqlite": {"aiosqlite": "sqlite3"},
}
_URL: Final = re.compile(
    r"(?P<scheme>[a-z0-9_.+-]+)://(?P<place>[^/?]*)(?:/(?P<path>[^?]*))?(?:\?(?P<query>.*))?", re.I
)
_HOST: Final = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<name>[^:\[\]]*))(?::(?P<port>\d*))?")
_SECRETS: Final = ("password", "passwd", "passphrase", "sslpassword")
_SHOWN: Final = ("application_name", "charset", "connect_timeout", "mode", "sslmode", "target_session_attrs")
_IN_TEXT: Final = re.compile(
    r"(?<=://)\S*(?=@)|(?<=password=)(?:'(?:[^'\\]|\\.)*'|[^\s&]+)|(?<=passwd=)(?:'(?:[^'\\]|\\.)*'|[^\s&]+)", re.I
)
_QUOTE: Final = "Quote / ? @ : in names and passwords as %2F %3F %40 %3A"
_ACCEPTED: Final = ", ".join(f"{scheme}://" for scheme in _DATABASES)


class UsageError(ValueError):
    """The command line cannot be used. The text of the error never has a password."""


@dataclass(frozen=True, slots=True)
class Target:
    """One database to connect to.

    Attributes:
        shown: the URL without its password.
        database: ``postgresql``, ``mysql`` or ``sqlite``.
        named: the driver that the scheme names, as a module; empty if it names none.
        drivers: modules to connect with, the best first.
        hosts: in the order of the URL; empty if the client library finds one by itself.
        user, password, path, query: the other parts, decoded.
    """

    shown: str
    database: str
    named: str
    drivers: tuple[str, ...]
    hosts: tuple[Address, ...]
    user: str
    password: str = field(repr=False)
    path: str
    query: tuple[tuple[str, str], ...] = field(repr=False)

    def hide(self, text: str) -> str:
        """Return a text of a driver or a server without the secrets of this URL."""
        secrets = {value for name, value in self.query if name in _SECRETS} | {self.password}
        for secret in sorted(filter(None, secrets | {quote(word) for word in secrets}), key=len, reverse=True):
            text = text.replace(secret, "***")
        return masked(text)


def masked(text: str) -> str:
    """Return a text without anything that looks like the password of a URL or of a connection string."""
    return _IN_TEXT.sub("***", text)


def target(url: str) -> Target:
    """Read one URL.

    Raises:
        UsageError: the text is not a URL, or its scheme or a host cannot be used.
    """
    found = _URL.fullmatch(url.strip())
    if found is None:
        raise UsageError(f"--dsn takes a URL, such as postgresql://user@host/database: one of {_ACCEPTED}")
    scheme, _, name = found["scheme"].lower().partition("+")
    if (database := _DATABASES.get(scheme)) is None:
        raise UsageError(f"--dsn: unknown scheme {scheme}://, expected one of {_ACCEPTED}")
    account, at, place = found["place"].rpartition("@")
    if not at and "@" in url:  # a password with one of / ? in it, which must not be shown as the database
        raise UsageError(f"--dsn: {_QUOTE}")
    user, _, password = account.partition(":")
    query = tuple(parse_qsl(found["query"] or "", keep_blank_values=True))
    hosts, query = _hosts(place, query)
    named, drivers = _drivers(database, name)
    path = unquote(found["path"] or "")
    shown = _shown(found["scheme"], user, password, hosts, path, query)
    return Target(shown, database, named, drivers, hosts, unquote(user), unquote(password), path, query)


def _drivers(database: str, name: str) -> tuple[str, tuple[str, ...]]:
    known = DRIVERS[database]
    if name in known:
        return known[name], (known[name],)
    if name and name not in ELSEWHERE[database]:
        names = ", ".join((*known, *ELSEWHERE[database]))
        raise UsageError(f"--dsn: unknown driver +{name}, expected none or one of {names}")
    return ELSEWHERE[database].get(name) or name, tuple(known.values())


def _hosts(place: str, query: tuple[tuple[str, str], ...]) -> tuple[tuple[Address, ...], tuple[tuple[str, str], ...]]:
    """Return the hosts of a URL, which libpq and SQLAlchemy take from ``?host=`` too, and the rest of the query."""
    given = [value for name, value in query if name == "host"]
    ports = ",".join(value for name, value in query if name == "port").split(",")
    words = ",".join([word for word in (place, *given) if word]).split(",")
    hosts = [_host(word, ports[min(index, len(ports) - 1)]) for index, word in enumerate(words) if word]
    return tuple(hosts), tuple(pair for pair in query if pair[0] not in ("host", "port"))


def _host(word: str, port: str) -> Address:
    if word.startswith(("/", "%2F", "%2f")):
        return unquote(word), int(port) if port.isdigit() else None
    found = _HOST.fullmatch(word)
    number = (found["port"] or port) if found else ""
    if found is None or not (number == "" or (number.isdigit() and 0 < int(number) < 65536)):
        raise UsageError(f"--dsn: the hosts are not host[:port],host[:port]. {_QUOTE}")
    return unquote(found["v6"] or found["name"]), int(number) if number else None


def _shown(
    scheme: str, user: str, password: str, hosts: tuple[Address, ...], path: str, query: tuple[tuple[str, str], ...]
) -> str:
    account = f"{user}{':***' if password else ''}@" if user or password else ""
    place = ",".join(f"{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}" for host, port in hosts)
    names = "&".join(f"{name}={value if name in _SHOWN else '***'}" for name, value in query)
    return f"{scheme}://{account}{place}/{path}{f'?{names}' if names else ''}"
