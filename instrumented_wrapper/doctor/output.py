"""The doctor's results as tables for a plain terminal, and as JSON. Pure, but for the width of the terminal."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from instrumented_wrapper.doctor.findings import Finding

_VERDICTS: Final = ("all well", "warnings", "something is broken")
_HOST: Final = {
    "host": "name",
    "role": "role",
    "version": "version",
    "round trip (ms)": "round_trip_ms",
    "pooler": "pooler",
}
_SETTING: Final = {"setting": "name", "value": "value", "default": "default", "set by": "source", "carried": "carried"}
_WIDEST: Final = 40  # characters of a column, but of the last one; JSON has the whole
_NARROWEST: Final = 30  # of the last column, whatever the terminal


def as_json(result: Mapping[str, Any]) -> str:
    """Return the result as one JSON object."""
    return json.dumps(result, indent=2)


def as_table(result: Mapping[str, Any], sections: Sequence[tuple[str, Sequence[Finding]]]) -> str:
    """Return the result as tables no wider than the terminal; a section is a title and its findings."""
    lines = [f"instrumented-wrapper {result['version']}, Python {result['python']}"]
    databases = {database["url"]: database for database in result["databases"]}
    for title, findings in sections:
        lines += ["", title]
        if database := databases.get(title):
            lines[-1] += f" with {database['driver'] or 'no driver'}"
            lines += [*_table(_HOST, database["hosts"]), *_table(_SETTING, database["settings"])]
        cells = [[f.level.upper(), f.check if f.about == title else f.about, f.message] for f in findings]
        lines += _rows(cells)
    return "\n".join([*lines, "", f"exit code {result['exit_code']}: {_VERDICTS[result['exit_code']]}"])


def _table(columns: Mapping[str, str], items: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if items:
        yield from _rows([list(columns), *([_cell(item[key]) for key in columns.values()] for item in items)])
        yield ""


def _rows(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [min(max(map(len, column)), _WIDEST) for column in list(zip(*rows, strict=True))[:-1]]
    margin = 2 + sum(width + 2 for width in widths)
    room = max(shutil.get_terminal_size((100, 24)).columns - margin, _NARROWEST)
    for *cells, last in rows:
        start = "".join(f"{cell:{width}}  " for cell, width in zip(cells, widths, strict=True))
        first, *more = textwrap.wrap(last, room) or [""]
        yield f"  {start}{first}".rstrip()
        yield from (f"{'':{margin}}{line}" for line in more)


def _cell(value: object) -> str:
    """Spell one value in printable characters."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    text = str(value)
    text = text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."
    return text if text.isprintable() else text.encode("unicode_escape").decode()
