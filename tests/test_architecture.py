"""The arrows of the design, on the real import graph: who may know whom.

It reads the source only (`ast`), so that an import inside a function counts too. An import under ``TYPE_CHECKING``
is a sentence about types and draws no arrow.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import instrumented_wrapper

PACKAGE = "instrumented_wrapper"
ROOT = Path(instrumented_wrapper.__file__).parent
FORBIDDEN = {"utils", "common", "manager", "helper", "base", "core"}
LONGEST = 350
# What a driver's room imports where it is not called like the room.
PACKAGES = {
    "mysql_connector": {"mysql", "_mysql_connector"},
    "mysql_connector_aio": {"mysql"},
    "mysqlclient": {"MySQLdb"},
    "aiomysql": {"pymysql"},  # on which it is built
    "psycopg_pool_metrics": {"psycopg_pool"},
    "sqlalchemy_metrics": {"sqlalchemy"},
    "dbutils_pooled": {"dbutils"},
    "dbutils_steady": {"dbutils"},
    "peewee": {"playhouse"},
    "aws": {"aws_advanced_python_wrapper"},
    "aws_aio": {"aws_advanced_python_wrapper"},
}

# What neither drivers nor pools know.
ABOVE = {
    "carrying",
    "lifecycle",
    "leaks",
    "resets",
    "switching",
    "transfer",
    "verification",
    "instrument",
    "instrumentor",
    "telemetry",
    "doctor",
    "__main__",
    "",
}

# What pure modules may know of ours. Nothing else, and nothing from outside the standard library.
PURE = {
    "databases": {"operations", "plans", "statement"},
    "batches": set(),
    "errors": set(),
    "events": set(),
    "operations": set(),
    "options": {"errors", "supported"},
    "unreported_changes": set(),
    "pages": {"operations"},
    "failover": {"errors"},
    "runners": set(),
    "single_flight": {"errors", "failover"},
    "statement": set(),
    "supported": set(),
    "snapshot": set(),
    "savepoints": {"statement"},
    "plans": set(),
    "drift": {"plans", "server_settings"},
    "server_settings": {"plans", "savepoints", "statement"},
    "security": {"databases", "errors", "savepoints", "server_settings", "statement"},
    "residual_state": {"databases", "statement"},
    "session": {
        "databases",
        "errors",
        "handlers",
        "unreported_changes",
        "options",
        "plans",
        "residual_state",
        "savepoints",
        "security",
        "server_settings",
        "snapshot",
        "statement",
    },
    "handlers": {"snapshot"},
    "states": {"handlers"},
    "version": set(),
}


def name_of(path: Path) -> str:
    """``drivers/psycopg/__init__.py`` -> ``drivers.psycopg``; the package itself is the empty string."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): ast.parse(path.read_text(), str(path)) for path in sorted(ROOT.rglob("*.py"))}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs: all but the bodies of ``if TYPE_CHECKING``."""
    yield node
    children = node.orelse if is_type_checking(node) else ast.iter_child_nodes(node)
    for child in children:
        yield from running_nodes(child)


def imports_of(nodes: Iterator[ast.AST]) -> set[str]:
    """Full names of what is imported; ``from a import b`` gives ``a.b`` (which may be a module or a name in one)."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute, so that they can be read"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def module_of(imported: str) -> str | None:
    """The module of ours that an imported name is, or is in."""
    if imported != PACKAGE and not imported.startswith(f"{PACKAGE}."):
        return None
    name = imported.removeprefix(PACKAGE).removeprefix(".")
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def outside(module: str, nodes: Iterator[ast.AST] | None = None) -> set[str]:
    """The top-level packages that a module imports, ours and the standard library's left out."""
    tops = {name.partition(".")[0] for name in imports_of(nodes or running_nodes(MODULES[module]))}
    return tops - set(sys.stdlib_module_names) - {PACKAGE, "__future__"}


def ours(module: str) -> set[str]:
    names = {module_of(name) for name in imports_of(running_nodes(MODULES[module]))}
    return {name for name in names if name is not None}


def room(module: str) -> str:
    return module.partition(".")[0]


def in_room(*rooms: str) -> list[str]:
    return [module for module in MODULES if room(module) in rooms]


def test_the_graph_is_seen():
    assert "events" in ours("telemetry.spans")
    assert "session" in ours("lifecycle")
    assert "wrapt" in outside("patching")
    assert "psycopg" in outside("drivers.psycopg.driver")
    assert in_room("databases") and in_room("drivers") and in_room("telemetry")


@pytest.mark.parametrize("module", in_room(*PURE))
def test_pure_modules_know_only_the_standard_library(module):
    nodes = ast.walk(MODULES[module])  # TYPE_CHECKING included: not even in their types
    assert outside(module, nodes) == set()


@pytest.mark.parametrize("module", in_room(*PURE))
def test_pure_modules_know_only_what_is_purer(module):
    assert {room(name) for name in ours(module)} - {room(module)} <= PURE[room(module)]


@pytest.mark.parametrize("module", in_room(*PURE))
def test_pure_modules_do_no_input_or_output(module):
    names = {name.partition(".")[0] for name in imports_of(ast.walk(MODULES[module]))}
    assert not names & {"os", "socket", "selectors", "subprocess", "select", "asyncio", "logging"}


@pytest.mark.parametrize("module", MODULES)
def test_wrapt_is_known_in_two_places_only(module):
    assert ("wrapt" in outside(module)) <= (module in ("patching", "instrument"))


