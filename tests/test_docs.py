"""The pages name what the code has, in both directions, and every link leads somewhere."""

import ast
import re
import runpy
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeter, NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider

import instrumented_wrapper
from instrumented_wrapper import errors, telemetry
from instrumented_wrapper.options import OPTION_NAMES, Options
from instrumented_wrapper.supported import PoolEntry, driver_entries, driver_names, entries
from instrumented_wrapper.telemetry import attributes, spans

ROOT = Path(__file__).parents[1]
REFERENCE, PICTURES = ROOT / "docs" / "reference", ROOT / "docs" / "pictures"
README, OPTIONS, TELEMETRY, ERRORS, API = (
    path.read_text()
    for path in (ROOT / "README.md", *(REFERENCE / f"{name}.md" for name in ("options", "telemetry", "errors", "api")))
)
MARKDOWN = [
    *ROOT.glob("*.md"),
    *(path for folder in ("docs", "examples", "dashboards") for path in (ROOT / folder).rglob("*.md")),
]
PREFIX = "instrumented_wrapper."


def table(text: str, first: str) -> list[list[str]]:
    """Return the rows of the table whose head begins with `first`."""
    lines = text[text.index(f"\n| {first}") :].strip("\n").splitlines()
    end = lines.index("") if "" in lines else len(lines)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:end]]


