"""Draw the architecture from the imports of the package: ``python docs/pictures/architecture.py``.

A box is a group of modules, an arrow leads to a group that is imported. An arrow is left out where a way over other
boxes leads to the same. `tests/test_docs.py` compares the picture with the imports, and knows a module without a group.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PICTURE = Path(__file__).with_suffix(".svg")
PACKAGE = Path(__file__).parents[2] / "instrumented_wrapper"
GROUPS = {
    "doctor": ("what is installed, configured, patched", ["doctor", "__main__"]),
    "instrument": (
        "the verbs; OpenTelemetry's entry point",
        ["instrument", "instrumentor", "verification", "__init__", "version"],
    ),
    "pools": ("a checkout, a return", ["pools"]),
    "layers": ("packages over drivers", ["layers"]),
    "telemetry": ("events become spans and metrics", ["telemetry"]),
    "lifecycle": ("change, reset, loss, switch", ["lifecycle", "resets", "leaks", "switching", "transfer", "carrying"]),
    "drivers": ("what is patched; read, set, replace", ["drivers", "owners"]),
    "session": (
        "values, pristine values, plans",
        ["session", "server_settings", "savepoints", "security", "residual_state", "unreported_changes", "drift"],
    ),
    "patching": ("wrapt; runs flows", ["patching", "runners", "self_test"]),
    "databases": ("SQL text, read and written", ["databases"]),
    "failover": ("when, where, how often", ["failover", "single_flight"]),
    "events": ("what happened, as data", ["events", "operations", "pages", "batches"]),
    "plans": ("effects and steps, as data", ["statement", "plans"]),
    "options": ("checked; what is supported", ["options", "supported"]),
    "handlers": ("the app's functions", ["handlers", "states", "snapshot"]),
    "errors": ("what the app may catch", ["errors"]),
}
GROUP_OF = {module: group for group, (_, modules) in GROUPS.items() for module in modules}
WIDTH, HEIGHT, ACROSS, DOWN, MARGIN = 214, 46, 30, 44, 16


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Yield every node but those under ``if TYPE_CHECKING``."""
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from running(child)


def imported(path: Path) -> Iterator[str]:
    """Yield the modules, or folders of modules, of ours that a file imports."""
    for node in running(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE.name:
            parts = str(node.module).split(".")[1:]
            names = parts[:1] or [name.name for name in node.names]
            yield from (
                name for name in names if parts or (PACKAGE / f"{name}.py").exists() or (PACKAGE / name).is_dir()
            )


def arrows() -> dict[str, set[str]]:
    """Return for each group the groups that it imports."""
    found: dict[str, set[str]] = {group: set() for group in GROUPS}
    for path in sorted(PACKAGE.rglob("*.py")):
        group = GROUP_OF[path.relative_to(PACKAGE).with_suffix("").parts[0]]
        found[group] |= {GROUP_OF[module] for module in imported(path)} - {group}
    return found


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Leave out each arrow where a longer way leads to the same."""

    def reached(group: str) -> set[str]:
        return graph[group].union(*(reached(other) for other in graph[group]), set())

    return {group: others - set().union(*map(reached, others)) for group, others in graph.items()}


def rows(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups by the length of the longest way down, the longest first."""

    def depth(group: str) -> int:
        return 1 + max(map(depth, graph[group]), default=-1)

    deepest = max(map(depth, graph))
    return [[group for group in GROUPS if depth(group) == level] for level in range(deepest, -1, -1)]


def picture() -> str:
    """Return the picture as SVG."""
    graph = arrows()
    levels = rows(graph)
    widest = max(map(len, levels))
    width = widest * (WIDTH + ACROSS) - ACROSS + 2 * MARGIN
    height = len(levels) * (HEIGHT + DOWN) - DOWN + 2 * MARGIN
    at = {}
    for level, groups in enumerate(levels):
        left = (width - len(groups) * (WIDTH + ACROSS) + ACROSS) / 2
        for number, group in enumerate(groups):
            at[group] = left + number * (WIDTH + ACROSS), MARGIN + level * (HEIGHT + DOWN)
    lines = [line(at[group], at[other]) for group, others in reduced(graph).items() for other in sorted(others)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0L8 4L0 8z" fill="#888"/></marker></defs>',
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            *lines,
            *(box(group, *place) for group, place in at.items()),
            "</svg>\n",
        ]
    )


def line(above: tuple[float, float], below: tuple[float, float]) -> str:
    """Return an arrow from one box to another one below it."""
    (x, y), (to_x, to_y) = (above[0] + WIDTH / 2, above[1] + HEIGHT), (below[0] + WIDTH / 2, below[1])
    middle = (y + to_y) / 2
    way = f"M{x:g} {y:g}C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}"
    return f'<path d="{way}" fill="none" stroke="#888" marker-end="url(#tip)"/>'


def box(group: str, x: float, y: float) -> str:
    """Return the box of a group."""
    middle = x + WIDTH / 2
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="#eef2fb" stroke="#3b5aa0"/>'
        f'<text x="{middle:g}" y="{y + 19:g}" text-anchor="middle" font-size="14" font-weight="bold">{group}</text>'
        f'<text x="{middle:g}" y="{y + 36:g}" text-anchor="middle" font-size="11">{GROUPS[group][0]}</text>'
    )


if __name__ == "__main__":
    PICTURE.write_text(picture())