def test_instrument_uses_only_the_import_hook_of_wrapt():
    used = {
        node.attr
        for node in ast.walk(MODULES["instrument"])
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "wrapt"
    }
    assert used == {"register_post_import_hook"}


@pytest.mark.parametrize("module", MODULES)
def test_opentelemetry_is_known_to_telemetry_and_the_entry_point_only(module):
    allowed = room(module) in ("telemetry", "doctor") or module == "instrumentor"
    assert ("opentelemetry" in outside(module)) <= allowed
    typed = "opentelemetry" in outside(module, ast.walk(MODULES[module]))
    assert typed <= (allowed or module == "instrument")


@pytest.mark.parametrize("module", MODULES)
def test_drivers_are_imported_by_their_own_room_only(module):
    drivers = {
        "psycopg",
        "psycopg_pool",
        "psycopg2",
        "pymysql",
        "mysql",
        "MySQLdb",
        "sqlite3",
        "aiosqlite",
        "asyncpg",
        "pg8000",
    }
    names = {name.partition(".")[0] for name in imports_of(ast.walk(MODULES[module]))}
    assert not names & drivers or module.startswith(("drivers.", "pools."))


@pytest.mark.parametrize("module", in_room("drivers"))
def test_drivers_know_nothing_of_whoever_uses_them(module):
    above = {
        "lifecycle",
        "leaks",
        "resets",
        "switching",
        "transfer",
        "verification",
        "instrument",
        "instrumentor",
        "telemetry",
        "doctor",
        "__main__",
        "",
    }
    assert not {room(name) for name in ours(module)} & above


@pytest.mark.parametrize("module", in_room("pools"))
def test_pools_know_no_driver(module):
    known = {name for name in ours(module) if room(name) == "drivers"}
    assert known <= {"drivers", "drivers.registry", "drivers.engine.record"}, "a pool asks a connection for its driver"
    above = {
        "lifecycle",
        "leaks",
        "resets",
        "switching",
        "transfer",
        "verification",
        "instrument",
        "instrumentor",
        "telemetry",
        "doctor",
        "__main__",
        "",
    }
    assert not {room(name) for name in ours(module)} & above


@pytest.mark.parametrize("module", in_room("layers"))
def test_packages_over_a_driver_know_no_driver(module):
    known = {name for name in ours(module) if room(name) == "drivers"}
    engine = {f"drivers.engine.{name}" for name in ("closing", "record", "query_spans")}
    assert known <= {"drivers", "drivers.registry"} | engine, "a connection is asked for its driver"
    assert not {room(name) for name in ours(module)} & ABOVE


@pytest.mark.parametrize("module", in_room("drivers"))
def test_drivers_know_no_pool(module):
    assert "pools" not in {room(name) for name in ours(module)}


@pytest.mark.parametrize("module", in_room("telemetry"))
def test_telemetry_knows_only_the_events(module):
    assert {room(name) for name in ours(module)} <= {"events", "operations", "pages", "supported", "telemetry"}
    assert outside(module) <= {"opentelemetry"}


_STEPS = ("lifecycle", "leaks", "resets", "switching", "transfer", "verification", "carrying")


@pytest.mark.parametrize("module", in_room(*_STEPS))
def test_the_order_of_steps_knows_no_driver_no_database_and_no_telemetry(module):
    known = ours(module)
    assert not {room(name) for name in known} & {"databases", "telemetry", "instrument", "patching", "options"}
    assert not [name for name in known if name.startswith("drivers.")], "the protocol only, not one driver"
    assert outside(module) == set()


def test_patching_knows_nothing_of_ours():
    assert ours("patching") == set()
    assert outside("patching") == {"wrapt"}


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_nobody_knows_who_knows_everyone(module):
    known = {name for name in ours(module) if name in ("instrument", "") or room(name) in ("doctor", "__main__")}
    assert not known or module in ("instrumentor", "__main__") or room(module) == "doctor"


def test_no_import_cycles():
    TopologicalSorter({module: ours(module) - {module} for module in MODULES}).prepare()  # raises CycleError


@pytest.mark.parametrize("module", MODULES)
def test_names_say_what_is_inside(module):
    words = {word for part in module.split(".") for word in part.strip("_").split("_")}
    assert not words & (FORBIDDEN | {f"{word}s" for word in FORBIDDEN})


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module):
    assert ast.get_docstring(MODULES[module])


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=name_of)
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) < LONGEST


def test_no_driver_is_named_outside_its_room():
    """``if driver == ...`` anywhere else would mean that the rooms are drawn wrong."""
    tests = [node for name in MODULES if room(name) != "drivers" for node in ast.walk(MODULES[name])]
    compared = [ast.unparse(node) for node in tests if isinstance(node, ast.Compare)]
    assert not [text for text in compared if "'psycopg" in text]


def test_dependencies_at_run_time():
    needed = [Requirement(text) for text in requires("instrumented-wrapper") or ()]
    always = {need.name for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})}
    assert "wrapt" in always and "opentelemetry-api" in always
    assert all(name == "wrapt" or name.startswith("opentelemetry-") for name in always)
    assert not always & {"opentelemetry-sdk", "opentelemetry-distro"}, "the app chooses its SDK"


@pytest.mark.parametrize("module", MODULES)
def test_only_declared_packages_are_imported(module):
    driver = module.split(".")[1] if module.startswith(("drivers.", "pools.", "layers.")) else ""
    mine = {driver} | PACKAGES.get(driver, set()) if driver else set()
    assert outside(module) <= {"wrapt", "opentelemetry"} | mine