def named(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


DRIVERS = {cells[0]: cells for cells in table(README, "driver | database")}


def row(driver: str) -> list[str]:
    return next(cells for first, cells in DRIVERS.items() if f"[`{driver}`]" in first)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_every_driver_has_a_row() -> None:
    in_threads = [entry for entry in entries().values() if isinstance(entry, PoolEntry) and entry.calls]
    assert len(DRIVERS) == len(driver_names()) + len(in_threads)
    assert all(map(row, driver_names()))
    assert f"comma list: `{','.join(driver_names())}`" in OPTIONS


@pytest.mark.parametrize("driver", driver_names())
def test_a_row_says_what_the_code_does(driver: str) -> None:
    try:
        import_module(driver)  # the app's own import comes first, and is what patches
        room = import_module(driver_entries()[driver].room)
    except ImportError as error:
        pytest.skip(f"{driver} is not installed: {error}")
    entry = driver_entries()[driver]
    name, _, version, settings, failover, pools = row(driver)
    assert version == (".".join(map(str, entry.oldest)) or "Python 3.11")
    assert set(room.DRIVER.settings) <= set(named(settings))
    assert (failover == "yes") is entry.has_server
    pooled = (pool for pool in entries().values() if ".pools." in pool.room)
    assert pools == ", ".join(pool.module for pool in pooled if pool.driver == driver)
    (page,) = re.findall(r"\]\((docs/reference/drivers/[\w-]+\.md)\)", name)
    assert (ROOT / page).exists()


def test_every_driver_has_an_example() -> None:
    in_threads = [entry for entry in entries().values() if isinstance(entry, PoolEntry) and entry.calls]
    assert len(list((ROOT / "examples" / "drivers").glob("*_app.py"))) == len(driver_names()) + len(in_threads)


def test_every_option_has_a_row_with_its_default() -> None:
    rows = {
        named(option)[0]: (named(variable)[0], default)
        for variable, option, default, _ in table(OPTIONS, "environment")
    }
    assert sorted(rows) == sorted(OPTION_NAMES)
    assert all(variable == option.upper() for option, (variable, _) in rows.items())
    defaults = {each.name: getattr(Options(), each.name) for each in fields(Options) if each.name in rows}
    for option, (_, default) in rows.items():
        shown = str(defaults[option]).lower() if isinstance(defaults[option], bool) else str(defaults[option])
        shown = "off" if shown == "0.0" or option == "resolve_commits" else shown  # `off` is how to write it
        assert f"`{shown}`" == default or isinstance(defaults[option], tuple), option


def test_the_options_of_the_readme_are_options() -> None:
    rows = table(README, "option | default")
    assert len(rows) == 12
    assert {named(cells[0])[0] for cells in rows} <= set(OPTION_NAMES)


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_variable_of_ours_is_an_option(path: Path) -> None:
    variables = set(re.findall(r"INSTRUMENTED_WRAPPER_([A-Z_]+[A-Z])", path.read_text()))
    assert variables <= {name.upper() for name in OPTION_NAMES} | {"PG_BIN", "MYSQL_BIN"}


def metrics_of_the_code() -> set[str]:
    made = set[str]()

    class Meter(NoOpMeter):
        def create_histogram(self, name: str, *given: Any, **more: Any) -> Any:
            made.add(name)
            return super().create_histogram(name)

        def create_counter(self, name: str, *given: Any, **more: Any) -> Any:
            made.add(name)
            return super().create_counter(name)

        def create_observable_up_down_counter(self, name: str, *given: Any, **more: Any) -> Any:
            made.add(name)
            return super().create_observable_up_down_counter(name)

        def create_observable_gauge(self, name: str, *given: Any, **more: Any) -> Any:
            made.add(name)
            return super().create_observable_gauge(name)

    class Provider(NoOpMeterProvider):
        def get_meter(self, *given: Any, **more: Any) -> Any:
            return Meter("instrumented_wrapper")

    telemetry.listeners("1", NoOpTracerProvider(), Provider())
    telemetry.operations("1", NoOpTracerProvider(), Provider())
    telemetry.session_metrics("1", Provider())
    return made


def test_every_metric_has_a_row_and_every_row_a_metric() -> None:
    names = {name for cells in table(TELEMETRY, "metric | by") for name in named(cells[0])}
    assert names == metrics_of_the_code()


def test_every_span_of_a_session_has_a_row_and_every_row_a_span() -> None:
    assert {named(cells[0])[0] for cells in table(TELEMETRY, "span | when")} == set(spans._NAMES.values())


def attributes_of_the_code() -> set[str]:
    """Return our attributes: what follows the prefix in telemetry/, and what is known when an event begins."""
    found = {"driver"}
    for path in Path(telemetry.__file__).parent.glob("*.py"):
        found |= set(re.findall(r'OURS \+ "([\w.]+)"', path.read_text()))
    tree = ast.parse(Path(attributes.__file__).read_text())
    (start,) = (
        node for node in ast.walk(tree) if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "_START"
    )
    keys = (key for node in ast.walk(start) if isinstance(node, ast.Dict) for key in node.keys)
    return found | {key.value for key in keys if isinstance(key, ast.Constant)} - {
        name.removeprefix(PREFIX) for name in metrics_of_the_code()
    }


def test_every_attribute_has_a_row_and_every_row_an_attribute() -> None:
    rows = {name for cells in table(TELEMETRY, "attribute | values") for name in named(cells[0])}
    assert {name.removeprefix(PREFIX) for name in rows} == attributes_of_the_code() - {"operation"}


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_name_with_our_prefix_is_one_of_the_code(path: Path) -> None:
    if path.name in ("CONTRIBUTING.md", "api.md"):
        pytest.skip("names modules")
    ours = {name.rstrip(".") for name in re.findall(r"(?<![\w/])instrumented_wrapper\.([a-z_.]+)", path.read_text())}
    known = attributes_of_the_code() | {"operation"} | {name.removeprefix(PREFIX) for name in metrics_of_the_code()}
    assert ours <= known | set(dir(instrumented_wrapper)) | {"states"}


def test_every_error_and_each_of_its_attributes_is_there() -> None:
    family = {name for name in instrumented_wrapper.__all__ if name.endswith("Error")}
    assert {named(cells[0])[0] for cells in table(ERRORS, "error | what")} == family - {"FailoverError"}
    rows = {named(cells[0])[0] for cells in table(ERRORS, "attribute of a")}
    assert rows == set(vars(errors.FailoverError)["__annotations__"])


def test_every_public_name_is_in_the_reference_of_the_api() -> None:
    names = set(re.findall(r"^::: \S+\.(\w+)$", API, re.MULTILINE))
    assert names == {name for name in instrumented_wrapper.__all__ if not name.startswith("_")}


def links(path: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    yield from re.findall(r"(?<!`)\]\(([^)\s]+)\)", text)


def anchors(path: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    heads = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", head) for head in re.findall(r"^#+ (.+)$", text, re.MULTILINE))
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    for link in links(path):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file) if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_picture_of_the_architecture_is_that_of_the_imports() -> None:
    drawing = runpy.run_path(str(PICTURES / "architecture.py"))
    groups = {
        path.relative_to(drawing["PACKAGE"]).with_suffix("").parts[0] for path in drawing["PACKAGE"].rglob("*.py")
    }
    assert groups <= set(drawing["GROUP_OF"]), "give each module a group in docs/pictures/architecture.py"
    assert drawing["picture"]() == (PICTURES / "architecture.svg").read_text(), "run docs/pictures/architecture.py"


def test_pictures_are_small() -> None:
    limits = {".png": 150_000, ".svg": 300_000}
    pictures = [path for path in PICTURES.iterdir() if path.suffix in limits]
    assert pictures and all(path.stat().st_size <= limits[path.suffix] for path in pictures)
